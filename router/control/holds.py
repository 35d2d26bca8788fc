"""
Opening and ending holds: the record of a mailbox's cutover window.

Guarantees: a hold is a row with its own number, opened and closed in one transaction with the MAILBOX change that
members follow. At most one is open per mailbox. Its end restores the status, sets the home that was asked for and
starts the protected time. What a command read is compared before it writes (inv. 28): a hold that somebody else ended
is a `Conflict`, and nothing is changed. Holds opened or ended together share one epoch; each has its own rows, and
what refuses one of them changes nothing of the others.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from router.control import alarms, audit, changes, hold_records, mailboxes, schema, staging, states
from router.control.audit import Act
from router.control.hold_records import InDoubt
from router.control.states import Event, decide, state_of
from router.errors import Conflict, NotFound
from router.model.change import ChangeKind
from router.model.mailbox import LIST, Hold, Mailbox

_H, _M = schema.holds, schema.mailboxes
_OVERDUE = (
    select(_H.c.mailbox).where(_H.c.closed_at.is_(None), _H.c.deadline < bindparam("now")).limit(bindparam("most"))
)
_OPEN = insert(_H)
_CLOSE = (
    update(_H)
    .where(_H.c.number == bindparam("wanted"))
    .values(
        closed_at=bindparam("at"),
        closed_epoch=bindparam("epoch"),
        closed_by=bindparam("by"),
        released_to=bindparam("home"),
    )
)
_FLIP = update(_M).where(_M.c.key == bindparam("wanted")).values(home=bindparam("to"), moved_at=bindparam("at"))
OVERDUE = "hold-overdue"


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
    """Open a hold of the mailbox, or join the open one, as `open_all`. Raises `NotFound`, `Conflict`."""
    found = open_all(connection, [require(connection, key)], act, terms, never=never)[key]
    if isinstance(found, Conflict):
        raise found
    return found


def open_all(
    connection: Connection,
    wanted: Sequence[Mailbox],
    act: Act,
    terms: Terms | None = None,
    *,
    never: Collection[str] = (),
) -> dict[str, Hold | Conflict]:
    """
    Open a hold of each of these mailboxes, as `settled` has just read them, or join the open one.

    `never` are mailboxes that must not be held (the postmaster's). By key: the hold, or why there is none.
    """
    terms = terms or Terms()
    found: dict[str, Hold | Conflict] = {}
    fresh = []
    for mailbox in wanted:
        try:
            joined = _join(mailbox, terms, never)
        except Conflict as error:
            found[mailbox.key] = error
            continue
        if joined is None:
            fresh.append(mailbox)
        else:
            found[mailbox.key] = joined
    return found | _open(connection, fresh, act, terms)


def _join(mailbox: Mailbox, terms: Terms, never: Collection[str]) -> Hold | None:
    """The open hold; None when one may be opened. Raises `Conflict`."""
    if mailbox.key in never:
        raise Conflict(f"{mailbox.key} is the postmaster's mailbox and is never held")
    if mailbox.kind == LIST:
        raise Conflict(f"{mailbox.key} is a list and cannot be held; pause its store instead")
    rule(mailbox, Event.HOLD)
    hold = mailbox.hold
    if hold is not None and terms.target and hold.target and terms.target != hold.target:
        raise Conflict(f"{mailbox.key} is on hold for a move to {hold.target}")
    return hold


def _open(connection: Connection, fresh: Sequence[Mailbox], act: Act, terms: Terms) -> dict[str, Hold]:
    if not fresh:
        return {}
    keys = [mailbox.key for mailbox in fresh]
    epoch = changes.take_epoch(connection)
    changes.record(connection, epoch, ChangeKind.MAILBOX, keys, act.at)
    connection.execute(_OPEN, [_opening(mailbox, epoch, act, terms) for mailbox in fresh])
    opened = mailboxes.open_hold_of(connection, keys)
    facts = [(one.key, _facts(one), {**_facts(one), "hold": opened[one.key].number}) for one in fresh]
    audit.write_all(connection, act, "hold", facts)
    return opened


def _opening(mailbox: Mailbox, epoch: int, act: Act, terms: Terms) -> dict[str, Any]:
    return {
        "mailbox": mailbox.key,
        "opened_at": act.at,
        "opened_epoch": epoch,
        "reason": act.reason,
        "actor": act.actor,
        "batch": terms.batch,
        "deadline": terms.deadline,
        "target": terms.target,
        "origin": terms.origin,
        "home_before": mailbox.home,
        "status_before": mailbox.status.value,
    }


def release(
    connection: Connection, key: str, act: Act, to: str | None = None, *, expected: int | None = None
) -> Released:
    """End the hold, as `release_all`. Raises `NotFound`, `Conflict`."""
    found = release_all(connection, [require(connection, key)], act, to, expected=expected)[key]
    if isinstance(found, Conflict):
        raise found
    return found


def release_all(
    connection: Connection,
    wanted: Sequence[Mailbox],
    act: Act,
    to: str | None = None,
    *,
    expected: int | None = None,
) -> dict[str, Released | Conflict]:
    """
    End the hold of each of these mailboxes, as `settled` has just read them; `to` is the new home, None leaves it.

    `expected` is the number of the hold that must still be open. A mailbox that is not on hold is left alone when it
    has that home already. By key: what was done, or why not.
    """
    found: dict[str, Released | Conflict] = {}
    held: list[tuple[Mailbox, Hold]] = []
    for mailbox in wanted:
        try:
            hold = _releasable(mailbox, to, expected)
        except Conflict as error:
            found[mailbox.key] = error
            continue
        if hold is not None:
            held.append((mailbox, hold))
    free = [one for one in wanted if one.hold is None and one.key not in found]
    last = hold_records.last_epochs(connection, [one.key for one in free])
    found.update({one.key: Released(one.key, 0, last.get(one.key, 0), one.home, one.home) for one in free})
    return found | _close(connection, held, act, to)


def _releasable(mailbox: Mailbox, to: str | None, expected: int | None) -> Hold | None:
    """The hold that is to end; None when there is nothing to do. Raises `Conflict`."""
    hold = mailbox.hold
    if expected is not None and (hold is None or hold.number != expected):
        raise Conflict(f"hold {expected} of {mailbox.key} was ended meanwhile by somebody else")
    if hold is not None:
        rule(mailbox, Event.RELEASE)
    elif to is not None and to != mailbox.home:
        raise Conflict(f"{mailbox.key}: {decide(state_of(mailbox), Event.RELEASE, kept=mailbox.status).conflict}")
    return hold


def _close(
    connection: Connection, held: Sequence[tuple[Mailbox, Hold]], act: Act, to: str | None
) -> dict[str, Released]:
    if not held:
        return {}
    keys = [mailbox.key for mailbox, _ in held]
    homes = {mailbox.key: to or mailbox.home for mailbox, _ in held}
    epoch = changes.take_epoch(connection)
    changes.record(connection, epoch, ChangeKind.MAILBOX, keys, act.at)
    closing = {"at": act.at, "epoch": epoch, "by": act.actor}
    connection.execute(_CLOSE, [{**closing, "wanted": hold.number, "home": homes[one.key]} for one, hold in held])
    connection.execute(_FLIP, [{"wanted": key, "to": homes[key], "at": act.at} for key in keys])
    alarms.clear_all(connection, OVERDUE, keys, act.at)
    facts = [
        (one.key, {**_facts(one), "hold": hold.number}, {**_facts(one), "home": homes[one.key]}) for one, hold in held
    ]
    audit.write_all(connection, act, "release", facts)
    doubts = hold_records.doubts(connection, [hold.number for _, hold in held])
    return {
        one.key: Released(one.key, hold.number, epoch, one.home, homes[one.key], doubts.get(hold.number, ()))
        for one, hold in held
    }


def require(connection: Connection, key: str) -> Mailbox:
    """The mailbox of that key, settled, for a change of it. Raises `NotFound`."""
    found = settled(connection, [key]).get(key)
    if found is None:
        raise missing(key)
    return found


def settled(connection: Connection, keys: Collection[str]) -> dict[str, Mailbox]:
    """Those of the mailboxes that there are, settled, for a change of them."""
    staging.settle(connection, keys)
    return mailboxes.by_key(connection, keys)


def missing(key: str) -> NotFound:
    """What is said of a mailbox that there is none of."""
    return NotFound(f"there is no mailbox {key}")


def rule(mailbox: Mailbox, event: Event, *, force: bool = False) -> states.Decision:
    """What the state machine says; raises `Conflict` when it refuses."""
    decision = decide(state_of(mailbox), event, kept=mailbox.status, force=force)
    if decision.conflict:
        raise Conflict(f"{mailbox.key}: {decision.conflict}")
    return decision


def reopen(connection: Connection, hold: Hold, epoch: int) -> None:
    """Run the barrier of an open hold again from `epoch` (barrier.md 11)."""
    connection.execute(update(_H).where(_H.c.number == hold.number).values(quiet_at=None, opened_epoch=epoch))


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


def _facts(mailbox: Mailbox) -> dict[str, str | None]:
    return {"home": mailbox.home, "status": mailbox.status.value, "hold": None}
