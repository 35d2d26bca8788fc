"""
Sharing of work between those who ask at the same time.

`SingleFlight`: one task for each key, however many wait for it. `GatheredFind`: the address keys of all questions of
one turn of the event loop go to the sources in one read.

Guarantees: a waiter that is cancelled does not take the work away from the others. The number of tasks, the size of a
read and the number of reads at a time are bounded. While all reads are busy, questions gather for the next one.

On failure: every waiter gets the same exception; a read of several questions that fails for bad data is asked again
question by question, so that one bad entry spoils nobody else's answer. Too many questions: `LookupFailed`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from router.classify.merged import Merged
from router.errors import BadRouteData, LookupFailed

T = TypeVar("T")

MAX_WAITING = 10_000
MAX_BATCH = 200
MAX_READS = 4


class SingleFlight(Generic[T]):
    """At most one task for a key. `close` cancels all of them."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._tasks: dict[str, asyncio.Task[T]] = {}

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of the task for `key`, started now unless there is one. Raises what it raises."""
        task = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= self._limit:
                raise LookupFailed("too many lookups are under way")
            task = asyncio.create_task(work())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel and await what is under way."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: str, task: asyncio.Task[T]) -> None:
        self._tasks.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen, also where every waiter has gone


@dataclass(frozen=True, slots=True)
class _Question:
    keys: Sequence[str]
    answer: asyncio.Future[Merged]


class GatheredFind:
    """Turns many small questions into few reads."""

    def __init__(
        self,
        find: Callable[[Sequence[str]], Coroutine[Any, Any, Merged]],
        batch: int = MAX_BATCH,
        reads: int = MAX_READS,
    ) -> None:
        self._find = find
        self._batch = batch
        self._reads = reads
        self._questions: deque[_Question] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def find(self, keys: Sequence[str]) -> Merged:
        """The answer to these keys; it may hold other keys as well. Raises `LookupFailed`, `BadRouteData`."""
        loop = asyncio.get_running_loop()
        question = _Question(keys, loop.create_future())
        self._questions.append(question)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._start)
        return await question.answer

    async def close(self) -> None:
        """Cancel and await reads under way; their waiters are cancelled."""
        tasks = tuple(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self) -> None:
        self._scheduled = False
        while self._questions and len(self._running) < self._reads:
            count = min(self._batch, len(self._questions))
            # Those who stopped waiting, most often because of their deadline, are not asked for any more.
            taken = [self._questions.popleft() for _ in range(count)]
            waiting = [question for question in taken if not question.answer.done()]
            if not waiting:
                continue
            task = asyncio.get_running_loop().create_task(self._read(waiting))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _read(self, questions: list[_Question]) -> None:
        try:
            await self._ask(questions)
        finally:
            for question in questions:
                question.answer.cancel()  # a no-op where there is an answer

    async def _ask(self, questions: list[_Question]) -> None:
        keys = tuple(dict.fromkeys(key for question in questions for key in question.keys))
        try:
            merged = await self._find(keys)
        except BadRouteData as error:
            if len(questions) == 1:
                _fail(questions[0], error)
                return
            for question in questions:
                await self._ask([question])
        except Exception as error:  # noqa: BLE001 - handed to those who wait for it
            for question in questions:
                _fail(question, error)
        else:
            for question in questions:
                if not question.answer.done():
                    question.answer.set_result(merged)


def _fail(question: _Question, error: Exception) -> None:
    if not question.answer.done():
        question.answer.set_exception(error)
