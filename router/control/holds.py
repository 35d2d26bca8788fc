"""
Opening and ending holds: the record of a mailbox's cutover window.

Guarantees: a hold is a row with its own number, opened and closed in one transaction with the MAILBOX change that
members follow. At most one is open per mailbox. Its end restores the status, sets the home that was asked for and
starts the protected time. What a command read is compared before it writes (inv. 28): a hold that somebody else ended
is a `Conflict`, and nothing is changed.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from router.control import alarms, audit, changes, mailboxes, schema, staging, states
from router.control.audit import Act
from router.control.rows import from_json, to_json
from router.control.states import Event, decide, state_of
from router.errors import Conflict, NotFound
from router.model.change import ChangeKind
from router.model.mailbox import LIST, Hold, Mailbox

_H, _M = schema.holds, schema.mailboxes
_OVERDUE = (
    select(_H.c.mailbox).where(_H.c.closed_at.is_(None), _H.c.deadline < bindparam("now")).limit(bindparam("most"))
)
OVERDUE = "hold-overdue"
IN_DOUBT_KEPT = 1000
"""Entries of one hold's in-doubt record that are kept."""


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A delivery whose connection ended after the final dot without a reply (barrier.md 7)."""

    queue_id: str
    message_id: str
    store: str
    time: float


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """A hold, open or closed, as history and commands show it."""

    mailbox: str
    hold: Hold
    home_before: str
    status_before: str
    closed_at: float | None
    closed_epoch: int | None
    closed_by: str
    released_to: str
    in_doubt: tuple[InDoubt, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What an operator says of a hold. `deadline` is wall-clock seconds; passing it raises an alarm, nothing else."""

    batch: str = ""
    deadline: float | None = None
    target: str = ""
    origin: str = "command"


@dataclass(frozen=True, slots=True)
class Released:
    """A mailbox before and after its release. `epoch` is what members must have applied; `number` 0: no hold."""

    mailbox: str
    number: int
    epoch: int
    home_before: str
    home: str
    in_doubt: tuple[InDoubt, ...] = ()


def open_hold(
    connection: Connection, key: str, act: Act, terms: Terms | None = None, *, never: Collection[str] = ()
) -> Hold:
    """
    Open a hold of the mailbox, or join the open one.

    `never` are mailboxes that must not be held (the postmaster's). Raises `NotFound`, `Conflict`.
    """
    terms = terms or Terms()
    if key in never:
        raise Conflict(f"{key} is the postmaster's mailbox and is never held")
    mailbox = require(connection, key)
    if mailbox.kind == LIST:
        raise Conflict(f"{key} is a list and cannot be held; pause its store instead")
    if mailbox.hold is not None:
        return _join(mailbox, mailbox.hold, terms)
    rule(mailbox, Event.HOLD)
    epoch = changes.take_epoch(connection)
    changes.record(connection, epoch, ChangeKind.MAILBOX, [key], act.at)
    number = connection.execute(
        insert(_H)
        .values(
            mailbox=key,
            opened_at=act.at,
            opened_epoch=epoch,
            reason=act.reason,
            actor=act.actor,
            batch=terms.batch,
            deadline=terms.deadline,
            target=terms.target,
            origin=terms.origin,
            home_before=mailbox.home,
            status_before=mailbox.status.value,
        )
        .returning(_H.c.number)
    ).scalar_one()
    audit.write(connection, act, "hold", key, _facts(mailbox), {**_facts(mailbox), "hold": number})
    return mailboxes.open_hold_of(connection, [key])[key]


def release(
    connection: Connection, key: str, act: Act, to: str | None = None, *, expected: int | None = None
) -> Released:
    """
    End the hold; `to` is the new home, None leaves it. `expected` is the number of the hold that must still be open.

    A mailbox that is not on hold is left alone when it has that home already. Raises `NotFound`, `Conflict`.
    """
    mailbox = require(connection, key)
    hold = mailbox.hold
    if expected is not None and (hold is None or hold.number != expected):
        raise Conflict(f"hold {expected} of {key} was ended meanwhile by somebody else")
    if hold is None:
        if to is not None and to != mailbox.home:
            raise Conflict(f"{key}: {decide(state_of(mailbox), Event.RELEASE, kept=mailbox.status).conflict}")
        return Released(key, 0, _last_epoch(connection, key), mailbox.home, mailbox.home)
    rule(mailbox, Event.RELEASE)
    return _close(connection, mailbox, hold, act, to or mailbox.home)


