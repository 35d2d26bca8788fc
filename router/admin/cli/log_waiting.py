"""
What a history ends with: the recipients that are still in the queue, with the last reply they got.

The journal has what became final or was set aside; a deferral is told by the queue itself, where only the last one is
kept. Guarantees: reads only, and at most `limit` entries. On failure: `SpoolUnavailable`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from router.admin.cli.log_rows import Wanted, is_queue_id
from router.admin.cli.output import moment
from router.admin.cli.queue_select import Selection, SpoolPlace, entries
from router.model.address import AddressSyntaxError, parse_address
from router.model.outcome import JournalRow
from router.spool.finding import QueueEntry, QueueFilter
from router.spool.offline import SpoolView, view


def waiting(places: Sequence[SpoolPlace], wanted: Wanted, now: float, limit: int) -> list[JournalRow]:
    """Undelivered recipients of that name as rows without a number, in order of arrival; none for an empty name."""
    found: list[JournalRow] = []
    for place in wanted.places(places) if wanted.text else ():
        with view(place.directory) as opened:
            found += [_row(entry, now) for entry in islice(_entries(opened, wanted.text), limit)]
    return found[:limit]


def _entries(opened: SpoolView, text: str) -> Iterator[QueueEntry]:
    if is_queue_id(text):
        yield from entries(opened, Selection(ids=(text,)))
        return
    if text.startswith("<"):
        yield from (entry for entry in entries(opened, Selection()) if entry.message_id == text)
        return
    key = _key(text)
    yield from entries(opened, Selection(QueueFilter(mailbox=key)))
    others = entries(opened, Selection(QueueFilter(recipient=key)))
    yield from (entry for entry in others if entry.mailbox != key)


def _row(entry: QueueEntry, now: float) -> JournalRow:
    row = JournalRow(
        number=0,
        at=now,
        queue_id=entry.queue_id,
        recipient=entry.recipient,
        disposition=entry.state,
        lane=entry.lane,
        mailbox=entry.mailbox,
        sender=entry.sender,
        size=entry.size,
        received_at=entry.received_at,
        attempts=entry.attempts,
        reply=entry.reason,
        remote="none",
        message_id=entry.message_id,
        note="still in the queue",
    )
    return row if entry.state != "queued" else replace(row, note=f"still in the queue, next try {moment(entry.due)}")


def _key(text: str) -> str:
    try:
        return parse_address(text).key
    except AddressSyntaxError:
        return text.lower()
