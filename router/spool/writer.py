"""
The one thread that writes a spool: it owns the only read-write connection, and commits many sessions together.

Everything that waits when a commit has finished goes into the next transaction, so concurrent sessions share one
fdatasync while a lone operation is committed at once. Lazy operations (outcomes, and messages while many clients are
at work) wait at most `LINGER` for company. Checkpoints are made by this thread only (PRC3).

Guarantees: a future that succeeds has been committed with `synchronous=FULL`. An operation that fails by its own
fault (impossible value, conflict) fails alone: the transaction is rolled back and every other operation redone.

On failure (I/O error, damaged file, full disk): the operations of the transaction fail with `SpoolUnavailable` or
`SpoolFull`, `CommitUnknown` when COMMIT itself failed (it may be there after a restart, PRC4); the connection is
closed and a new one opened before anything else is written, no sync is ever repeated on the old descriptor (PRC5).
While that does not succeed, a probe runs every second and operations fail at once. Damage found under an operation is
first taken for that operation's own affair: each is redone alone, passing over the rows that cannot be changed. What
fails even so is damage to the database as a whole, which `ruined` is told of.
"""

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol, TypeVar

from router.errors import SpoolDamaged, SpoolUnavailable
from router.spool import wal
from router.spool.batch import Batch, Numbers, Releases
from router.spool.failures import CommitError, failure_of, is_damage, is_data_fault, is_full, is_ruin, primary_code

LINGER = 0.004
CAPACITY = 20_000
_MAX_BATCH = 500
_LAZY_COMPANY = 100
_CHECKPOINT_PAGES = 4000
_IDLE = 1.0
_PROBE_PAUSE = 1.0

log = logging.getLogger("sluice.spool")
T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Operation(Protocol[T_co]):
    """
    One change of the spool. `apply` may run more than once, each time in a new transaction.

    `lazy`: may wait for company. `essential`: must still work on a full disk, with the help of the reserve.
    Optional `leaving`: recipients that it is going to delete, read for all operations of a transaction at once.
    """

    @property
    def lazy(self) -> bool: ...
    @property
    def essential(self) -> bool: ...
    def apply(self, batch: Batch) -> T_co: ...


class Hooks(Protocol):
    """What the writer needs from its spool; all called from the writer's thread."""

    def connect(self) -> sqlite3.Connection: ...
    def load_numbers(self, connection: sqlite3.Connection, handed_out: Numbers) -> Numbers: ...
    def reserve_numbers(self, numbers: Numbers) -> None:
        """Called before each COMMIT."""

    def committed(self, numbers: Numbers, unlink: Sequence[str]) -> None:
        """Called after each COMMIT."""

    def damaged(self, rows: Mapping[int, str]) -> None:
        """Called after a COMMIT that had to pass over recipients, with the reason for each."""

    def make_room(self) -> bool:
        """Drop the reserve; whether there was one."""

    def ruined(self, why: str) -> None:
        """The database was found to be damaged in a way that no single row is to blame for."""

    def trouble(self, error: SpoolUnavailable | None) -> None:
        """The database cannot be written (error), or can be written again (None)."""


@dataclass(slots=True, eq=False)
class _Waiting:
    operation: Operation[Any]
    future: "asyncio.Future[Any]"
    since: float
    result: Any = None
    error: BaseException | None = field(default=None)


class Writer:
    """Owner of the writing connection. Started and closed by its spool."""

    def __init__(self, hooks: Hooks, loop: asyncio.AbstractEventLoop, releases: Releases, name: str) -> None:
        self._hooks = hooks
        self._loop = loop
        self._releases = releases
        self._condition = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._urgent = 0
        self._closing = False
        self._connection: sqlite3.Connection | None = None
        self._numbers = Numbers()
        self._probe_at = 0.0
        self._dirty_pages = 0
        self._idle_done = True
        self._trouble: SpoolUnavailable | None = None
        self._thread = threading.Thread(target=self._run, name=f"spool-writer-{name}", daemon=True)
        self.commits = 0
        """Transactions committed so far (for metrics and tests)."""
        self.held_up = False
        """The last checkpoint has not come to its end: somebody reads, or it failed."""

    async def start(self) -> None:
        """Open the connection in the writer's thread. Raises `SpoolUnavailable`."""
        ready: asyncio.Future[None] = self._loop.create_future()
        started = _Waiting(_Nothing(), ready, monotonic())
        self._waiting.append(started)
        self._urgent += 1
        self._thread.start()
        try:
            await ready
        except BaseException:
            await self.close()
            raise

    def submit(self, operation: Operation[T]) -> "asyncio.Future[T]":
        """
        Queue an operation; called on the event loop. The future fails with what the operation raised, or with
        `SpoolUnavailable`, also when `CAPACITY` operations wait already.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        waiting = _Waiting(operation, future, monotonic())
        with self._condition:
            if self._closing or len(self._waiting) >= CAPACITY:
                raise SpoolUnavailable("the spool is closing" if self._closing else "too many operations wait")
            self._waiting.append(waiting)
            first = len(self._waiting) == 1
            if not operation.lazy:
                self._urgent += 1
                first = first or self._urgent == 1
            if first or len(self._waiting) == _LAZY_COMPANY:
                self._condition.notify()
        return future

    async def close(self) -> None:
        """Commit what waits, checkpoint, close. Idempotent."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)

    # Everything below runs in the writer's thread.

    def _run(self) -> None:
        while True:
            group = self._take()
            if group is None:
                break
            try:
                if group:
                    self._process(group)
                else:
                    self._idle()
            except BaseException as error:
                log.exception("spool writer: unexpected error")
                self._fail(group, SpoolUnavailable(f"unexpected {type(error).__name__}"), error)
                self._disconnect()
            self._answer(group)
        self._finish()

    def _take(self) -> list[_Waiting] | None:
        """The next group; empty when there was nothing to do for a while, None at the end."""
        with self._condition:
            while not self._ready():
                if self._waiting:
                    self._condition.wait(max(0.0, self._waiting[0].since + LINGER - monotonic()))
                elif self._closing:
                    return None
                elif not self._condition.wait(None if self._idle_done else _IDLE) and not self._waiting:
                    return []
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
            self._urgent -= sum(not waiting.operation.lazy for waiting in group)
            return group

    def _ready(self) -> bool:
        if not self._waiting:
            return False
        if self._urgent or self._closing or len(self._waiting) >= _LAZY_COMPANY:
            return True
        return monotonic() >= self._waiting[0].since + LINGER

    def _process(self, group: list[_Waiting], *, careful: bool = False) -> None:
        self._idle_done = False
        if self._connection is None and not self._reconnect():
            self._fail(group, self._trouble or SpoolUnavailable("the spool's database cannot be written"))
            return
        try:
            self._transact(group, careful=careful)
        except sqlite3.Error as error:
            if is_damage(error) and not careful:
                self._rollback()
                for waiting in group:
                    self._process([waiting], careful=True)
            elif is_data_fault(error):
                self._separate(group, error)
            else:
                self._broken(group, error)
        except OSError as error:
            self._broken(group, error)
        except Exception as error:  # noqa: BLE001 - whatever an operation raises is that operation's own failure
            self._separate(group, error)

    def _transact(self, group: list[_Waiting], *, careful: bool) -> None:
        connection = self._connection
        if connection is None:
            raise sqlite3.OperationalError("not connected")
        connection.execute("BEGIN IMMEDIATE")
        batch = Batch(connection, self._numbers, self._releases, careful=careful)
        batch.read_ahead([number for waiting in group for number in getattr(waiting.operation, "leaving", ())])
        for waiting in group:
            waiting.result = waiting.operation.apply(batch)
        batch.flush()
        self._hooks.reserve_numbers(batch.numbers)
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # The numbers may be on disk: they are not handed out again.
            self._numbers = batch.numbers
            raise CommitError(*error.args, error) from error
        self._numbers = batch.numbers
        self.commits += 1
        self._after_commit(batch)

    def _after_commit(self, batch: Batch) -> None:
        """Nothing in here may fail the operations: they are committed, and doing them again would double them."""
        if batch.released:
            self._releases.note(batch.released)
        self._dirty_pages += batch.pages + 4
        try:
            self._hooks.committed(batch.numbers, batch.unlink)
            if batch.damaged:
                self._hooks.damaged(batch.damaged)
            if batch.shortened:
                self._checkpoint("TRUNCATE")
            elif self._dirty_pages >= _CHECKPOINT_PAGES:
                self._checkpoint("PASSIVE")
        except Exception:
            log.exception("spool writer: a step after COMMIT failed")

    def _separate(self, group: list[_Waiting], error: BaseException) -> None:
        """One operation's own fault: undo the transaction, then do each operation in one of its own."""
        self._rollback()
        if len(group) == 1:
            group[0].error = error
            return
        for waiting in group:
            self._process([waiting])

    def _broken(self, group: list[_Waiting], error: Exception) -> None:
        """The environment's fault: give up the connection; on a full disk use the reserve for what must go on."""
        self._disconnect()
        if is_ruin(error):
            self._hooks.ruined(str(error))
        full = is_full(error)
        failure = failure_of(error)
        essential = [waiting for waiting in group if waiting.operation.essential]
        others = [waiting for waiting in group if not waiting.operation.essential]
        self._fail(others, failure, error)
        self._report(failure)
        if full and self._hooks.make_room() and essential:
            self._process(essential)
            return
        self._fail(essential, failure, error)

    def _reconnect(self) -> bool:
        """Open anew and prove by a write that the database works; at most once per `_PROBE_PAUSE`."""
        now = monotonic()
        if now < self._probe_at:
            return False
        try:
            self._connection = self._hooks.connect()
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("UPDATE meta SET value = '0' WHERE name = 'clean'")
            self._connection.execute("COMMIT")
            self._numbers = self._hooks.load_numbers(self._connection, self._numbers)
            # What owners that were killed have left in it: else each short life would add to the log.
            self._dirty_pages = wal.pages_of(self._connection)
        except (sqlite3.Error, OSError, SpoolUnavailable) as error:
            self._disconnect()
            self._probe_at = monotonic() + _PROBE_PAUSE
            failure = error if isinstance(error, SpoolUnavailable) else failure_of(error)
            if isinstance(failure, SpoolDamaged):
                self._hooks.ruined(failure.private)
            self._report(failure)
            return False
        self._report(None)
        return True

    def _idle(self) -> None:
        """Nothing came for a while: try a lost connection again, copy the WAL back, shorten a large one."""
        if self._connection is None:
            self._reconnect()
            return
        self._checkpoint("TRUNCATE" if self._dirty_pages >= _CHECKPOINT_PAGES // 4 else "PASSIVE")
        self._idle_done = self._connection is not None

    def _checkpoint(self, mode: str) -> None:
        """A checkpoint that readers hold up is repeated later; one that fails is a broken connection (PRC5)."""
        self._dirty_pages = 0
        if self._connection is None:
            return
        try:
            self._connection.execute("PRAGMA busy_timeout = 100")
            self.held_up = True  # also when it fails
            busy, _, _ = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            self.held_up = bool(busy)
            self._connection.execute("PRAGMA busy_timeout = 5000")
        except sqlite3.Error as error:
            if primary_code(error) not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                self._broken([], error)

    def _report(self, trouble: SpoolUnavailable | None) -> None:
        self._trouble = trouble
        self._hooks.trouble(trouble)

    def _rollback(self) -> None:
        connection = self._connection
        if connection is None or not connection.in_transaction:
            return
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                log.warning("spool writer: closing a broken connection failed", exc_info=True)

    def _finish(self) -> None:
        if self._connection is not None:
            try:
                self._connection.execute("UPDATE meta SET value = '1' WHERE name = 'clean'")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error:
                log.warning("spool writer: last checkpoint failed", exc_info=True)
        self._disconnect()

    def _fail(self, group: list[_Waiting], failure: SpoolUnavailable, cause: BaseException | None = None) -> None:
        for waiting in group:
            waiting.error = type(failure)(failure.private, reply=failure.reply)
            waiting.error.__cause__ = cause

    def _answer(self, group: list[_Waiting]) -> None:
        if not group:
            return
        try:
            self._loop.call_soon_threadsafe(_resolve, group)
        except RuntimeError:
            log.warning("spool writer: the event loop is gone, %d results undelivered", len(group))


@dataclass(frozen=True, slots=True)
class _Nothing:
    """Writes nothing: its commit shows that the connection works."""

    lazy: bool = False
    essential: bool = False

    def apply(self, batch: Batch) -> None:
        """Nothing to do."""


def _resolve(group: list[_Waiting]) -> None:
    """On the event loop: hand out the results of one transaction."""
    for waiting in group:
        if waiting.future.done():
            continue
        if waiting.error is not None:
            waiting.future.set_exception(waiting.error)
        else:
            waiting.future.set_result(waiting.result)
