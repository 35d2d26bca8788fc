"""
What a relay says of its mail: the rows of queues and journals as the ledger's checker wants them, and the accounts.

Guarantees: read-only, safe beside a running relay (each answer is one read transaction per spool). Rows of journal
and queue are two reads: while mail moves a recipient may be in both or in neither, so compare when it is quiet.

On failure: `SpoolUnavailable`, or `OSError` when the state directory is gone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Self

from router.ledger.book import CLOSED
from router.ledger.traffic import tag_of
from router.model.outcome import Disposition, JournalRow
from router.spool.accounts import Counts, Totals
from router.spool.finding import QueueEntry, QueueFilter
from router.spool.offline import SpoolView, view

_ALL = 1 << 40
_PAGE = 2000


class Books:
    """All spools of one state directory, opened at the time of construction. Close it; methods block."""

    def __init__(self, state_dir: Path) -> None:
        self._stack = ExitStack()
        root = state_dir / "spool"
        directories = sorted(path for path in root.iterdir() if path.name.isdigit()) if root.is_dir() else []
        with ExitStack() as stack:
            self._views: list[SpoolView] = [stack.enter_context(view(directory)) for directory in directories]
            self._stack = stack.pop_all()

    def journal(self, match: Callable[[JournalRow], bool] = lambda _row: True) -> list[JournalRow]:
        """Every matching row, spool by spool, oldest first."""
        return [row for one in self._views for row in one.journal.rows(match, _ALL)]

    def queue(self, wanted: QueueFilter | None = None) -> list[QueueEntry]:
        """Every undelivered recipient that matches, spool by spool, in order of arrival."""
        return [entry for one in self._views for entry in _entries(one, wanted or QueueFilter())]

    def delivered(self) -> list[tuple[str, str]]:
        """(tag, recipient) of each delivery in the journal, for `Ledger.journal`."""
        rows = self.journal(lambda row: row.disposition == Disposition.DELIVERED.value)
        return [(tag, row.recipient) for row in rows if (tag := tag_of(row.message_id))]

    def kept(self) -> list[tuple[str, str, str]]:
        """(tag, recipient, place) of each recipient that is here, or was closed otherwise, for `Ledger.kept`."""
        closed = [(row.message_id, row.recipient, row.disposition) for row in self.journal(_closed)]
        queued = [(entry.message_id, entry.recipient, entry.state) for entry in self.queue()]
        return [(tag, who, place) for identifier, who, place in (*closed, *queued) if (tag := tag_of(identifier))]

    def counts(self) -> list[Counts]:
        """The accounts of each spool, each in one read transaction."""
        return [one.counts() for one in self._views]

    def totals(self) -> Totals:
        """Clients' mail over all spools."""
        return _sum([counts.mail for counts in self.counts()])

    def unbalanced(self) -> list[str]:
        """The accounts of each spool that do not balance (promise 9); empty is good."""
        found = []
        for one in self._views:
            counts = one.counts(detail=False)
            found += [
                f"spool {one.number:04d}: {name} {totals}"
                for name, totals in (("mail", counts.mail), ("own", counts.own))
                if not totals.balanced
            ]
        return found

    def undelivered(self) -> int:
        """Recipients still in a spool, our own notices included."""
        return sum(_open(counts.mail) + _open(counts.own) for counts in self.counts())

    def drain(self, patience: float) -> int:
        """Wait until nothing is undelivered or the time (seconds) is over; what is left."""
        end = time.monotonic() + patience
        while (left := self.undelivered()) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _closed(row: JournalRow) -> bool:
    return row.disposition in CLOSED


def _open(totals: Totals) -> int:
    return totals.queued + totals.held + totals.parked + totals.quarantined


def _sum(parts: Sequence[Totals]) -> Totals:
    return Totals(*(sum(getattr(part, one.name) for part in parts) for one in fields(Totals)))


def _entries(one: SpoolView, wanted: QueueFilter) -> Iterator[QueueEntry]:
    after = wanted.after
    while True:
        page = one.find(replace(wanted, limit=_PAGE, after=after))
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].number
