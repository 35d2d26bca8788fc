"""
A spool from outside its worker: reading while somebody else owns it, or becoming its owner when nobody does.

Guarantees: `SpoolView` opens the database read-only and writes nothing, so it is safe beside a running worker
(PRC3). `as_owner` takes the spool's lock first and gives it up at the end.

On failure: `SpoolUnavailable` when there is no readable spool, `SpoolLocked` when a worker owns it.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from router.errors import BodyDamaged, SpoolUnavailable
from router.model.envelope import QueuedMessage
from router.spool import accounts
from router.spool import reader as queries
from router.spool.accounts import Counts, Stats
from router.spool.bodies import BODIES, verify_inline
from router.spool.finding import QueueEntry, QueueFilter, find
from router.spool.journal import SpoolJournal
from router.spool.numbering import message_of
from router.spool.options import SpoolOptions
from router.spool.place import JOURNAL
from router.spool.reader import Reader, fetch_all, fetch_one
from router.spool.records import MESSAGE_COLUMNS, RECIPIENT_COLUMNS, decode_message, decode_recipient
from router.spool.schema import DATABASE
from router.spool.spool import Spool

_PAGE = 500


@dataclass(frozen=True, slots=True)
class DamageReport:
    """What an examination found; empty lists mean a sound spool."""

    database: tuple[str, ...]
    """SQLite's own integrity check."""
    rows: tuple[str, ...]
    bodies: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not (self.database or self.rows or self.bodies)


class SpoolView:
    """Read-only view of one spool; methods block. Close it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reader = Reader(directory / DATABASE, 0, threads=1)
        try:
            self.number = int(self._reader.call(queries.meta)["number"])
        except (KeyError, ValueError) as error:
            self._reader.close()
            raise SpoolUnavailable(f"{directory}: the spool does not know its number") from error
        except BaseException:
            self._reader.close()
            raise
        self.journal = SpoolJournal(directory / JOURNAL, self._reader)

    def find(self, wanted: QueueFilter) -> list[QueueEntry]:
        """See `Desk.find`."""
        return find(self._reader, self.number, wanted)

    def counts(self, *, detail: bool = True) -> Counts:
        """See `Desk.counts`."""
        return self._reader.call(accounts.counts, detail=detail)

    def stats(self) -> Stats:
        """See `Desk.stats`."""
        return self._reader.call(accounts.stats)

    def remembered(self) -> tuple[str, int]:
        """See `Spool.remembered`."""
        stored = self._reader.call(queries.meta)
        return stored.get("uuid", ""), int(stored.get("epoch", "0"))

    def message(self, number: int) -> QueuedMessage | None:
        """A message by number; None when it is not here. Raises `BodyDamaged`."""
        query = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE id = ?"  # noqa: S608 - columns are ours
        row = self._reader.call(fetch_one, query, number)
        return None if row is None else decode_message(self.number, 0, row)

    def body(self, message: QueuedMessage) -> bytes:
        """The whole body, verified, in memory (`queue cat`). Raises `BodyDamaged`."""
        if not message.body_file:
            return verify_inline(message, self._reader.call(queries.inline_body, message.number))
        path = self._directory / BODIES / message.body_file
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                return verify_inline(message, file.read(message.size + 1))
        except OSError as error:
            raise BodyDamaged(f"{message.queue_id}: {error.strerror}") from error

    def examine(self) -> DamageReport:
        """Check the whole spool: pages, rows and bodies. Takes as long as reading all of it."""
        database = [text for (text,) in self._reader.call(fetch_all, "PRAGMA integrity_check") if text != "ok"]
        rows, bodies = list(self._bad_recipients()), []
        for row in self._pages("messages", MESSAGE_COLUMNS):
            try:
                message = decode_message(self.number, 0, row)
            except BodyDamaged as error:
                rows.append(str(error))
                continue
            try:
                self._examine_body(message)
            except BodyDamaged as error:
                bodies.append(str(error))
        return DamageReport(tuple(database), tuple(rows), tuple(bodies))

    def close(self) -> None:
        self._reader.close()

    def _bad_recipients(self) -> Iterator[str]:
        query = "SELECT 1 FROM messages WHERE id = ?"
        for row in self._pages("recipients", RECIPIENT_COLUMNS):
            number = row[0]
            try:
                decode_recipient(row)
            except BodyDamaged as error:
                yield str(error)
            if self._reader.call(fetch_one, query, message_of(int(str(number)))) is None:
                yield f"recipient row {number} has no message"

    def _examine_body(self, message: QueuedMessage) -> None:
        if not message.body_file:
            self.body(message)
            return
        digest = hashlib.sha256()
        path = self._directory / BODIES / message.body_file
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                while block := file.read(1 << 18):
                    digest.update(block)
        except OSError as error:
            raise BodyDamaged(f"{message.queue_id}: {error.strerror}") from error
        if digest.digest() != message.digest:
            raise BodyDamaged(f"{message.queue_id}: the body does not match its checksum")

    def _pages(self, table: str, columns: str) -> Iterator[tuple[object, ...]]:
        """All rows of a table, in short read transactions."""
        query = f"SELECT {columns} FROM {table} WHERE id > ? ORDER BY id LIMIT {_PAGE}"  # noqa: S608 - names are ours
        last = 0
        while True:
            page = self._reader.call(fetch_all, query, last)
            for row in page:
                last = row[0]
                yield row
            if len(page) < _PAGE:
                return


@contextmanager
def view(directory: Path) -> Iterator[SpoolView]:
    """A `SpoolView`, closed at the end."""
    opened = SpoolView(directory)
    try:
        yield opened
    finally:
        opened.close()


@asynccontextmanager
async def as_owner(directory: Path, number: int, options: SpoolOptions | None = None) -> AsyncIterator[Spool]:
    """The spool as its owner, while no worker runs; `SpoolLocked` if one does."""
    spool = await Spool.open(directory, number, options=options)
    try:
        yield spool
    finally:
        await spool.close()
