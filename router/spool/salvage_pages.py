"""
The pages of a damaged database, with what its log has of them, and the rows of ours that are on them.

Guarantees: read-only, and without SQLite. Of each page the newest version is told from older ones; a row found only on
an older one, on a page that is not in use, or while the log has a damaged frame, is `doubtful`: it may have been
deleted since. What does not match its own checksum is counted and left out.

On failure: `OSError` when the file cannot be read at all.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from router.errors import BodyDamaged
from router.model.envelope import QueuedMessage, QueuedRecipient, RecipientState
from router.spool import wal
from router.spool.journal_rows import parse_line
from router.spool.pages import Row, is_free, rows
from router.spool.records import decode_message, decode_recipient
from router.spool.schema import PAGE_SIZE

_MESSAGE, _RECIPIENT, _JOURNAL, _META = 12, 16, 3, 2
_STATES = frozenset(state.value for state in RecipientState)
_KEPT_PAGES = 512


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a page: where it lies in the database's file or its log."""

    page: int
    in_log: bool
    place: int
    doubtful: bool


@dataclass(frozen=True, slots=True)
class Sighting:
    """A row of ours. `kind` is 'message', 'recipient', 'journal', 'meta' or 'broken'."""

    kind: str
    number: int
    version: Version
    start: int = 0
    """Where in the page: a damaged row may claim the number of another."""
    value: Any = None
    """Of a journal row the row, of a meta row name and value."""


class Pages:
    """Opened for one walk; close it."""

    def __init__(self, database: Path) -> None:
        self._file = database.open("rb")
        self._count = database.stat().st_size // PAGE_SIZE
        log = database.with_name(database.name + wal.SUFFIX)
        has_log = log.exists() and log.stat().st_size >= wal.HEADER + wal.FRAME
        self._log = log.open("rb") if has_log else None
        self._logged: dict[int, list[wal.Frame]] = {}
        self.broken_log = False
        """A frame of the log is damaged: any page may be newer than it looks."""
        if has_log:
            self._read_log(list(wal.frames(log)))
        self._parsed = lru_cache(_KEPT_PAGES)(self._rows)

    def close(self) -> None:
        self._file.close()
        if self._log is not None:
            self._log.close()

    def sightings(self, spool: int) -> Iterator[Sighting]:
        """Every row of ours on every version of every page."""
        for version in self._versions():
            for row in self._parsed(version):
                found = _sighting(spool, version, row)
                if found is not None:
                    yield found

    def message(self, spool: int, seen: Sighting) -> tuple[QueuedMessage, int, object]:
        """A message that was seen, whether it is our own, and the body in its row. Raises `BodyDamaged`."""
        values = self._again(seen)
        return _decode_message(spool, seen.number, values), int(values[3]), values[11]

    def recipient(self, seen: Sighting) -> QueuedRecipient:
        """A recipient that was seen. Raises `BodyDamaged`."""
        return _decode_recipient(seen.number, self._again(seen))

    def _again(self, seen: Sighting) -> tuple[Any, ...]:
        for row in self._parsed(seen.version):
            if row.start == seen.start and row.values is not None:
                return row.values
        raise BodyDamaged(f"{seen.kind} row {seen.number} is not there any more")

    def _read_log(self, frames: list[wal.Frame]) -> None:
        ends = [index for index, frame in enumerate(frames) if frame.commit and frame.follows]
        committed = frames[: ends[-1] + 1] if ends else []
        self.broken_log = any(not frame.sound for frame in committed) or bool(frames and not committed)
        for frame in committed:
            self._logged.setdefault(frame.page, []).append(frame)

    def _versions(self) -> Iterator[Version]:
        for page in range(1, max(self._count, max(self._logged, default=0)) + 1):
            free = is_free(page, self._newest)
            logged = self._logged.get(page, [])
            if page <= self._count:
                yield Version(page, False, (page - 1) * PAGE_SIZE, bool(logged) or free or self.broken_log)
            for frame in logged:
                doubtful = frame is not logged[-1] or not frame.follows or free or self.broken_log
                yield Version(page, True, frame.place, doubtful)

    def _rows(self, version: Version) -> list[Row]:
        return list(rows(self._read(version.in_log, version.place), self._newest, first=version.page == 1))

    def _newest(self, page: int) -> bytes | None:
        logged = self._logged.get(page)
        if logged:
            return self._read(True, logged[-1].place)
        return self._read(False, (page - 1) * PAGE_SIZE) if 0 < page <= self._count else None

    def _read(self, in_log: bool, place: int) -> bytes:
        file = self._log if in_log else self._file
        if file is None:
            return b""
        file.seek(place)
        return file.read(PAGE_SIZE)


def _sighting(spool: int, version: Version, row: Row) -> Sighting | None:
    values = row.values or ()
    found = None
    try:
        if len(values) == _MESSAGE:
            _decode_message(spool, row.number, values)
            found = Sighting("message", row.number, version, row.start)
        elif len(values) == _RECIPIENT:
            _decode_recipient(row.number, values)
            found = Sighting("recipient", row.number, version, row.start)
        elif len(values) == _JOURNAL:
            found = _journal(version, row)
        elif len(values) == _META and all(isinstance(value, str) for value in values):
            found = Sighting("meta", 0, version, value=values)
    except BodyDamaged as error:
        return Sighting("broken", row.number, version, value=str(error))
    return found


def _journal(version: Version, row: Row) -> Sighting | None:
    line = row.values[2] if row.values is not None else None
    if not isinstance(line, str):
        return None
    try:
        return Sighting("journal", row.number, version, value=parse_line(line))
    except (ValueError, TypeError):
        return None


def _decode_message(spool: int, number: int, values: tuple[Any, ...]) -> QueuedMessage:
    _, received_at, size, own, _, _, _, facts, file, digest, crc, _ = values
    # SQLite keeps a whole number of a REAL column as an integer.
    at = float(received_at) if isinstance(received_at, int) else received_at
    return decode_message(spool, 0, (number, at, size, own, facts, file, digest, crc))


def _decode_recipient(number: int, values: tuple[Any, ...]) -> QueuedRecipient:
    """What its checksum covers must be right; what the next dispatch derives anew need only make sense."""
    _, state, lane, mailbox, due, attempts, clock, _, _, duplicate, notified, own, reason, _, facts, crc = values
    row = (
        number,
        state if state in _STATES else RecipientState.QUEUED.value,
        _text(lane),
        _text(mailbox),
        _time(due),
        attempts if isinstance(attempts, int) and attempts >= 0 else 0,
        _time(clock),
        None,
        0,
        bool(duplicate),
        bool(notified),
        own,
        _text(reason),
        facts,
        crc,
    )
    return decode_recipient(row)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
