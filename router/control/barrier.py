"""
The barrier: the proof that a hold is in force (barrier.md 3).

Guarantees: evaluated in one transaction, for every open hold whoever opened it. A hold becomes quiet when every
registered member has applied its epoch and runs the configuration in force, and no delivery that names the mailbox
blocks it, towards any store. A member that does not answer is never counted out here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, or_, select, update

from router.control import configuration, hold_records, schema
from router.control.hold_records import InDoubt
from router.control.rows import slices

_H, _T, _B = schema.holds, schema.members, schema.blocking
_PENDING = (_H.c.closed_at.is_(None)) & (_H.c.quiet_at.is_(None))
EVERYBODY = "*"
"""A blocking row with this mailbox blocks every hold."""
_ANY_EPOCH = 2**62
# Built once: each member executes them in its own transactions, for which all others wait.
_ANY_PENDING = select(_H.c.number).where(_PENDING).limit(1)
_OVER = select(_B).where(_B.c.until <= bindparam("now")).limit(1000)
_FINGERPRINT = select(func.min(_T.c.fingerprint))
_STANDING = select(func.count().filter(_T.c.fingerprint != bindparam("wanted")), func.min(_T.c.applied))
_NAMED = select(_B.c.entry).where(or_(_B.c.mailbox == _H.c.mailbox, _B.c.mailbox == EVERYBODY)).exists()
_PASS = (
    update(_H)
    .where(_PENDING, ~_NAMED, _H.c.opened_epoch <= bindparam("oldest"))
    .values(quiet_at=bindparam("quiet_since"))
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that a hold waits for. `slot` and `pid` are None for a member that is gone."""

    cause: str
    """'epoch', 'configuration' or 'delivery'."""
    incarnation: str
    slot: int | None = None
    pid: int | None = None
    queue_id: str = ""
    store: str = ""
    stage: str = ""
    since: float = 0.0
    until: float | None = None

    def __str__(self) -> str:
        who = "a dead worker" if self.pid is None else f"worker {self.slot} (pid {self.pid})"
        if self.cause == "epoch":
            return f"{who} has not applied the hold"
        if self.cause == "configuration":
            return f"{who} runs another configuration"
        what = f"delivery of {self.queue_id} to {self.store}" if self.queue_id else "a delivery"
        return f"{who}: {what}, {self.stage} since {self.since:.0f}"


def pending(connection: Connection) -> bool:
    """Whether any open hold is not quiet yet."""
    return connection.execute(_ANY_PENDING).first() is not None


def evaluate(connection: Connection, now: float) -> int:
    """Set `quiet_at` on every open hold whose barrier has passed; how many. Two cheap statements when there is none."""
    if not pending(connection):
        return 0
    _expire(connection, now)
    others, oldest = connection.execute(_STANDING, {"wanted": _wanted(connection)}).one()
    if others:
        return 0
    until = _ANY_EPOCH if oldest is None else oldest  # None: there is no member
    return connection.execute(_PASS, {"oldest": until, "quiet_since": now}).rowcount


def explain(connection: Connection, number: int) -> Sequence[Waiting]:
    """What an open hold waits for, by name; empty when nothing is in its way."""
    hold = hold_records.get(connection, number)
    wanted = _wanted(connection)
    found = []
    workers = {}
    for row in connection.execute(select(_T)):
        workers[row.incarnation] = row
        if row.applied < hold.hold.opened_epoch:
            found.append(Waiting("epoch", row.incarnation, row.slot, row.pid))
        if row.fingerprint != wanted:
            found.append(Waiting("configuration", row.incarnation, row.slot, row.pid))
    query = select(_B).where(or_(_B.c.mailbox == hold.mailbox, _B.c.mailbox == EVERYBODY)).order_by(_B.c.since)
    found.extend(_delivery(row, workers.get(row.incarnation)) for row in connection.execute(query.limit(100)))
    return found


def _delivery(row: Any, worker: Any) -> Waiting:
    slot, pid = (None, None) if worker is None else (worker.slot, worker.pid)
    return Waiting("delivery", row.incarnation, slot, pid, row.queue_id, row.store, row.stage, row.since, row.until)


def _wanted(connection: Connection) -> str:
    """The configuration in force; while none was published, members must at least agree among themselves."""
    return configuration.current(connection) or str(connection.execute(_FINGERPRINT).scalar())


def record_doubt(connection: Connection, mailbox: str, number: int, doubt: InDoubt) -> None:
    """Write a delivery in doubt into the hold that it blocked (the mailbox's open one when there is a newer)."""
    if mailbox == EVERYBODY:
        # What a dead process had under way is not known by name: it is in doubt for every hold that waited for it.
        pending = select(_H.c.number).where(_H.c.closed_at.is_(None), _H.c.quiet_at.is_(None))
        for waiting in connection.execute(pending).scalars().all():
            hold_records.add_in_doubt(connection, waiting, [doubt])
        return
    query = select(_H.c.number).where(_H.c.mailbox == mailbox, _H.c.closed_at.is_(None))
    current = connection.execute(query).scalar()
    hold_records.add_in_doubt(connection, current or number, [doubt])


def _expire(connection: Connection, now: float) -> None:
    """Suspects of dead members whose time is over stop blocking and enter the record of the hold they blocked."""
    rows = connection.execute(_OVER, {"now": now}).all()
    opened: dict[str, float] = {}
    for run in slices([row.mailbox for row in rows]):
        query = select(_H.c.mailbox, _H.c.opened_at).where(_H.c.closed_at.is_(None), _H.c.mailbox.in_(run))
        opened.update({row.mailbox: row.opened_at for row in connection.execute(query)})
    for row in rows:
        if row.mailbox == EVERYBODY or opened.get(row.mailbox, now) < row.until:
            doubt = InDoubt(row.queue_id, row.message_id, row.store, row.since)
            record_doubt(connection, row.mailbox, 0, doubt)
    for row in rows:
        same = (_B.c.incarnation == row.incarnation) & (_B.c.entry == row.entry) & (_B.c.mailbox == row.mailbox)
        connection.execute(delete(_B).where(same))
