"""
The control database: one file (or PostgreSQL database) per site, shared by commands, workers and the web page.

Guarantees: `read()` is one consistent snapshot; `write()` is serialised against every other writer from its first
statement (BEGIN IMMEDIATE; on PostgreSQL a lock on the epoch's row), so epochs become visible in order. All of it is
synchronous and meant for threads, never for an event loop. A process opens its own instance after a fork.

On failure: `DatabaseBusy` when somebody else's lock is in the way (`run_read` and `run_write` repeat the whole
transaction with jitter), `ControlUnavailable` for everything else; the connection that failed is closed (PRC5).
"""

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from router.control import schema, sqlite
from router.errors import ControlBusy, ControlUnavailable

Result = TypeVar("Result")

PATIENCE = 30.0
"""Seconds for which `run_read` and `run_write` repeat a transaction that finds the database locked."""
_WRITE = "sluice_write"
_UUID = select(schema.site.c.uuid)


class DatabaseBusy(ControlBusy):
    """Somebody else's lock: no news, and no outage."""


class DatabaseReplaced(ControlUnavailable):
    """Another file took the place of the one that is open: only a restart makes sense of it."""


class ControlDatabase:
    """The open control database. Thread-safe; each transaction borrows a connection from a bounded pool."""

    patience = PATIENCE
    """Seconds that a transaction waits for others' locks unless it is told otherwise."""

    def __init__(self, engine: Engine, path: Path | None) -> None:
        self._engine = engine
        self.path = path
        """The SQLite file; None on PostgreSQL."""
        self._identity = None if path is None else sqlite.identity(path)
        self._turn = threading.Lock()

    @classmethod
    def open(cls, url: str, *, create: bool = False, patience: float = PATIENCE) -> Self:
        """
        Open the database of a SQLAlchemy URL. `create` also makes a missing one and runs migrations (`serve` does).

        Raises `ControlUnavailable`: missing, unreadable, wrong settings, or a schema older or newer than ours.
        """
        parsed = make_url(url)
        path = None
        if parsed.get_backend_name() == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise ControlUnavailable("the control database must be a file")
            path = Path(parsed.database)
            _require_file(path, create)
        try:
            database = cls(_engine(url, path), path)
        except OSError as error:
            raise ControlUnavailable(f"the control database cannot be reached: {error}") from error
        database.patience = patience
        try:
            database._check_schema(create)
        except BaseException:
            database.close()
            raise
        return database

    def _check_schema(self, create: bool) -> None:
        found = self.run_read(_revision)
        if found == schema.REVISION:
            return
        if not create:
            raise ControlUnavailable(f"the control database has schema {found or 'none'}, wanted {schema.REVISION}")
        from router.control.migrate import migrate  # noqa: PLC0415 - Alembic takes long to import and is rarely needed

        self.run_write(migrate)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one snapshot. Keep it below some 50 ms; page through what is large."""
        with self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """
        A write transaction, committed at the end, rolled back on any exception.

        A COMMIT that raises anything but `DatabaseBusy` is unknown, not undone (PRC4).
        """
        with self._transaction(write=True) as connection:
            yield connection

    def run_read(self, work: Callable[[Connection], Result], patience: float | None = None) -> Result:
        """Run `work` in a read transaction, repeated while the database is locked."""
        return self._run(work, self.patience if patience is None else patience, write=False)

    def run_write(self, work: Callable[[Connection], Result], patience: float | None = None) -> Result:
        """Run `work` in a write transaction, repeated as a whole while locked: it must have no other effects."""
        return self._run(work, self.patience if patience is None else patience, write=True)

    def watch(self) -> "Watch":
        """A cheap way to see that somebody committed; close it."""
        return Watch(self.path, self._identity)

    def close(self) -> None:
        """Close all idle connections."""
        self._engine.dispose()

    def _run(self, work: Callable[[Connection], Result], patience: float, *, write: bool) -> Result:
        deadline = time.monotonic() + patience
        pause = 0.002
        while True:
            try:
                with self._transaction(write=write) as connection:
                    return work(connection)
            except DatabaseBusy:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(random.uniform(pause / 4, pause))  # noqa: S311 - jitter against competing writers, no secret
            pause = min(pause * 2, 0.05)

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        with self._own_turn(write=write):
            connection = self._connect()
            try:
                with connection.execution_options(**{_WRITE: write}).begin():
                    yield connection
            except IntegrityError:
                raise
            except (DBAPIError, sqlite3.Error) as error:
                cause = error.orig if isinstance(error, DBAPIError) else error
                if sqlite.is_busy(cause):
                    raise DatabaseBusy("the control database is locked") from error
                connection.invalidate()
                raise ControlUnavailable(f"the control database failed: {cause}") from error
            finally:
                connection.close()

    @contextmanager
    def _own_turn(self, *, write: bool) -> Iterator[None]:
        """Threads of one process that write wait for each other here, where the next one is woken at once."""
        if not write or self.path is None:
            yield
            return
        if not self._turn.acquire(timeout=sqlite.BUSY_SECONDS):
            raise DatabaseBusy("the control database is being written")
        try:
            yield
        finally:
            self._turn.release()

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if sqlite.is_busy(cause):
                raise DatabaseBusy("the control database is locked") from error
            raise ControlUnavailable(f"the control database cannot be opened: {cause}") from error


class Watch:
    """
    Sees commits of all other connections by `PRAGMA data_version`, some microseconds a look (PRC11).

    The first look always reports a change. PostgreSQL has no such counter: there each look reports one. Not
    thread-safe. `identity` is that of the file when the database was opened.
    """

    def __init__(self, path: Path | None, identity: tuple[int, int] | None) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._identity = identity
        self._seen: int | None = None

    def changed(self) -> bool:
        """
        Whether anybody committed since the last look.

        Raises `DatabaseBusy` (no news), `DatabaseReplaced`, or `ControlUnavailable`.
        """
        if self._path is None:
            return True
        try:
            version = self._look(self._path)
        except sqlite3.Error as error:
            if sqlite.is_busy(error):
                raise DatabaseBusy("the control database is locked") from error
            self.close()
            raise ControlUnavailable(f"the control database cannot be read: {error}") from error
        except OSError as error:
            # The connection stays open: as long as it is, no other file can get the identity of this one.
            raise ControlUnavailable(f"the control database is gone: {error}") from error
        changed, self._seen = version != self._seen, version
        return changed

    def _look(self, path: Path) -> int:
        found = sqlite.identity(path)
        if found != self._identity:
            # Also after an outage: idle connections of the pool still have the former file.
            raise DatabaseReplaced("another file has taken the control database's place")
        if self._connection is None:
            self._connection, self._seen = sqlite.connect(path), None
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the connection; the next look opens a new one and reports a change."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _engine(url: str, path: Path | None) -> Engine:
    if path is None:
        engine = create_engine(url, pool_size=4, max_overflow=12)
        event.listen(engine, "begin", _begin_postgresql)
        return engine
    engine = create_engine(
        url, creator=lambda: sqlite.connect(path), poolclass=QueuePool, pool_size=4, max_overflow=12, pool_timeout=10
    )
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _begin_sqlite(connection: Connection) -> None:
    raw = connection.connection.dbapi_connection
    if connection.get_execution_options().get(_WRITE, False) and isinstance(raw, sqlite3.Connection):
        sqlite.begin_write(raw)
    else:
        connection.exec_driver_sql("BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    if connection.get_execution_options().get(_WRITE, False) and inspect(connection).has_table("counter"):
        connection.execute(text("LOCK TABLE counter IN EXCLUSIVE MODE"))


def _require_file(path: Path, create: bool) -> None:
    try:
        if create:
            sqlite.prepare_file(path)
        elif not path.is_file():
            raise ControlUnavailable(f"there is no control database at {path}")
    except OSError as error:
        raise ControlUnavailable(f"the control database cannot be reached: {error}") from error


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def site_uuid(connection: Connection) -> str:
    """The identity of this database: every spool remembers it. Raises `ControlUnavailable` when it has none."""
    found: Any = connection.execute(_UUID).scalar()
    if not found:
        raise ControlUnavailable("the control database has no site row")
    return str(found)
