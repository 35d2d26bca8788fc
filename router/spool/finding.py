"""
Finding queue entries for operators: `queue list`, `show`, and the queue verbs that act on a filter.

Answers come in order of arrival and in pages, each read in a short transaction of its own: a list of a million
entries neither fills memory nor holds up a checkpoint (PRC10). Entries that arrive or leave meanwhile may or may not
be seen. Rows that cannot be decoded are listed all the same, by what can be read.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from router.spool.numbering import make_queue_id, message_of, parse_queue_id, recipient_range
from router.spool.reader import Reader, fetch_one
from router.spool.records import decode_wire

_WINDOW = 5000
_COLUMNS = (
    "r.id, r.state, r.lane, r.mailbox, r.due, r.attempts, r.clock_start, r.draining, r.possible_duplicate, r.own,"
    " r.reason, r.address, r.facts, m.received_at, m.size, m.sender, m.message_id"
)


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """
    Which entries are meant; every condition given must hold. `None` is no condition ('' is: the null sender).

    `sender` and `recipient` compare folded addresses, `recipient` with a leading `@` a domain; `reason` is a part of
    the last reply or park reason; `older_than` is a wall-clock time of reception; `after` is the recipient number to
    go on behind.
    """

    queue_id: str | None = None
    mailbox: str | None = None
    lane: str | None = None
    sender: str | None = None
    recipient: str | None = None
    state: str | None = None
    reason: str | None = None
    older_than: float | None = None
    limit: int = 1000
    after: int = 0


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One undelivered recipient as an operator sees it. `number` names it to the queue verbs."""

    number: int
    queue_id: str
    state: str
    recipient: str
    sender: str
    lane: str
    mailbox: str
    received_at: float
    size: int
    due: float
    attempts: int
    clock_start: float
    draining: bool
    possible_duplicate: bool
    own: bool
    reason: str
    message_id: str


def find(reader: Reader, spool: int, wanted: QueueFilter) -> list[QueueEntry]:
    """Entries of the spool that match, in order of arrival, at most `wanted.limit`. Blocks."""
    low, high = wanted.after, 1 << 62
    if wanted.queue_id is not None:
        try:
            number, message = parse_queue_id(wanted.queue_id)
        except ValueError:
            return []
        if number != spool:
            return []
        first, high = recipient_range(message)
        low = max(low, first - 1)
    found: list[QueueEntry] = []
    for start, end in _windows(reader, low, high, indexed=wanted.mailbox is not None):
        rows = reader.call(_select, wanted, start, end, wanted.limit - len(found))
        found.extend(_entry(spool, row) for row in rows)
        if len(found) >= wanted.limit:
            break
    return found


def _windows(reader: Reader, low: int, high: int, *, indexed: bool) -> Iterator[tuple[int, int]]:
    """Ranges (from, to] of recipient numbers with a bounded number of rows; one range where an index narrows it."""
    query = "SELECT id FROM recipients WHERE id > ? AND id <= ? ORDER BY id LIMIT 1 OFFSET ?"
    while not indexed:
        row = reader.call(fetch_one, query, low, high, _WINDOW - 1)
        if row is None:
            break
        yield low, row[0]
        low = row[0]
    yield low, high


def _select(
    connection: sqlite3.Connection, wanted: QueueFilter, low: int, high: int, limit: int
) -> list[tuple[object, ...]]:
    conditions = ["r.id > ?", "r.id <= ?"]
    values: list[object] = [low, high]
    for condition, value in _conditions(wanted):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    query = (
        f"SELECT {_COLUMNS} FROM recipients AS r LEFT JOIN messages AS m ON m.id = r.id >> 16"  # noqa: S608 - ours
        f" WHERE {' AND '.join(conditions)} ORDER BY r.id LIMIT ?"
    )
    return connection.execute(query, (*values, limit)).fetchall()


def _conditions(wanted: QueueFilter) -> Iterator[tuple[str, object]]:
    yield "r.mailbox = ?", wanted.mailbox
    yield "r.lane = ?", wanted.lane
    yield "r.state = ?", wanted.state
    yield "lower(m.sender) = ?", None if wanted.sender is None else wanted.sender.lower()
    if wanted.recipient is not None and wanted.recipient.startswith("@"):
        yield "substr(r.address, instr(r.address, '@')) = ?", wanted.recipient.lower()
    else:
        yield "r.address = ?", None if wanted.recipient is None else wanted.recipient.lower()
    yield "instr(lower(r.reason), ?) > 0", None if wanted.reason is None else wanted.reason.lower()
    yield "m.received_at <= ?", wanted.older_than


def _entry(spool: int, row: tuple[object, ...]) -> QueueEntry:
    number, state, lane, mailbox, due, attempts, clock, draining, duplicate, own, reason, address, facts, *rest = row
    received_at, size, sender, message_id = rest
    assert isinstance(number, int)  # noqa: S101 - the table is STRICT; for the type checker
    return QueueEntry(
        number=number,
        queue_id=make_queue_id(spool, message_of(number)),
        state=str(state),
        recipient=decode_wire(str(facts)) or str(address),
        sender=str(sender or ""),
        lane=str(lane),
        mailbox=str(mailbox),
        received_at=_number(received_at),
        size=int(_number(size)),
        due=_number(due),
        attempts=int(_number(attempts)),
        clock_start=_number(clock),
        draining=bool(draining),
        possible_duplicate=bool(duplicate),
        own=bool(own),
        reason=str(reason),
        message_id=str(message_id or ""),
    )


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0.0
