"""
The write-ahead log as it lies on the disk: where SQLite ends it, and whether that is its end.

SQLite reads a log up to the first frame that does not match its checksum and says nothing (PRC9). After a power cut
that is right: the last transaction was not synced, and any of its frames may be missing. But each COMMIT syncs before
the next one writes, so a frame behind a *later* commit proves that the bad one was on the disk once: then the log is
damaged, and transactions that were acknowledged lie behind the bad frame.

A frame's checksum goes on from the one before, which that frame's header tells; so frames behind a bad one can be
verified all the same. Frames left over from before the log began anew have another salt.

Guarantees: reads only, one frame in memory, and must run before SQLite opens the database for writing: the next commit
would overwrite what is behind the bad frame. On failure: `OSError`.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import sqlite3
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import byteorder

from router.spool.schema import PAGE_SIZE

HEADER = 32
FRAME_HEADER = 24
_FILE_HEADER = 100
FRAME = FRAME_HEADER + PAGE_SIZE
SUFFIX = "-wal"
_MAGIC = 0x377F0682
_MASK = 0xFFFFFFFF

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the present salt. `place` is that of its page in the file; `commit`: a transaction ends with it."""

    page: int
    place: int
    commit: bool
    follows: bool
    """Its checksum is right, counted from what the frame before it tells."""
    sound: bool
    """So are those of all before it: SQLite reads it."""


def damage(database: Path) -> str:
    """What is wrong with the log of a database that nobody has open; '' for a sound, torn or missing one."""
    path = database.with_name(database.name + SUFFIX)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return ""
    if size < HEADER + FRAME:
        return ""
    with path.open("rb") as file:
        header = file.read(HEADER)
        # Zeros: the file had its length already, and nothing of it was synced yet.
        if _order(header) is None and any(header):
            return f"{path}: the head of the log is damaged, with {(size - HEADER) // FRAME} frames behind it"
    return _verdict(path, list(frames(path)))


def cut_off(database: Path) -> str:
    """Whether a database without a log is shorter than it says; '' if not, or if it does not say."""
    path = database.with_name(database.name + SUFFIX)
    if path.exists() and path.stat().st_size:
        return ""  # a checkpoint that was interrupted: the log has what the file lacks
    with database.open("rb") as file:
        header = file.read(_FILE_HEADER)
    size = database.stat().st_size
    if len(header) < _FILE_HEADER or not header.startswith(b"SQLite format 3\0"):
        return ""
    (pages,) = struct.unpack_from(">I", header, 28)
    return f"{database}: {size} octets are there of {pages} pages" if size < pages * PAGE_SIZE else ""


def frames(path: Path) -> Iterator[Frame]:
    """All frames with the salt of the log's head, in their order; of a damaged head, with that of the first frame."""
    with path.open("rb") as file:
        header = file.read(HEADER)
        head = file.read(FRAME_HEADER)
        order = _order(header)
        salt = header[16:24] if order else head[8:16]
        little = order == "little" if order else struct.unpack_from(">I", header)[0] == _MAGIC
        told: Sums = struct.unpack_from(">II", header, 24)
        sound, place = order is not None, HEADER
        file.seek(HEADER)
        while len(raw := file.read(FRAME)) == FRAME:
            page, length = struct.unpack_from(">II", raw)
            mine: Sums = struct.unpack_from(">II", raw, 16)
            ours = raw[8:16] == salt
            follows = ours and _sums(raw[:8] + raw[FRAME_HEADER:], told, little=little) == mine
            sound = sound and follows
            if ours:
                yield Frame(page, place + FRAME_HEADER, bool(length), follows, sound)
            told, place = mine, place + FRAME


def _verdict(path: Path, found: list[Frame]) -> str:
    """Whether a commit, and something behind it, follow the first frame that SQLite does not read."""
    bad = next((index for index, frame in enumerate(found) if not frame.sound), len(found))
    for frame, behind in zip(found[bad:], found[bad + 1 :], strict=False):
        adjoining = behind.place == frame.place + FRAME
        # The checksum of the frame behind goes on from this one's: this one's head is as it was written.
        if frame.commit and behind.follows and adjoining:
            lost = sum(frame.commit for frame in found[bad:])
            return f"{path}: frame {bad + 1} of the log is damaged, with {lost} committed transactions from there on"
    return ""


def _order(header: bytes) -> str | None:
    """Order of octets of the checksums that a sound head tells; None for a damaged one."""
    (magic,) = struct.unpack_from(">I", header)
    if magic & ~1 != _MAGIC or struct.unpack_from(">I", header, 8)[0] != PAGE_SIZE:
        return None
    little = magic == _MAGIC
    told = struct.unpack_from(">II", header, 24)
    return ("little" if little else "big") if _sums(header[:24], (0, 0), little=little) == told else None


def _sums(data: bytes, before: Sums, *, little: bool) -> Sums:
    words = array("I", data)
    if little != (byteorder == "little"):
        words.byteswap()
    first, second = before
    pairs = iter(words)
    for even, odd in zip(pairs, pairs, strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second


def pages_of(connection: sqlite3.Connection) -> int:
    """Pages in the log of the database that is open here, whether they are in the database already or not."""
    (name,) = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    try:
        return Path(f"{name}{SUFFIX}").stat().st_size // FRAME
    except OSError:
        return 0
