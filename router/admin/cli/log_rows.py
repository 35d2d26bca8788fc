"""
Reading the delivery history: journal rows of all spools, from their tables and their monthly files.

Guarantees: read-only, beside running workers; memory is bounded by the number of rows asked for. Rows are put in the
order of their times. A row is told once.

On failure: `SpoolUnavailable` for a spool that cannot be read.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from router.admin.cli.queue_select import SpoolPlace
from router.model.address import AddressSyntaxError, parse_address
from router.model.outcome import JournalRow
from router.spool.numbering import parse_queue_id
from router.spool.offline import SpoolView, view

_QUEUED_AS = (
    re.compile(r"\bqueued as ([0-9A-Za-z.\-]{4,64})", re.IGNORECASE),  # Postfix, Sluice, amavis, Haraka
    re.compile(r"\bid=([0-9A-Za-z\-]{6,64})"),  # Exim
    re.compile(r"\b([0-9A-Za-z]{10,20}) Message accepted for delivery", re.IGNORECASE),  # Sendmail
    re.compile(r"\[InternalId=([0-9]+)", re.IGNORECASE),  # Exchange
    re.compile(r"> ([0-9A-Za-z+/]{16,40}:[0-9A-Za-z]{1,8}|[0-9A-Za-z+/]{20,40}) Saved\b"),  # Dovecot LMTP: its session
)

Match = Callable[[JournalRow], bool]


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Which rows. `text` is a queue-id, an address (of a recipient, or a mailbox's own), a Message-ID, or '' for all.

    `since` is a wall-clock time, or 0.
    """

    text: str = ""
    since: float = 0.0

    def match(self) -> Match:
        """The condition for one row."""
        return partial(_after, since=self.since, match=_matcher(self.text))

    def places(self, places: Sequence[SpoolPlace]) -> list[SpoolPlace]:
        """The spools that can have such rows: a queue-id names its own."""
        if not is_queue_id(self.text):
            return list(places)
        number = parse_queue_id(self.text)[0]
        return [place for place in places if place.number == number]


def is_queue_id(text: str) -> bool:
    """Whether it is a queue-id of ours."""
    try:
        parse_queue_id(text)
    except ValueError:
        return False
    return True


def history(places: Sequence[SpoolPlace], wanted: Wanted, limit: int) -> list[JournalRow]:
    """The newest matching rows of all spools, at most `limit`, oldest of them first."""
    found: list[JournalRow] = []
    for place in wanted.places(places):
        with view(place.directory) as opened:
            found += opened.journal.rows(wanted.match(), limit)
    return sorted(found, key=lambda row: row.at)[-limit:]


class Following:
    """Goes on where the last look ended, spool by spool. `look` blocks."""

    def __init__(self, opened: Sequence[SpoolView], wanted: Wanted) -> None:
        self._match = wanted.match()
        self._opened = opened
        self._last = [_last_number(one) for one in opened]

    def before(self, limit: int) -> list[JournalRow]:
        """The newest matching rows that were there when this was made, at most `limit`, by time."""
        found: list[JournalRow] = []
        for opened, last in zip(self._opened, self._last, strict=True):
            found += opened.journal.rows(partial(_until, last=last, match=self._match), limit)
        return sorted(found, key=lambda row: row.at)[-limit:]

    def look(self) -> list[JournalRow]:
        """Matching rows that were written since the last look (or since this was made), by time."""
        found: list[JournalRow] = []
        for place, opened in enumerate(self._opened):
            fresh = rows_after(opened, self._last[place])
            if fresh:
                self._last[place] = fresh[-1].number
            found += filter(self._match, fresh)
        return sorted(found, key=lambda row: row.at)


def rows_after(opened: SpoolView, number: int) -> list[JournalRow]:
    """All rows with higher numbers, in their order; stops reading where the known ones begin."""
    found: list[JournalRow] = []

    def gather(row: JournalRow) -> bool:
        if row.number <= number:
            return True  # one match is all that is asked for: the reading ends here
        found.append(row)
        return False

    opened.journal.rows(gather, 1)
    found.reverse()
    return found


def remote_queue_id(reply: str) -> str:
    """The name that the next hop gave the message, as its reply to the final dot tells it; '' when it does not."""
    for pattern in _QUEUED_AS:
        match = pattern.search(reply)
        if match is not None:
            return match[1].rstrip(".-")
    return ""


def _last_number(opened: SpoolView) -> int:
    return next((row.number for row in opened.journal.rows(lambda _: True, 1)), 0)


def _until(row: JournalRow, last: int, match: Match) -> bool:
    return row.number <= last and match(row)


def _after(row: JournalRow, since: float, match: Match) -> bool:
    return row.at >= since and match(row)


def _matcher(text: str) -> Match:
    if not text:
        return lambda _: True
    if is_queue_id(text):
        return lambda row: row.queue_id == text
    bare = text.removeprefix("<").removesuffix(">")
    key = _key(bare)
    lowered = bare.lower()
    return lambda row: (
        row.mailbox == key
        or row.recipient.lower() == lowered
        or _key(row.recipient) == key
        or row.message_id.removeprefix("<").removesuffix(">") == bare
    )


def _key(text: str) -> str:
    try:
        return parse_address(text).key
    except AddressSyntaxError:
        return text.lower()
