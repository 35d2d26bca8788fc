"""
Blocking code of the product (the thread that follows the control database, a command) as events of the scheduler.

A fiber is a thread that runs only while the scheduler waits for it: there is one runner at any time, so everything
stays in the seed's order. It gives up its turn where real code would wait: between transactions, in `sleep`, in
`Event.wait`, in `Future.result`.

Guarantees: a fiber of a killed process never goes on; when the run is over its thread is unwound. Threads are used
again by later runs.

On failure: an exception of a fiber ends the run; `Killed` is none.
"""

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

from support.simulation.scheduler import Process, Scheduler


class Killed(BaseException):
    """The process of this fiber is dead: unwind without a further effect."""


class _Thread:
    """A thread that waits for fibers to run."""

    def __init__(self) -> None:
        self.go = threading.Lock()
        self.back = threading.Lock()
        self.go.acquire()
        self.back.acquire()
        self.work: Callable[[], None] = lambda: None
        threading.Thread(target=self._serve, name="simulation", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.go.acquire()
            self.work()
            self.back.release()


_IDLE: list[_Thread] = []


def _nothing() -> None:
    """Of a thread without a fiber."""


class Fiber:
    """One blocking function. `current` is the fiber that runs now, None in the scheduler's own thread."""

    current: "Fiber | None" = None

    def __init__(self, scheduler: Scheduler, process: Process, body: Callable[[], object]) -> None:
        self._scheduler = scheduler
        self.process = process
        self._body = body
        self._thread = _IDLE.pop() if _IDLE else _Thread()
        self._thread.work = self._run
        self._waking = 0
        self.done = False
        scheduler.soon(process, self._resume)

    def _run(self) -> None:
        try:
            if self.process.alive:
                self._body()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - told to whoever looks at the fiber
            self._scheduler.failure = error
        self.done = True

    def _resume(self) -> None:
        if self.done:
            return
        former, Fiber.current = Fiber.current, self
        self._thread.go.release()
        self._thread.back.acquire()
        Fiber.current = former
        if self.done:
            self._thread.work = _nothing
            _IDLE.append(self._thread)

    def park(self) -> None:
        """Give up the turn until `wake` or a timer resumes it. Called in the fiber."""
        thread = self._thread
        thread.back.release()
        thread.go.acquire()
        if not self.process.alive:
            raise Killed

    def timer(self, delay: float) -> Callable[[], None]:
        """What wakes the fiber from its present wait, once; it also happens by itself after `delay`."""
        self._waking += 1
        mine = self._waking

        def wake() -> None:
            if self._waking == mine:
                self._waking += 1
                self._scheduler.soon(self.process, self._resume)

        if delay < float("inf"):
            self._scheduler.after(delay, self.process, wake)
        return wake

    def sleep(self, delay: float) -> None:
        self.timer(delay)
        self.park()

    def unwind(self) -> None:
        """At the end of a run: end the thread's work, without any effect."""
        self.process.alive = False
        while not self.done:
            self._resume()


class SimEvent:
    """`threading.Event`, for fibers. A short wait is a poll, which `poll` may turn into a wait for news."""

    def __init__(self) -> None:
        self._set = False
        self._wake: Callable[[], None] | None = None

    def set(self) -> None:
        self._set = True
        if self._wake is not None:
            self._wake()

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        fiber = Fiber.current
        if not self._set and fiber is not None:
            self._wake = fiber.timer(float("inf") if timeout is None else timeout)
            fiber.park()
            self._wake = None
        return self._set


class SimFuture(concurrent.futures.Future[Any]):
    """A future whose `result` gives up the fiber's turn."""

    def result(self, timeout: float | None = None) -> Any:
        fiber = Fiber.current
        if fiber is not None and not self.done():
            wake = fiber.timer(float("inf"))
            self.add_done_callback(lambda _done: wake())
            fiber.park()
        return super().result(0)
