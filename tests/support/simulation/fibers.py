"""
Blocking code of the product (the thread that follows the control database, a command) as events of the scheduler.

A fiber is a thread that runs only while it has the turn: there is one runner at any time, so everything stays in the
seed's order. It gives up its turn where real code would wait: between transactions, in `sleep`, in `Event.wait`, in
`Future.result`. Its thread then lets the scheduler's next events happen itself, and hands the turn on when one of them
goes on with another fiber, or the run is over: most waits need no change of threads.

Guarantees: a fiber of a killed process never goes on; when the run is over its thread is unwound. Threads are used
again by later runs.

On failure: an exception of a fiber ends the run; `Killed` is none.
"""

import concurrent.futures
import os
import threading
from collections.abc import Callable
from typing import Any

from support.simulation.scheduler import Leader, Process, Scheduler


class Killed(BaseException):
    """The process of this fiber is dead: unwind without a further effect."""


class _Runner:
    """Somebody who may have the turn."""

    def __init__(self) -> None:
        self._go = threading.Lock()
        self._go.acquire()

    def hand_on(self, to: Leader | None) -> None:
        """Give the turn to that one, None for whoever began the run; returns when it has come back."""
        other = to if isinstance(to, _Runner) else _MAIN
        if other is not self:
            other._go.release()
            self._go.acquire()


_MAIN = _Runner()


class _Thread(_Runner):
    """A thread that waits for fibers to run."""

    def __init__(self) -> None:
        super().__init__()
        self.fiber: Fiber | None = None
        threading.Thread(target=self._serve, name="simulation", daemon=True).start()

    def _serve(self) -> None:
        self._go.acquire()
        while True:
            self.hand_on(self._work())

    def lead(self) -> None:
        _MAIN.hand_on(self)

    def _work(self) -> Leader | None:
        """Run the fiber; who has the turn then."""
        fiber, self.fiber = self.fiber, None
        if fiber is None:
            raise AssertionError("a thread without a fiber was given the turn")
        fiber.run()
        _IDLE.append(self)
        return fiber.scheduler.play()


_IDLE: list[_Thread] = []
os.register_at_fork(after_in_child=_IDLE.clear)


class Fiber:
    """One blocking function. `current` is the fiber that runs now, None while the scheduler picks."""

    current: "Fiber | None" = None

    def __init__(self, scheduler: Scheduler, process: Process, body: Callable[[], object]) -> None:
        self.scheduler = scheduler
        self.process = process
        self._body = body
        self._thread = _IDLE.pop() if _IDLE else _Thread()
        self._thread.fiber = self
        self._waking = 0
        self.done = False
        scheduler.soon(process, self._resume)

    def run(self) -> None:
        """In its thread, once."""
        Fiber.current = self
        try:
            if self.process.alive:
                self._body()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - told to whoever looks at the fiber
            self.scheduler.failure = error
        self.done = True
        Fiber.current = None

    def _resume(self) -> None:
        if not self.done:
            self.scheduler.turn = self._thread

    def park(self) -> None:
        """Give up the turn until `wake` or a timer resumes it. Called in the fiber."""
        Fiber.current = None
        self._thread.hand_on(self.scheduler.play())
        Fiber.current = self
        if not self.process.alive:
            raise Killed

    def timer(self, delay: float) -> Callable[[], None]:
        """What wakes the fiber from its present wait, once; it also happens by itself after `delay`."""
        self._waking += 1
        mine = self._waking

        def wake() -> None:
            if self._waking == mine:
                self._waking += 1
                self.scheduler.soon(self.process, self._resume)

        if delay < float("inf"):
            self.scheduler.after(delay, self.process, wake)
        return wake

    def sleep(self, delay: float) -> None:
        self.timer(delay)
        self.park()

    def unwind(self) -> None:
        """At the end of a run: end the thread's work, without any effect."""
        self.process.alive = False
        while not self.done:
            self._thread.lead()


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
