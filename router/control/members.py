"""
Members: the incarnations of workers that follow the changes, and what they owe the barrier.

Guarantees: a member writes its applied epoch and the deliveries that block holds in one transaction (barrier.md 2);
the barrier is evaluated in the same one. Registering replaces the slot's predecessor (barrier.md 9); only who holds
the lock of the slot's spool may call it.

On failure: `Fenced` when the member's row is gone: somebody proved this incarnation dead, so it must stop delivering.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from router.control import barrier, changes, following, mailboxes, schema
from router.control.database import site_uuid
from router.control.hold_records import InDoubt
from router.control.rows import slices
from router.errors import ControlUnavailable
from router.model.change import Blocking, Ended, Snapshot

_T, _B = schema.members, schema.blocking
_ACKNOWLEDGE = update(_T).where(_T.c.incarnation == bindparam("mine")).values(applied=bindparam("done"))
_RECONFIGURE = update(_T).where(_T.c.incarnation == bindparam("mine")).values(fingerprint=bindparam("runs"))
_FORMER = select(_T.c.incarnation).where(
    or_((_T.c.node == bindparam("node")) & (_T.c.slot == bindparam("slot")), _T.c.spool == bindparam("spool"))
)
_ENTER = insert(_T)
_BLOCK = insert(_B)
_ROWS_OF = select(_B).where(_B.c.incarnation == bindparam("mine"), _B.c.entry == bindparam("number"))
_END = delete(_B).where(_B.c.incarnation == bindparam("mine"), _B.c.entry == bindparam("number"))
_END_ONE = delete(_B).where(
    _B.c.incarnation == bindparam("mine"), _B.c.entry == bindparam("number"), _B.c.mailbox == bindparam("blocked")
)
_ALL = select(_T).order_by(_T.c.node, _T.c.slot)
_MARK_KEYS = select(schema.mark_keys.c.secret).order_by(schema.mark_keys.c.number.desc())
SUSPECTS = 5000
"""Suspects of one dead member told by name; beyond, its spool blocks every hold until the time is over."""


class Fenced(ControlUnavailable):
    """The incarnation is no longer registered: it must not deliver any more."""


@dataclass(frozen=True, slots=True)
class Member:
    """A registered incarnation. `spool` is the number of the spool whose lock proves that it lives."""

    incarnation: str
    node: str
    slot: int
    pid: int
    spool: int
    applied: int = 0
    fingerprint: str = ""
    joined_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Suspect:
    """A recipient that was queued in a dead member's spool: perhaps its process had sent it (barrier.md 8)."""

    mailbox: str
    queue_id: str
    message_id: str = ""
    store: str = ""


def register(connection: Connection, member: Member) -> bool:
    """
    Enter the member with nothing applied, in place of the slot's or the spool's former incarnation.

    True when there was one: it did not end cleanly.
    """
    place = {"node": member.node, "slot": member.slot, "spool": member.spool}
    former = list(connection.execute(_FORMER, place).scalars())
    _remove(connection, former)
    values = {
        "incarnation": member.incarnation,
        **place,
        "pid": member.pid,
        "applied": 0,
        "fingerprint": member.fingerprint,
        "joined_at": member.joined_at,
    }
    connection.execute(_ENTER, values)
    return bool(former)


def snapshot(connection: Connection, *, takeover: bool) -> Snapshot:
    """What a member starts from; read it after the registration has committed (barrier.md 5)."""
    keys = connection.execute(_MARK_KEYS).scalars()
    return Snapshot(
        uuid=site_uuid(connection),
        epoch=changes.current_epoch(connection),
        held=frozenset(mailboxes.all_open_holds(connection)),
        paused=changes.paused_stores(connection),
        mark_keys=tuple(bytes(key) for key in keys)[:2],
        takeover=takeover,
        directories=following.states(connection),
    )


def acknowledge(connection: Connection, incarnation: str, epoch: int, rows: Sequence[Blocking], now: float) -> int:
    """Write the applied epoch and the blocking deliveries, evaluate the barrier; holds that became quiet. `Fenced`."""
    if connection.execute(_ACKNOWLEDGE, {"mine": incarnation, "done": epoch}).rowcount == 0:
        raise Fenced("this member is no longer registered")
    _block(connection, incarnation, rows)
    return barrier.evaluate(connection, now)


