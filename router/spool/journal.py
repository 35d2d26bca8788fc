"""
The journal: rows move from the table to monthly files, and are read back from both.

`journal/YYYY-MM.jsonl` (UTC) has one row a line, in the order of their numbers. A batch is appended and fsynced
before its rows are deleted, and rows that are in the file already are not appended again, so a crash at any point
loses and doubles nothing; a torn last line is cut off. The accounts do not depend on it: they are counted in the
database when the row is written.

On failure: `OSError` while moving (the rows stay in the table, and the next move tries again); unreadable lines are
skipped when reading.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from router.model.outcome import JournalRow
from router.spool.journal_rows import parse_line
from router.spool.reader import Reader, fetch_all
from router.spool.schema import sync_directory

_FILE = re.compile(r"[0-9]{4,}-[0-9]{2}\.jsonl")
_BLOCK = 64 * 1024
_PAGE = 1000

Row = tuple[int, float, str]
"""Number, time and line of a row in the table."""


def append_rows(directory: Path, rows: Sequence[Row]) -> None:
    """Append rows (in the order of their numbers) to their months and sync; those already there are passed over."""
    months: dict[str, list[Row]] = {}
    for row in rows:
        months.setdefault(month_of(row[1]), []).append(row)
    for month, part in months.items():
        _append(directory / f"{month}.jsonl", part)


def month_of(at: float) -> str:
    """The month of a time, `YYYY-MM` in UTC; an impossible time goes to 1970-01 rather than nowhere."""
    try:
        return _month_of_hour(int(at // 3600))
    except (OverflowError, ValueError, OSError):
        return "1970-01"


@lru_cache(maxsize=16)
def _month_of_hour(hour: int) -> str:
    return time.strftime("%Y-%m", time.gmtime(hour * 3600))


def last_number(directory: Path) -> int:
    """Highest number in the files; 0 when there is none."""
    numbers = [_last_number(path) for path in _files(directory)]
    return max(numbers, default=0)


def unmoved(reader: Reader, limit: int) -> list[Row]:
    """The oldest rows still in the table."""
    query = "SELECT id, at, line FROM journal ORDER BY id LIMIT ?"
    return reader.call(fetch_all, query, limit)


def rows_in_files(directory: Path) -> Iterator[JournalRow]:
    """Every readable row of the monthly files, month by month in their order. Raises `OSError`."""
    for path in _files(directory):
        with path.open("rb") as file:
            for raw in file:
                row = _parse(raw)
                if row is not None:
                    yield row


class SpoolJournal:
    """Reads one spool's journal (`Journal`). Blocks; memory is bounded by `limit` and one block."""

    def __init__(self, directory: Path, reader: Reader) -> None:
        self._directory = directory
        self._reader = reader

    def rows(self, match: Callable[[JournalRow], bool], limit: int) -> list[JournalRow]:
        """The newest matching rows, at most `limit`, oldest of them first."""
        found = list(islice((row for row in self._newest_first() if match(row)), limit))
        found.reverse()
        return found

    def _newest_first(self) -> Iterator[JournalRow]:
        """The table first: what moves meanwhile, or is in both places, is known by its number and told once."""
        oldest = None
        for line in self._table_lines():
            row = _parse(line)
            if row is not None:
                oldest = row.number
                yield row
        for path in reversed(_files(self._directory)):
            for raw in _lines_backwards(path):
                row = _parse(raw)
                if row is not None and (oldest is None or row.number < oldest):
                    yield row

    def _table_lines(self) -> Iterator[str]:
        before = 1 << 62
        query = "SELECT id, line FROM journal WHERE id < ? ORDER BY id DESC LIMIT ?"
        while True:
            page: list[tuple[int, str]] = self._reader.call(fetch_all, query, before, _PAGE)
            for number, line in page:
                before = number
                yield line
            if len(page) < _PAGE:
                return


def _append(path: Path, rows: Sequence[Row]) -> None:
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        end = _cut_torn_line(descriptor)
        known = _last_number(path) if end else 0
        data = b"".join(line.encode("ascii", "backslashreplace") + b"\n" for number, _, line in rows if number > known)
        while data:
            written = os.pwrite(descriptor, data, end)
            data, end = data[written:], end + written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_directory(path.parent)


def _cut_torn_line(descriptor: int) -> int:
    """Cut what a crash left after the last line end; the file's length."""
    size = end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end


def _last_number(path: Path) -> int:
    for line in _lines_backwards(path):
        row = _parse(line)
        if row is not None:
            return row.number
    return 0


def _files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _FILE.fullmatch(path.name))


def _lines_backwards(path: Path) -> Iterable[bytes]:
    """Complete lines of a file, last one first; a torn last line is left out."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        tail = b""
        torn = True
        while position:
            start = max(0, position - _BLOCK)
            file.seek(start)
            parts = (file.read(position - start) + tail).split(b"\n")
            position, tail = start, parts[0]
            for line in reversed(parts[1:]):
                if not torn and line:
                    yield line
                torn = False
        if tail and not torn:
            yield tail


def _parse(line: str | bytes) -> JournalRow | None:
    try:
        return parse_line(line)
    except (ValueError, TypeError):
        return None
