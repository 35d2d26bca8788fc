"""
The spool's database: its tables, the settings fixed at creation, and how connections to it are opened.

Guarantees: every connection has `journal_mode=WAL` and `synchronous=FULL`, set and read back (PRC1, PRC2, PRC30);
a commit that returned survives a power cut on a disk that honours flushes. Only the writer's connection can write
or checkpoint, all others are opened read-only (PRC3). A database of a later schema version is refused and left
exactly as it is.

On failure: `SpoolUnavailable`, with the reason for the log.

Decisions kept in the file: `page_size` 4096 (fastest of 4, 8 and 16 KiB for 5 KB messages, and the unit that ext4
and NVMe write); `auto_vacuum` INCREMENTAL (cannot be changed later without a full VACUUM, costs one pointer page in
a thousand, and lets the file be shortened a little at a time: freed pages are reused, and given back only while the
disk is short, PRC13, ADR 9); `secure_delete` off (Debian's build zeroes freed pages by default, which doubles the
writing).
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from router.errors import SpoolDamaged, SpoolUnavailable
from router.spool.failures import is_ruin

SCHEMA_VERSION = 1
APPLICATION_ID = 0x534C5543
PAGE_SIZE = 4096
_INCREMENTAL = 2
_FULL = 2
DATABASE = "queue.db"

# The highest place given out in each message of which a recipient was forwarded. Added later: a spool without it gets
# it when it is opened, and a former version does not mind it.
_EXPANDED = """CREATE TABLE IF NOT EXISTS expanded (
        message INTEGER PRIMARY KEY,
        last INTEGER NOT NULL
    ) STRICT"""
_TABLES = (
    """CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        received_at REAL NOT NULL,
        size INTEGER NOT NULL,
        own INTEGER NOT NULL,
        keep_until REAL,
        sender TEXT NOT NULL,
        message_id TEXT NOT NULL,
        facts TEXT NOT NULL,
        body_file TEXT NOT NULL,
        digest BLOB NOT NULL,
        crc INTEGER NOT NULL,
        body BLOB
    ) STRICT""",
    "CREATE INDEX messages_file ON messages (body_file) WHERE body_file <> ''",
    "CREATE INDEX messages_kept ON messages (keep_until) WHERE keep_until IS NOT NULL",
    """CREATE TABLE recipients (
        id INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        lane TEXT NOT NULL,
        mailbox TEXT NOT NULL,
        due REAL NOT NULL,
        attempts INTEGER NOT NULL,
        clock_start REAL NOT NULL,
        unknown_since REAL,
        draining INTEGER NOT NULL,
        possible_duplicate INTEGER NOT NULL,
        delay_notified INTEGER NOT NULL,
        own INTEGER NOT NULL,
        reason TEXT NOT NULL,
        address TEXT NOT NULL,
        facts TEXT NOT NULL,
        crc INTEGER NOT NULL
    ) STRICT""",
    # state and draining are in it so that it covers the queries whose condition they are; the rows behind it are
    # compared with it when they are read.
    """CREATE INDEX recipients_due ON recipients (lane, due, id, state, draining)
        WHERE state = 'queued' AND draining = 0""",
    "CREATE INDEX recipients_draining ON recipients (mailbox, draining) WHERE draining = 1",
    "CREATE INDEX recipients_mailbox ON recipients (state, mailbox)",
    "CREATE INDEX recipients_own ON recipients (state) WHERE own = 1",
    """CREATE TABLE journal (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        line TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE tally (
        what TEXT NOT NULL,
        lane TEXT NOT NULL,
        mailbox TEXT NOT NULL,
        batch TEXT NOT NULL,
        own INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (what, lane, mailbox, batch, own)
    ) STRICT, WITHOUT ROWID""",
    _EXPANDED,
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
)


def create(path: Path, number: int, created: float) -> None:
    """
    Make the database of spool `number`: under another name, so that a database of the right name is always whole.

    The file is made before SQLite opens it so that it, its WAL and its index are 0600 whatever the umask (PRC14).
    """
    unfinished = path.with_name(f"tmp-{path.name}")
    for suffix in ("", "-journal", "-wal", "-shm"):
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    with _closing_errors(path):
        connection = sqlite3.connect(unfinished, isolation_level=None)
        try:
            _fill(connection, number, created)
        finally:
            connection.close()
    # Closing has copied the log into the file and synced it; the name is what is missing.
    unfinished.rename(path)
    sync_directory(path.parent)


def _fill(connection: sqlite3.Connection, number: int, created: float) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
    configure(connection)
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        connection.execute(statement)
    facts = (("number", str(number)), ("created", repr(created)), ("uuid", ""), ("epoch", "0"), ("clean", "1"))
    connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", facts)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
        raise SpoolUnavailable("auto_vacuum could not be set")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def version(path: Path) -> int:
    """Schema version of the file, read without touching it; 0 is an empty one."""
    if path.stat().st_size == 0:
        return 0
    with _closing_errors(path):
        connection = sqlite3.connect(_uri(path, "ro"), uri=True, isolation_level=None)
        try:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()


def open_writer(path: Path, number: int) -> sqlite3.Connection:
    """The one connection that writes and checkpoints. Checks version, number and settings."""
    require_version(path)
    with _closing_errors(path):
        connection = sqlite3.connect(
            _uri(path, "rw"), uri=True, isolation_level=None, timeout=5.0, cached_statements=256
        )
        try:
            configure(connection)
            connection.text_factory = _lenient
            connection.execute("PRAGMA secure_delete = OFF").fetchone()
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchone()
            connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}").fetchone()
            connection.execute("PRAGMA cache_size = -32768")
            connection.execute("PRAGMA temp_store = MEMORY")
            _check_number(connection, number)
            _tidy_expanded(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _tidy_expanded(connection: sqlite3.Connection) -> None:
    connection.execute(_EXPANDED)
    with suppress(sqlite3.Error):  # damage elsewhere is found by those whom it concerns
        connection.execute("DELETE FROM expanded WHERE message NOT IN (SELECT id FROM messages)")


def _check_number(connection: sqlite3.Connection, number: int) -> None:
    stored = connection.execute("SELECT value FROM meta WHERE name = 'number'").fetchone()
    if stored is None or stored[0] != str(number):
        raise SpoolUnavailable(f"the spool says it is number {stored and stored[0]}, not {number}")


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, checkpoint or create anything."""
    require_version(path)
    with _closing_errors(path):
        connection = sqlite3.connect(
            _uri(path, "ro"), uri=True, isolation_level=None, timeout=1.0, check_same_thread=False
        )
        try:
            configure(connection, writable=False)
            connection.text_factory = _lenient
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def require_version(path: Path) -> None:
    """
    Raise `SpoolUnavailable` unless the file has the schema version this program reads and writes.

    `SpoolDamaged` for an empty file: a database gets its name when it is whole.
    """
    try:
        found = version(path)
    except OSError as error:
        raise SpoolUnavailable(f"{path}: {error.strerror}") from error
    if path.stat().st_size == 0:
        raise SpoolDamaged(f"{path}: the database is empty")
    if found != SCHEMA_VERSION:
        raise SpoolUnavailable(f"{path}: schema version {found}, this program knows {SCHEMA_VERSION}; left alone")


def configure(connection: sqlite3.Connection, *, writable: bool = True) -> None:
    """Set the durability settings and read them back; a value other than asked for is refused."""
    if writable:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    level = connection.execute("PRAGMA synchronous").fetchone()[0]
    if mode != "wal" or level != _FULL:
        raise SpoolUnavailable(f"SQLite runs with journal_mode={mode} synchronous={level}, not WAL and FULL")


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable (PRC7, PRC17). Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lenient(raw: bytes) -> str:
    """Damaged text must reach the checksum, not fail the whole query."""
    return raw.decode("utf-8", "surrogateescape")


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


class _closing_errors:  # noqa: N801 - reads as the statement it is
    """Turns sqlite3 errors of one opening into `SpoolUnavailable` or `SpoolDamaged` naming the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.Error) and is_ruin(error):
            raise SpoolDamaged(f"{self._path}: {error}") from error
        if isinstance(error, sqlite3.Error):
            raise SpoolUnavailable(f"{self._path}: {error}") from error