def adopt(connection: Connection, incarnation: str, spool: int, rows: Sequence[Blocking], now: float) -> bool:
    """
    The member has opened an orphaned spool: its dead owner is counted out, `rows` are what is in doubt there.

    True when that owner had not ended cleanly. The caller holds the spool's lock. Raises `Fenced`.
    """
    if connection.execute(select(_T.c.pid).where(_T.c.incarnation == incarnation)).first() is None:
        raise Fenced("this member is no longer registered")
    orphaned = (_T.c.spool == spool) & (_T.c.incarnation != incarnation)
    former = list(connection.execute(select(_T.c.incarnation).where(orphaned)).scalars())
    _remove(connection, former)
    _block(connection, incarnation, rows)
    barrier.evaluate(connection, now)
    return bool(former)


def _block(connection: Connection, incarnation: str, rows: Sequence[Blocking]) -> None:
    for row in {(row.entry, row.mailbox): row for row in rows}.values():
        connection.execute(_END_ONE, {"mine": incarnation, "number": row.entry, "blocked": row.mailbox})
        values = {
            "incarnation": incarnation,
            "entry": row.entry,
            "mailbox": row.mailbox,
            "hold": row.hold,
            "store": row.store,
            "queue_id": row.queue_id,
            "stage": row.stage,
            "since": row.since,
        }
        connection.execute(_BLOCK, values)


def unblock(connection: Connection, incarnation: str, ended: Sequence[Ended], now: float) -> int:
    """Remove the rows of deliveries that ended; those in doubt enter their hold's record. Evaluates the barrier."""
    for one in ended:
        entry = {"mine": incarnation, "number": one.entry}
        for row in connection.execute(_ROWS_OF, entry).all():
            if one.in_doubt:
                doubt = InDoubt(row.queue_id, one.message_id, row.store, row.since)
                barrier.record_doubt(connection, row.mailbox, row.hold, doubt)
        connection.execute(_END, entry)
    return barrier.evaluate(connection, now)


def reconfigure(connection: Connection, incarnation: str, fingerprint: str, now: float) -> int:
    """The member runs another configuration from now on. Raises `Fenced`."""
    if connection.execute(_RECONFIGURE, {"mine": incarnation, "runs": fingerprint}).rowcount == 0:
        raise Fenced("this member is no longer registered")
    return barrier.evaluate(connection, now)


def unregister(connection: Connection, incarnation: str, now: float) -> int:
    """A clean end: nothing is in flight any more. Evaluates the barrier."""
    _remove(connection, [incarnation])
    return barrier.evaluate(connection, now)


def take_over(connection: Connection, incarnation: str, suspects: Sequence[Suspect], until: float, now: float) -> bool:
    """
    Count a dead member out, with its queued recipients in doubt until then (barrier.md 8).

    Only for who holds the lock of its spool or has seen that lock free. False when it was gone already.
    """
    if connection.execute(select(_T.c.pid).where(_T.c.incarnation == incarnation)).first() is None:
        return False
    _remove(connection, [incarnation])
    if len(suspects) > SUSPECTS:
        suspects = [Suspect(barrier.EVERYBODY, "")]
    rows = [
        {
            "incarnation": incarnation,
            "entry": -number,
            "mailbox": one.mailbox,
            "store": one.store,
            "queue_id": one.queue_id,
            "message_id": one.message_id,
            "stage": "dead",
            "since": now,
            "until": until,
        }
        for number, one in enumerate(suspects, start=1)
    ]
    if rows:
        connection.execute(_BLOCK, rows)
    barrier.evaluate(connection, now)
    return True


def all_members(connection: Connection) -> Sequence[Member]:
    """All registered incarnations by node and slot."""
    return [Member(*row) for row in connection.execute(_ALL)]


def applied_everywhere(connection: Connection, epoch: int) -> bool:
    """Whether every registered member has applied `epoch`."""
    return connection.execute(select(_T.c.pid).where(_T.c.applied < epoch).limit(1)).first() is None


def _remove(connection: Connection, incarnations: Sequence[str]) -> None:
    for run in slices(incarnations):
        # Rows with `until` are suspects of an earlier death: they run out by themselves.
        connection.execute(delete(_B).where(_B.c.incarnation.in_(run), _B.c.until.is_(None)))
        connection.execute(delete(_T).where(_T.c.incarnation.in_(run)))
