"""
A consistent copy of the control database while it is in use.

Guarantees: the copy appears under its name only when it is complete and durable; it has mode 0600. Restoring is
copying it back while nothing runs: spools notice by uuid and epoch and deliver nothing until it is accepted.

On failure: `ControlUnavailable`; no file is left under the name.
"""

import os
import sqlite3
import time
from pathlib import Path

from router.control import sqlite
from router.control.database import ControlDatabase
from router.errors import ControlUnavailable

_PAGES = 200
"""Pages copied while the source is locked for reading: some milliseconds."""
_PATIENCE = 10.0
"""Seconds. SQLite begins the copy again whenever somebody commits; after this time it is made in one go."""


class _TooManyChanges(Exception):
    """The copy was begun again too often."""


def backup(database: ControlDatabase, target: Path) -> int:
    """Copy the database to `target` (replaced when it exists); its size in octets. SQLite only."""
    if database.path is None:
        raise ControlUnavailable("a PostgreSQL database is backed up with its own tools")
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        sqlite.prepare_file(scratch)
        _copy(database.path, scratch)
        with scratch.open("rb") as stream:
            os.fsync(stream.fileno())
        size = scratch.stat().st_size
        scratch.rename(target)
        sqlite.sync_directory(target.parent)
    except (OSError, sqlite3.Error, ControlUnavailable) as error:
        scratch.unlink(missing_ok=True)
        raise ControlUnavailable(f"the backup failed: {error}") from error
    return size


def _copy(source: Path, target: Path) -> None:
    origin = sqlite.connect(source)
    copy = sqlite3.connect(target, isolation_level=None)
    try:
        _copy_beside_writers(origin, copy)
        verdict = copy.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise ControlUnavailable(f"the copy is damaged: {verdict}")
    finally:
        copy.close()
        origin.close()


def _copy_beside_writers(origin: sqlite3.Connection, copy: sqlite3.Connection) -> None:
    """In small steps that let writers in between, or else at once: some tenths of a second in which none commits."""
    end = time.monotonic() + _PATIENCE

    def look(_status: int, remaining: int, _total: int) -> None:
        if remaining and time.monotonic() >= end:
            raise _TooManyChanges

    try:
        origin.backup(copy, pages=_PAGES, progress=look, sleep=0.005)
    except _TooManyChanges:
        origin.backup(copy, sleep=0.005)
