"""
The disk below a simulated spool: the product's `Spool` over SQLite in memory, without threads.

The writer's transactions are single events; what is committed stays when the process dies, nothing else does. A
commit that has happened and its answer are two events, so a crash falls between them, too.

Guarantees: the product's operations, batches, reader and accounts run unchanged; commits can fail with EIO, the
transaction lost or there all the same.

On failure: as the product's.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from router.errors import SpoolUnavailable
from router.spool import schema
from router.spool.batch import Releases
from router.spool.bodies import Bodies
from router.spool.desk import Desk
from router.spool.health import Health
from router.spool.hooks import WriterHooks
from router.spool.options import SpoolOptions
from router.spool.reader import Reader
from router.spool.spool import Spool
from router.spool.writer import LINGER, Writer, _Nothing, _Waiting
from support.simulation.loop import SimLoop
from support.simulation.scheduler import Process, Scheduler

_FREE: list[sqlite3.Connection] = []
_TABLES = ("messages", "recipients", "journal", "tally", "expanded", "meta", "sqlite_sequence")
_EMPTY: list[Path] = []
OPTIONS = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0)
_IDLE = 1.0


def _new_database() -> sqlite3.Connection:
    raw = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256, check_same_thread=False)
    for statement in schema._TABLES:
        raw.execute(statement)
    raw.text_factory = schema._lenient
    return raw


def _begin_anew(raw: sqlite3.Connection, number: int) -> None:
    """A new spool's database. The tables stay: statements need not be prepared again."""
    raw.execute("BEGIN")
    for name in _TABLES:
        raw.execute(f"DELETE FROM {name}")  # noqa: S608 - names of ours
    facts = (("number", str(number)), ("created", "0"), ("uuid", ""), ("epoch", "0"), ("clean", "1"))
    raw.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", facts)
    raw.execute("COMMIT")


def _nowhere() -> Path:
    """A directory that stays empty."""
    if not _EMPTY:
        _EMPTY.append(Path(mkdtemp(prefix="sluice-simulation-")))
        _EMPTY[0].rmdir()
    return _EMPTY[0]


class SpoolDisk:
    """What of one spool survives its process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.raw = _FREE.pop() if _FREE else _new_database()
        _begin_anew(self.raw, number)
        self.reserved = 0
        self.committed = 0
        self.owner: Process | None = None
        self.fault = ""
        """Of the next commit: '' for none, 'lost' or 'kept' for an EIO with or without the transaction on disk."""
        self.faults = 0

    @property
    def locked(self) -> bool:
        return self.owner is not None and self.owner.alive

    def give_back(self) -> None:
        """At the end of a run."""
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")
        _FREE.append(self.raw)


class DiskConnection:
    """One connection to the disk; closing it rolls back, as SQLite does."""

    def __init__(self, disk: SpoolDisk) -> None:
        self._disk = disk
        self._raw = disk.raw
        self.executemany = disk.raw.executemany

    @property
    def in_transaction(self) -> bool:
        return self._raw.in_transaction

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        if statement == "COMMIT" and self._disk.fault:
            self._fail()
        if statement.startswith("PRAGMA"):
            return self._raw.execute("SELECT 0")
        return self._raw.execute(statement, values)

    def _fail(self) -> None:
        kept, self._disk.fault = self._disk.fault == "kept", ""
        self._disk.faults += 1
        self._raw.execute("COMMIT" if kept else "ROLLBACK")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    def close(self) -> None:
        if self._raw.in_transaction:
            self._raw.execute("ROLLBACK")


class DiskSequence:
    """`Sequence` on the disk."""

    def __init__(self, disk: SpoolDisk) -> None:
        self._disk = disk

    @property
    def reserved(self) -> int:
        return self._disk.reserved

    @property
    def committed(self) -> int:
        return self._disk.committed

    def reserve(self, number: int) -> None:
        if number > self._disk.reserved:
            self._disk.reserved = number + 16

    def commit(self, number: int) -> None:
        self._disk.committed = max(number, self._disk.committed)

    def close(self, number: int | None = None) -> None:
        if number is not None:
            self._disk.reserved = number


class DiskHooks(WriterHooks):
    """The product's, with connections to the disk."""

    disk: SpoolDisk

    def connect(self) -> Any:
        connection = DiskConnection(self.disk)
        if self._first:
            self._first = False
            row = connection.execute("SELECT value FROM meta WHERE name = 'clean'").fetchone()
            self.clean_start = row[0] == "1"
        return connection


