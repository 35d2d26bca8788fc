"""
An asyncio event loop whose every step is an event of the scheduler.

Guarantees: the scheduler's seed picks which of the ready callbacks runs; what threads hand over
(`call_soon_threadsafe`) keeps its order, as it does in a real loop. Work for threads is done in one step at some later
moment and answered at a later one. A loop whose process was killed takes nothing and runs nothing.

On failure: an exception in a callback ends the run.
"""

import asyncio
import contextvars
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple, Unpack

from support.simulation.scheduler import Process, Scheduler

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SimTask(asyncio.Task[Any]):
    """A task that sets order by number, not by its place in memory: a seed must give the same run everywhere."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, number: int, loop: "SimLoop", **more: Any) -> None:
        self.number = number
        super().__init__(coroutine, loop=loop, **more)

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.BaseEventLoop):
    """One worker's loop. `slow` gives the longest time that work for threads may take, in seconds."""

    def __init__(self, scheduler: Scheduler, process: Process, slow: Callable[[], float]) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._process = process
        self._slow = slow
        self._tasks_made = 0
        self._handed: deque[asyncio.Handle] = deque()
        self.kept: list[object] = []
        """Tasks, so that those of a killed process are not ended by the garbage collector in the middle of a run."""
        self.signals: dict[int, Callable[[], object]] = {}

    def time(self) -> float:
        return self._scheduler.now

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        return None

    def __del__(self) -> None:
        return None

    def is_running(self) -> bool:
        return True

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._scheduler.soon(self._process, lambda: self._step(handle))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._handed.append(handle)
        self._scheduler.soon(self._process, lambda: self._step(self._handed.popleft()))
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._scheduler.at(when, self._process, lambda: self._step(handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._scheduler.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        return None

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Any:  # type: ignore[override]
        self._tasks_made += 1
        task = SimTask(coro, number=self._tasks_made, loop=self, name=name or "", context=context)
        self.kept.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        """In one step, at some moment; the answer comes at a later one."""
        future: asyncio.Future[T] = self.create_future()
        slow = self._slow()

        def work() -> None:
            try:
                value: Any = func(*args)
                error: BaseException | None = None
            except Exception as found:  # noqa: BLE001 - for the caller
                value, error = None, found
            self._scheduler.after(self._scheduler.between(0.0, slow), self._process, lambda: answer(value, error))

        def answer(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        self._scheduler.after(self._scheduler.between(0.0, 0.002), self._process, work)
        return future

    def add_signal_handler(self, sig: int, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        self.signals[sig] = lambda: callback(*args)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException) and self._process.alive:
            self._scheduler.failure = error

    def _step(self, handle: asyncio.Handle) -> None:
        if not handle._cancelled:
            events._set_running_loop(self)
            try:
                handle._run()
            finally:
                events._set_running_loop(None)