def _close(connection: Connection, mailbox: Mailbox, hold: Hold, act: Act, home: str) -> Released:
    epoch = changes.take_epoch(connection)
    changes.record(connection, epoch, ChangeKind.MAILBOX, [mailbox.key], act.at)
    closing = {"closed_at": act.at, "closed_epoch": epoch, "closed_by": act.actor, "released_to": home}
    connection.execute(update(_H).where(_H.c.number == hold.number).values(**closing))
    connection.execute(update(_M).where(_M.c.key == mailbox.key).values(home=home, moved_at=act.at))
    alarms.clear_alarm(connection, OVERDUE, mailbox.key, act.at)
    before = {**_facts(mailbox), "hold": hold.number}
    audit.write(connection, act, "release", mailbox.key, before, {**_facts(mailbox), "home": home})
    doubts = get(connection, hold.number).in_doubt
    return Released(mailbox.key, hold.number, epoch, mailbox.home, home, doubts)


def _join(mailbox: Mailbox, hold: Hold, terms: Terms) -> Hold:
    rule(mailbox, Event.HOLD)
    if terms.target and hold.target and terms.target != hold.target:
        raise Conflict(f"{mailbox.key} is on hold for a move to {hold.target}")
    return hold


def require(connection: Connection, key: str) -> Mailbox:
    """The mailbox of that key, settled, for a change of it. Raises `NotFound`."""
    staging.settle(connection, [key])
    found = mailboxes.by_key(connection, [key]).get(key)
    if found is None:
        raise NotFound(f"there is no mailbox {key}")
    return found


def rule(mailbox: Mailbox, event: Event, *, force: bool = False) -> states.Decision:
    """What the state machine says; raises `Conflict` when it refuses."""
    decision = decide(state_of(mailbox), event, kept=mailbox.status, force=force)
    if decision.conflict:
        raise Conflict(f"{mailbox.key}: {decision.conflict}")
    return decision


def reopen(connection: Connection, hold: Hold, epoch: int) -> None:
    """Run the barrier of an open hold again from `epoch` (barrier.md 11)."""
    connection.execute(update(_H).where(_H.c.number == hold.number).values(quiet_at=None, opened_epoch=epoch))


def get(connection: Connection, number: int) -> HoldRecord:
    """A hold by its number. Raises `NotFound`."""
    row = connection.execute(select(_H).where(_H.c.number == number)).first()
    if row is None:
        raise NotFound(f"there is no hold {number}")
    return _record(row)


def history(connection: Connection, key: str, limit: int = 100) -> Sequence[HoldRecord]:
    """All holds of a mailbox, newest first."""
    query = select(_H).where(_H.c.mailbox == key).order_by(_H.c.number.desc()).limit(limit)
    return [_record(row) for row in connection.execute(query)]


def add_in_doubt(connection: Connection, number: int, doubts: Sequence[InDoubt]) -> None:
    """Append to the hold's record; beyond `IN_DOUBT_KEPT` the oldest stay."""
    found = connection.execute(select(_H.c.in_doubt).where(_H.c.number == number)).first()
    if found is None or not doubts:
        return
    listed = list(from_json(found.in_doubt) or [])
    new = [[doubt.queue_id, doubt.message_id, doubt.store, doubt.time] for doubt in doubts]
    listed += [entry for entry in new if entry not in listed]
    connection.execute(update(_H).where(_H.c.number == number).values(in_doubt=to_json(listed[:IN_DOUBT_KEPT])))


def alarm_overdue(connection: Connection, now: float) -> int:
    """Raise one alarm for each open hold past its deadline; returns how many are new. Nothing else happens to them."""
    late = overdue(connection, now)
    for key in late:
        alarms.raise_alarm(connection, OVERDUE, key, "the hold is past its deadline; mail stays held", now)
    return len(late)


def overdue(connection: Connection, now: float, limit: int = 500) -> list[str]:
    """Mailboxes whose open hold is past its deadline and has no alarm yet."""
    late = list(connection.execute(_OVERDUE, {"now": now, "most": limit}).scalars())
    known = alarms.is_open(connection, OVERDUE, late) if late else set()
    return [key for key in late if key not in known]


def _last_epoch(connection: Connection, key: str) -> int:
    query = select(_H.c.closed_epoch).where(_H.c.mailbox == key, _H.c.closed_epoch.is_not(None))
    return int(connection.execute(query.order_by(_H.c.number.desc()).limit(1)).scalar() or 0)


def _facts(mailbox: Mailbox) -> dict[str, str | None]:
    return {"home": mailbox.home, "status": mailbox.status.value, "hold": None}


def _record(row: Any) -> HoldRecord:
    hold = Hold(
        row.number,
        row.opened_at,
        row.opened_epoch,
        row.reason,
        row.actor,
        row.batch,
        row.deadline,
        row.target,
        row.quiet_at,
        row.origin,
    )
    try:
        doubts = tuple(InDoubt(*entry) for entry in json.loads(row.in_doubt))
    except (ValueError, TypeError):
        doubts = ()
    return HoldRecord(
        row.mailbox,
        hold,
        row.home_before,
        row.status_before,
        row.closed_at,
        row.closed_epoch,
        row.closed_by,
        row.released_to,
        doubts,
    )