class DiskReader(Reader):
    """The product's, reading between two events of the writer."""

    disk: SpoolDisk

    def _connection(self) -> Any:
        return self.disk.raw

    def _drop(self, connection: sqlite3.Connection) -> None:
        return None


class DiskHealth(Health):
    """The product's, without a thread that looks at the disk."""

    def start(self) -> None:
        return None

    def unhealthy(self) -> Any:
        return self._writer


class EventWriter(Writer):
    """The product's writer, whose thread is a chain of events."""

    def __init__(self, hooks: Any, loop: SimLoop, releases: Releases, name: str, disk: SpoolDisk) -> None:
        super().__init__(hooks, loop, releases, name)
        self._disk = disk
        self._busy = False
        self.slow: Callable[[], float] = lambda: 0.004
        self.committed: Callable[[list[_Waiting]], None] = lambda _group: None

    def _soon(self, delay: float, action: Callable[[], None]) -> None:
        loop: Any = self._loop
        loop._scheduler.after(delay, loop._process, action)

    def _wait_and_turn(self) -> None:
        if not self._busy:
            self._busy = True
            scheduler: Scheduler = self._loop._scheduler  # type: ignore[attr-defined]
            self._soon(scheduler.between(0.0, self.slow()), self._turn)

    async def start(self) -> None:
        ready: Any = self._loop.create_future()
        self._waiting.append(_Waiting(_Nothing(), ready, 0.0))
        self._urgent += 1
        self._wait_and_turn()
        await ready
        self._watch()

    def submit(self, operation: Any) -> Any:
        future = super().submit(operation)
        self._wait_and_turn()
        return future

    async def close(self) -> None:
        self._closing = True
        while self._waiting or self._busy:
            self._wait_and_turn()
            done = self._loop.create_future()
            self._soon(0.001, lambda done=done: done.set_result(None))  # type: ignore[misc]
            await done
        self._finish()

    def _turn(self) -> None:
        if not self._ready():
            self._busy = False
            if self._waiting:
                self._busy = True
                self._soon(LINGER, self._turn)
            return
        group = self._take() or []
        try:
            self._process(group)
        except BaseException as error:  # noqa: BLE001 - as in the product's `_run`
            self._fail(group, SpoolUnavailable(f"unexpected {type(error).__name__}"), error)
            self._disconnect()
        self.committed([one for one in group if one.error is None])
        scheduler: Scheduler = self._loop._scheduler  # type: ignore[attr-defined]
        self._soon(scheduler.between(0.0, self.slow()), lambda: self._hand_back(group))

    def _hand_back(self, group: list[_Waiting]) -> None:
        self._answer(group)
        self._busy = False
        if self._waiting:
            self._wait_and_turn()

    def _watch(self) -> None:
        """A lost connection is tried again when nothing comes."""
        if self._connection is None and not self._busy and not self._closing:
            self._reconnect()
        self._soon(_IDLE, self._watch)


class SimSpool(Spool):
    """The product's spool on a `SpoolDisk`."""

    def __init__(self, disk: SpoolDisk, loop: SimLoop, wall: Callable[[], float]) -> None:
        number, directory = disk.number, _nowhere()
        self.disk = disk
        self.directory = directory
        self.number = number
        self._options = OPTIONS
        self._wall = wall
        self._releases = Releases()
        self._arriving = 0
        self._bodies = Bodies(directory, inline_limit=OPTIONS.inline_limit)
        self._health = DiskHealth(directory, minimum_free=0, minimum_inodes=0, reserve=0)
        sequence: Any = DiskSequence(disk)
        self._sequence = sequence
        self._hooks = DiskHooks(directory, number, sequence, self._bodies, self._health)
        self._hooks.disk = disk
        self._writer = EventWriter(self._hooks, loop, self._releases, f"{number:04d}", disk)
        self._reader = DiskReader(directory, number)
        self._reader.disk = disk
        self._hooks.pass_over = self._reader.pass_over
        self._reader.ruined = self._hooks.ruined
        self._closed = False
        self.desk = Desk(number, directory, self._reader, self._writer, self._bodies, wall)
        self.warnings = ()

    @classmethod
    async def start(cls, disk: SpoolDisk, loop: SimLoop, process: Process, wall: Callable[[], float]) -> "SimSpool":
        """Take the lock and open."""
        if disk.locked:
            raise AssertionError(f"spool {disk.number} has two owners")
        disk.owner = process
        spool = cls(disk, loop, wall)
        await spool._writer.start()
        return spool

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._writer.close()
            self._sequence.close(self._hooks.numbers.message or None)
            self.disk.owner = None
