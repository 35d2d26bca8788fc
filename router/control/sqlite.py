"""
SQLite as the control database: how a connection is opened, and what its error codes mean.

Guarantees: every connection runs with a truncated rollback journal and `synchronous=EXTRA`, both set *and read back*
(the library's defaults lose the last commit at a power cut, and WAL below 3.51.3 can lose commits when several
processes write: PRC1, PRC3, PRC30). Connecting never creates a file. The busy time-out is short; patience belongs to
the callers, who repeat whole transactions.

On failure: `ControlUnavailable`, or `sqlite3.OperationalError` with its own code while connecting.
"""

import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from router.errors import ControlUnavailable

BUSY_SECONDS = 0.2
"""How long one statement waits for a lock. A commit that waits keeps new readers out, so it need not be long."""
_LOOK_SECONDS = 0.002
"""How often a writer looks whether it is its turn: SQLite itself would soon look every 25 ms, and rest as long."""

_WANTED = (("synchronous", "EXTRA", 3), ("foreign_keys", "ON", 1), ("cache_size", "-16384", -16384))
_BUSY_TIMEOUT = f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}"
_BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode (explicit BEGIN only, PRC12) with the settings above."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        _configure(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    mode = connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()[0]
    if mode != "truncate":
        raise ControlUnavailable(f"the control database refuses journal_mode=truncate, it is {mode}")
    # A spilling cache would take the exclusive lock before the commit and shut readers out.
    connection.execute("PRAGMA cache_spill=OFF")
    for name, value, expected in _WANTED:
        connection.execute(f"PRAGMA {name}={value}")
        found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if found != expected:
            raise ControlUnavailable(f"the control database runs with {name}={found}, wanted {expected}")


def begin_write(connection: sqlite3.Connection) -> None:
    """
    BEGIN IMMEDIATE, within `BUSY_SECONDS`, very soon after the other writer has ended.

    Raises `sqlite3.OperationalError` with the code of a busy database after that.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    connection.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(_LOOK_SECONDS)
    finally:
        connection.execute(_BUSY_TIMEOUT)


def is_busy(error: BaseException | None) -> bool:
    """Whether somebody else's lock is the reason, so that repeating the transaction is right (PRC11)."""
    if isinstance(error, sqlite3.Error):
        return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _BUSY_CODES
    state = getattr(error, "sqlstate", None)
    return state in {"40001", "40P01", "55P03"}


def prepare_file(path: Path) -> None:
    """Create an empty database file, mode 0600, in a directory that is made 0700 when it is new (PRC14)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def identity(path: Path) -> tuple[int, int]:
    """Device and inode: two calls differ when another file was put in the database's place. Raises OSError."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino
