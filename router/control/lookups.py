"""
The directory "database": mailboxes by address for the classifier, read off the event loop.

Guarantees: callers that come while all reading threads are busy are gathered into the next read; a read begins after
its callers asked, so its epoch is theirs. Memory is bounded by the callers who wait.

On failure: `LookupFailed`, which is temporary. A busy database is asked again for a while first.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sqlalchemy import Connection

from router.control import mailboxes
from router.control.database import ControlDatabase
from router.errors import ControlUnavailable, LookupFailed
from router.model.mailbox import Found

PATIENCE = 5.0
"""Seconds for which a lookup repeats while the database is locked."""
_GATHERED = 200

_Waiting = tuple[tuple[str, ...], asyncio.Future[Found]]


class DatabaseLookups:
    """A `MailboxSource` over the control database, for one event loop."""

    def __init__(self, database: ControlDatabase, threads: int = 2) -> None:
        self._database = database
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="control-read")
        self._threads = threads
        self._waiting: list[_Waiting] = []
        self._running: set[asyncio.Task[None]] = set()

    async def find(self, keys: Sequence[str]) -> Found:
        """As `MailboxSource.find`. Raises `LookupFailed`."""
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.append((tuple(keys), future))
        if len(self._running) < self._threads:
            self._running.add(asyncio.create_task(self._serve()))
        return await future

    async def populated(self, domain: str) -> bool:
        """As `MailboxSource.populated`. Raises `LookupFailed`."""
        work = partial(mailboxes.populated, domain=domain)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._database.run_read, work, PATIENCE)
        except ControlUnavailable as error:
            raise LookupFailed(error.private) from error

    def close(self) -> None:
        """Stop the threads; lookups under way end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        try:
            await self._read_all()
        finally:
            # Not in a callback of the task: a question asked before that ran would count on a task that has ended.
            task = asyncio.current_task()
            if task is not None:
                self._running.discard(task)

    async def _read_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_GATHERED], self._waiting[_GATHERED:]
            wanted = sorted({key for keys, _ in batch for key in keys})
            try:
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._pool, self._read, wanted)
            except Exception as error:  # noqa: BLE001 - whatever it is, every waiting caller must hear of it
                _fail(batch, error)
            except BaseException as error:
                _fail(batch, error)
                raise
            else:
                _answer(batch, found)

    def _read(self, keys: Sequence[str]) -> Found:
        def work(connection: Connection) -> Found:
            return mailboxes.find(connection, keys)

        return self._database.run_read(work, PATIENCE)


def _answer(batch: Sequence[_Waiting], found: Found) -> None:
    for keys, future in batch:
        if not future.done():
            mine = {key: found.mailboxes[key] for key in keys if key in found.mailboxes}
            future.set_result(Found(found.epoch, mine, _of(keys, found.disputed), _of(keys, found.doubtful)))


def _of(keys: Sequence[str], said: Mapping[str, str]) -> Mapping[str, str]:
    return {key: said[key] for key in keys if key in said} if said else {}


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            failure = LookupFailed(f"the control database cannot be read: {error}")
            failure.__cause__ = error
            future.set_exception(failure)
