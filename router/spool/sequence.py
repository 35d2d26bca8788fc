"""
The highest message number ever handed out, kept outside the database.

SQLite ends its log silently at a damaged frame (PRC9): rows that were acknowledged are gone and their numbers would
be handed out again, so that two messages shared a queue-id. This file has two numbers: up to where numbers are
reserved (written and synced before they are used, once in `STEP`), and the last one that a committed message got
(written after the commit, not synced). A database that is behind the second has lost its tail; numbering goes on above
the first in any case.

On failure: `OSError`; what could not be synced is not reserved, and is tried again on a new descriptor (PRC18). An
unreadable file counts as empty.
"""

import os
from pathlib import Path

from router.spool.schema import sync_directory

SEQUENCE = "sequence"
STEP = 4096
_WIDTH = 20


class Sequence:
    """The open file. Methods block; used by the writer's thread only."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / SEQUENCE
        self._descriptor = -1
        self._named = False
        self._open()
        self.reserved, self.committed = self._read()

    def reserve(self, number: int) -> None:
        """Make sure that `number` lies in the reserved range, durably."""
        if number <= self.reserved:
            return
        if self._descriptor < 0:
            self._open()
        try:
            self._write(0, number + STEP)
            os.fsync(self._descriptor)
            if not self._named:
                sync_directory(self._path.parent)
                self._named = True
        except OSError:
            self._close()
            raise
        self.reserved = number + STEP

    def commit(self, number: int) -> None:
        """Note the last number that was committed."""
        if number > self.committed and self._descriptor >= 0:
            self.committed = number
            self._write(1, number)

    def close(self, number: int | None = None) -> None:
        """Close; with `number`, give back what was reserved beyond it (after a clean end)."""
        if self._descriptor < 0:
            return
        if number is not None:
            self._write(0, number)
            os.fsync(self._descriptor)
        self._close()

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _read(self) -> tuple[int, int]:
        lines = os.pread(self._descriptor, 100, 0).split(b"\n")
        values = [int(line) if line.isdigit() else 0 for line in lines[:2]]
        values += [0] * (2 - len(values))
        return values[0], values[1]

    def _write(self, line: int, number: int) -> None:
        os.pwrite(self._descriptor, b"%0*d\n" % (_WIDTH, number), line * (_WIDTH + 1))
