"""
Addresses looked up in a directory from an event loop: gathered, shared, bounded.

Guarantees: the loop never blocks. Questions that come in one turn of the loop, or while all connections are busy, go
out in one search of up to `BATCH` keys; a key that several ask for is asked for once. A search begins after those who
share it have asked, so an answer is never older than its question. Threads, connections and waiting keys are bounded,
nobody waits longer than `deadline`, and keys that nobody waits for any more are not asked for.

On failure: `LookupFailed`. While the directory does not answer, at once (`Breaker`): a single question now and then
finds out whether it does again.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from router.directory.breaker import Breaker
from router.directory.faults import Fault
from router.directory.inquiry import Inquiry, Items, Told
from router.directory.meaning import Meaning
from router.directory.servers import Servers
from router.errors import LookupFailed
from router.model.directory import DirectoryItem, is_catch_all
from router.settings.directory import Ldap

BATCH = 200
"""Keys in one search. Servers limit the entries of an answer to 500 or 1000."""
BATCH_OCTETS = 16 * 1024
"""Of all keys in one search: slapd ends a connection that sends more than 256 KiB at once."""
MAX_WAITING = 10_000
GATHERING = 0.01
"""Seconds for which questions gather while a search is under way: a search for five costs little more than for one."""
_GRACE = 2.0


@dataclass(slots=True, eq=False)
class _Flight:
    """One key that is waited for. `answer` never gets an exception, which nobody might fetch."""

    key: str
    answer: "asyncio.Future[Items | Fault]"
    waiters: int = 0
    alone: bool = False
    """Somebody asks for a catch-all and for no address."""


class LdapLookups:
    """A `DirectoryReader` for one event loop. `servers` is for tests."""

    def __init__(self, source: Ldap, meaning: Meaning, servers: Servers | None = None) -> None:
        self._deadline = source.deadline
        self._parallel = source.connections
        self._servers = servers or Servers(source)
        self._inquiry = Inquiry(source, meaning, self._servers)
        self._breaker = Breaker(time.monotonic)
        self._pool = ThreadPoolExecutor(source.connections, thread_name_prefix=f"directory-{source.name}")
        self._waiting: dict[str, _Flight] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._begun = 0.0
        self._split = False
        self._closed = False

    @property
    def down(self) -> bool:
        """Whether questions are refused because the directory does not answer."""
        return self._breaker.open

    async def find(self, keys: Sequence[str]) -> Sequence[DirectoryItem]:
        """As `DirectoryReader.find`. Raises `LookupFailed`."""
        wanted = tuple(dict.fromkeys(keys))
        if not wanted:
            return ()
        if self._closed or self._breaker.refuses():
            raise LookupFailed("the directory does not answer")
        if len(self._waiting) + len(wanted) > MAX_WAITING:
            raise LookupFailed("too many addresses wait for the directory")
        alone = all(map(is_catch_all, wanted))
        flights = [self._join(key, alone=alone) for key in wanted]
        try:
            _, late = await asyncio.wait([flight.answer for flight in flights], timeout=self._deadline)
        finally:
            for flight in flights:
                flight.waiters -= 1
        if late:
            raise LookupFailed("the directory did not answer in time")
        return _merged(flights)

    async def close(self) -> None:
        """End what is under way; who waits gets `LookupFailed`. Idempotent."""
        self._closed = True
        self._fail_waiting(LookupFailed("the directory has been closed"))
        self._servers.close()
        tasks = tuple(self._running)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_GRACE)
            for task in late:  # its thread waits for a name server or a connection, and ends by itself
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _join(self, key: str, *, alone: bool) -> _Flight:
        loop = asyncio.get_running_loop()
        flight = self._waiting.get(key)
        if flight is None:
            flight = self._waiting[key] = _Flight(key, loop.create_future())
        flight.waiters += 1
        flight.alone |= alone
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._start)
        return flight

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._running) < self._parallel:
            rest = self._begun + GATHERING - time.monotonic()
            if self._running and rest > 0 and not self._closed:
                self._scheduled = True
                asyncio.get_running_loop().call_later(rest, self._start)
                return
            if self._closed or self._breaker.refuses():
                self._fail_waiting(LookupFailed("the directory does not answer"))
                return
            batch = self._take()
            if batch:
                self._breaker.sent()
                self._begun = time.monotonic()
                task = asyncio.get_running_loop().create_task(self._serve(batch, whole=self._is_whole(batch)))
                self._running.add(task)

    def _take(self) -> list[_Flight]:
        batch: list[_Flight] = []
        octets = 0
        for key, flight in list(self._waiting.items()):
            octets += len(key.encode("utf-8", "surrogatepass"))
            if batch and (len(batch) == BATCH or octets > BATCH_OCTETS):
                break
            del self._waiting[key]
            if flight.waiters:
                batch.append(flight)
        return batch

    def _is_whole(self, batch: list[_Flight]) -> bool:
        """Whether no question is split between this batch and another, and none is about a catch-all alone."""
        split, self._split = self._split, bool(self._waiting)
        return not (split or self._split or any(flight.alone for flight in batch))

    async def _serve(self, batch: list[_Flight], *, whole: bool) -> None:
        keys = [flight.key for flight in batch]
        told: Told | None = None
        failure: Exception | None = None
        try:
            loop, until = asyncio.get_running_loop(), time.monotonic() + self._deadline
            told = await loop.run_in_executor(self._pool, partial(self._inquiry.ask, keys, until, whole=whole))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            failure = error
        finally:
            self._running.discard(asyncio.current_task())
            self._judge(told)
            _settle(batch, told, failure)
            self._start()

    def _judge(self, told: Told | None) -> None:
        if told is None:
            self._breaker.unknown()
        elif told.outage:
            self._breaker.failed()
        else:
            self._breaker.answered()

    def _fail_waiting(self, error: LookupFailed) -> None:
        waiting, self._waiting = self._waiting, {}
        _settle(list(waiting.values()), None, error)


def _settle(batch: list[_Flight], told: Told | None, failure: Exception | None) -> None:
    for flight in batch:
        if flight.answer.done():
            continue
        answer = told.answers.get(flight.key) if told is not None else None
        if answer is None:
            answer = _fault(failure)
        flight.answer.set_result(answer)


def _fault(failure: Exception | None) -> Fault:
    if isinstance(failure, LookupFailed):
        return Fault(failure.private)
    fault = Fault(f"the lookup failed: {failure!r}" if failure else "the lookup was given up")
    fault.__cause__ = failure
    return fault


def _merged(flights: Sequence[_Flight]) -> Sequence[DirectoryItem]:
    found: dict[str, DirectoryItem] = {}
    for flight in flights:
        answer = flight.answer.result()
        if isinstance(answer, Fault):
            raise LookupFailed(answer.private, reply=answer.reply) from answer
        found.update((item.dn, item) for item in answer)
    return tuple(found.values())
