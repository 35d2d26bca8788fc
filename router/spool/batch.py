"""
One transaction of the writer: what its operations share, and what takes effect only if the commit returns.

Numbers are handed out from counters in memory (the database's AUTOINCREMENT sequence is carried along), counters of
promise 9 are summed up and written once per transaction, and files are unlinked only after the commit (PRC7). A
batch that is rolled back leaves no trace in memory.

Rows to be inserted, and those of recipients that leave, are collected and written a transaction at a time
(`router.spool.bulk`); whoever asks for the `connection` finds all that was done before it.

A row that contradicts its index, or lies on a damaged page, fails whatever touches it. In a `careful` transaction
each change of a row has a savepoint of its own, and what cannot be changed is passed over and named in `damaged`.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from router.spool import bulk
from router.spool.failures import is_damage
from router.spool.leaving import LEAVING, Leaving
from router.spool.numbering import recipient_range

T = TypeVar("T")

ACCEPTED = "accepted"
OPENED = "opened"
MESSAGES = "messages"
BYTES = "bytes"

Count = tuple[str, str, str, str, int]
"""what, lane, mailbox, batch, own: the key of the table `tally`."""

_ADD = bulk.Insert(
    "INSERT INTO tally (what, lane, mailbox, batch, own, count)",
    "(?, ?, ?, ?, ?, ?)",
    " ON CONFLICT DO UPDATE SET count = count + excluded.count",
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
        "_connection",
        "_counts",
        "_inserts",
        "_leaving",
        "_releases",
        "careful",
        "damaged",
        "numbers",
        "pages",
        "released",
        "shortened",
        "unlink",
    )

    def __init__(
        self, connection: sqlite3.Connection, numbers: Numbers, releases: Releases, *, careful: bool = False
    ) -> None:
        self.careful = careful
        self.damaged: dict[int, str] = {}
        """Recipients that could not be changed, with the reason."""
        self.numbers = Numbers(numbers.message, numbers.journal)
        self.unlink: list[str] = []
        self.released: set[str] = set()
        self.pages = 0
        """Rough number of database pages written: tells the writer when a checkpoint is worth it."""
        self.shortened = False
        """Pages were given back, which only a copied log makes visible."""
        self._connection = connection
        self._inserts: dict[bulk.Insert, list[tuple[object, ...]]] = {}
        self._leaving = Leaving(connection)
        self._counts: dict[Count, int] = {}
        self._releases = releases

    @property
    def connection(self) -> sqlite3.Connection:
        """To look at the tables and to change them: everything done before is in them."""
        self._write_out()
        self._leaving.forget()
        return self._connection

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
        key = (what, lane, mailbox, batch, own)
        self._counts[key] = self._counts.get(key, 0) + by

    def insert(self, what: bulk.Insert, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows that nobody refers to yet; no later than anything else touches the tables."""
        if self.careful:
            bulk.insert(self._connection, what, rows)
        else:
            self._inserts.setdefault(what, []).extend(rows)

    def read_ahead(self, recipients: Sequence[int]) -> None:
        """Read the rows of recipients that are going to leave, all at once; those that are not there, too."""
        if not self.careful and not self._leaving.knows(recipients):
            self._write_out()
            self._leaving.forget()
            self._leaving.read(recipients)

    def take(self, recipient: int) -> tuple[Any, ...] | None:
        """Delete a recipient's row: its columns `LEAVING`, or None if there was no such row."""
        if not self.careful:
            self.read_ahead((recipient,))
            return self._leaving.take(recipient)
        statement = f"DELETE FROM recipients WHERE id = ? RETURNING {LEAVING}"  # noqa: S608 - names of ours
        row: tuple[Any, ...] | None = self._connection.execute(statement, (recipient,)).fetchone()
        return row

    def drop(self, message: int, now: float) -> tuple[bool, tuple[str, int] | None]:
        """
        Delete a message without recipients, unless it is to be kept after `now`: whether no recipient is left, and
        `body_file` and `size` if it was deleted.
        """
        if self._leaving.is_read(message):
            return self._leaving.drop(message, now)
        left = "SELECT 1 FROM recipients WHERE id BETWEEN ? AND ? LIMIT 1"
        if self.connection.execute(left, recipient_range(message)).fetchone() is not None:
            return False, None
        row = self._connection.execute(
            "DELETE FROM messages WHERE id = ? AND (keep_until IS NULL OR keep_until <= ?) RETURNING body_file, size",
            (message, now),
        ).fetchone()
        return True, row

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
        self._connection.execute("SAVEPOINT row")
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._connection.execute("ROLLBACK TO row")
            self.damaged[number] = str(error)
            return otherwise
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE row")

    def released_after(self, mailbox: str, generation: int) -> bool:
        """Whether the mailbox was released later than `generation`, in this transaction or before."""
        return bool(mailbox) and (mailbox in self.released or self._releases.after(mailbox, generation))

    @property
    def generation(self) -> int:
        """How many releases have committed."""
        return self._releases.generation

    def flush(self) -> None:
        """Write what was collected, and the counters; the last thing before COMMIT."""
        self._write_out()
        bulk.insert(self._connection, _ADD, [(*key, by) for key, by in self._counts.items() if by])

    def _write_out(self) -> None:
        if self._inserts:
            inserts, self._inserts = self._inserts, {}
            for what, rows in inserts.items():
                bulk.insert(self._connection, what, rows)
        self._leaving.write_out()
