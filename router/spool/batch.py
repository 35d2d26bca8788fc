"""
One transaction of the writer: what its operations share, and what takes effect only if the commit returns.

Numbers are handed out from counters in memory (the database's AUTOINCREMENT sequence is carried along), counters of
promise 9 are summed up and written once per transaction, and files are unlinked only after the commit (PRC7). A
batch that is rolled back leaves no trace in memory.

A row that contradicts its index, or lies on a damaged page, fails whatever touches it. In a `careful` transaction
each change of a row has a savepoint of its own, and what cannot be changed is passed over and named in `damaged`.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from router.spool.failures import is_damage

T = TypeVar("T")

ACCEPTED = "accepted"
MESSAGES = "messages"
BYTES = "bytes"

Count = tuple[str, str, str, str, int]
"""what, lane, mailbox, batch, own: the key of the table `tally`."""

_ADD = (
    "INSERT INTO tally (what, lane, mailbox, batch, own, count) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET count = count + excluded.count"
)


@dataclass(slots=True)
class Numbers:
    """Highest numbers handed out so far; never handed out again."""

    message: int = 0
    journal: int = 0


class Releases:
    """
    Which mailboxes were released when, counted in releases (barrier rules 1 and 6).

    A verdict computed before a release must not undo it: a hold noticed before the release ended it would keep the
    recipient for ever, a deferral would make it wait. Counting is immune to clock steps. Bounded: beyond `limit`
    mailboxes everything counts as just released, which costs one more attempt each and loses nothing.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self.generation = 0
        self._released: dict[str, int] = {}
        self._floor = 0
        self._limit = limit

    def note(self, mailboxes: set[str]) -> None:
        """These mailboxes are released as of now."""
        self.generation += 1
        if len(self._released) + len(mailboxes) > self._limit:
            self._released.clear()
            self._floor = self.generation
        self._released.update(dict.fromkeys(mailboxes, self.generation))

    def after(self, mailbox: str, generation: int) -> bool:
        """Whether the mailbox was released after `generation`."""
        return self._released.get(mailbox, self._floor) > generation


class Batch:
    """What operations see of their transaction."""

    __slots__ = (
        "_counts",
        "_releases",
        "careful",
        "connection",
        "damaged",
        "numbers",
        "pages",
        "released",
        "unlink",
    )

    def __init__(
        self, connection: sqlite3.Connection, numbers: Numbers, releases: Releases, *, careful: bool = False
    ) -> None:
        self.connection = connection
        self.careful = careful
        self.damaged: dict[int, str] = {}
        """Recipients that could not be changed, with the reason."""
        self.numbers = Numbers(numbers.message, numbers.journal)
        self.unlink: list[str] = []
        self.released: set[str] = set()
        self.pages = 0
        """Rough number of database pages written: tells the writer when a checkpoint is worth it."""
        self._counts: Counter[Count] = Counter()
        self._releases = releases

    def next_message(self) -> int:
        self.numbers.message += 1
        return self.numbers.message

    def next_journal(self) -> int:
        self.numbers.journal += 1
        return self.numbers.journal

    def count(
        self, what: str, by: int = 1, *, lane: str = "", mailbox: str = "", batch: str = "", own: int = 0
    ) -> None:
        """Add to a counter of the accounts."""
        self._counts[what, lane, mailbox, batch, own] += by

    def change(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Do the statement for each row, the last value of which is a recipient's number; how many were changed."""
        if not self.careful:
            changed = self.connection.executemany(statement, rows).rowcount if rows else 0
        else:
            changed = sum(
                self.guard(row[-1], lambda row=row: self.connection.execute(statement, row).rowcount, 0)  # type: ignore[misc]
                for row in rows
            )
        self.pages += changed
        return changed

    def guard(self, number: int, work: Callable[[], T], otherwise: T) -> T:
        """Do something to one recipient's row; `otherwise` when that row is damaged (in a careful transaction)."""
        if not self.careful:
            return work()
        self.connection.execute("SAVEPOINT row")
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.connection.execute("ROLLBACK TO row")
            self.damaged[number] = str(error)
            return otherwise
        finally:
            if self.connection.in_transaction:
                self.connection.execute("RELEASE row")

    def released_after(self, mailbox: str, generation: int) -> bool:
        """Whether the mailbox was released later than `generation`, in this transaction or before."""
        return bool(mailbox) and (mailbox in self.released or self._releases.after(mailbox, generation))

    def flush(self) -> None:
        """Write the counters; the last thing before COMMIT."""
        rows = [(*key, by) for key, by in self._counts.items() if by]
        if rows:
            self.connection.executemany(_ADD, rows)
