"""
Holds as they are written down, open and closed, by their numbers: for history, for commands and for what is in doubt.

Guarantees: reading many is one statement for each slice of them. A damaged record of what is in doubt reads as empty;
it never stops a command.

On failure: `NotFound` for a hold that there is none of.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from router.control import schema
from router.control.mailboxes import hold_of
from router.control.rows import RUN, from_json, in_run, slices, to_json
from router.errors import NotFound
from router.model.mailbox import Hold

_H = schema.holds
_BY_NUMBERS = select(_H).where(in_run(_H.c.number))
_NOTHING = "[]"
_IN_DOUBT = select(_H.c.number, _H.c.in_doubt).where(in_run(_H.c.number), _H.c.in_doubt != _NOTHING)
_PENDING_AMONG = select(_H.c.number).where(in_run(_H.c.number), _H.c.closed_at.is_(None), _H.c.quiet_at.is_(None))
_LAST_EPOCHS = (
    select(_H.c.mailbox, func.max(_H.c.closed_epoch))
    .where(in_run(_H.c.mailbox), _H.c.closed_epoch.is_not(None))
    .group_by(_H.c.mailbox)
)
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


def get(connection: Connection, number: int) -> HoldRecord:
    """A hold by its number. Raises `NotFound`."""
    found = get_all(connection, [number])
    if not found:
        raise NotFound(f"there is no hold {number}")
    return found[number]


def get_all(connection: Connection, numbers: Iterable[int]) -> dict[int, HoldRecord]:
    """The holds of these numbers, as far as there are any."""
    found: dict[int, HoldRecord] = {}
    for run in slices(list(numbers)):
        found.update({row.number: _record(row) for row in connection.execute(_BY_NUMBERS, {RUN: run})})
    return found


def pending_among(connection: Connection, numbers: Sequence[int]) -> list[int]:
    """Those of these holds (one slice) that are open and not quiet yet."""
    return list(connection.execute(_PENDING_AMONG, {RUN: numbers}).scalars())


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


def doubts(connection: Connection, numbers: Sequence[int]) -> dict[int, tuple[InDoubt, ...]]:
    """What is in doubt of these holds, where anything is."""
    found: dict[int, tuple[InDoubt, ...]] = {}
    for run in slices(numbers):
        found.update((row.number, _in_doubt(row.in_doubt)) for row in connection.execute(_IN_DOUBT, {RUN: run}))
    return found


def _in_doubt(text: str) -> tuple[InDoubt, ...]:
    try:
        return tuple(InDoubt(*entry) for entry in json.loads(text)) if text != _NOTHING else ()
    except (ValueError, TypeError):
        return ()


def last_epochs(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    """The epochs at which their holds ended last."""
    found: dict[str, int] = {}
    for run in slices(keys):
        found.update((row[0], row[1]) for row in connection.execute(_LAST_EPOCHS, {RUN: run}))
    return found


def _record(row: Any) -> HoldRecord:
    return HoldRecord(
        row.mailbox,
        hold_of(row, row.target),
        row.home_before,
        row.status_before,
        row.closed_at,
        row.closed_epoch,
        row.closed_by,
        row.released_to,
        _in_doubt(row.in_doubt),
    )
