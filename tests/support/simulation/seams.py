"""
What of the product's modules is exchanged while a simulation runs: threads, clocks, and nothing that decides.

Guarantees: everything is put back at the end of `installed`. On failure: nothing here fails.
"""

import gc
import logging
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from router.control import follower, tail
from router.daemon import worker
from router.deliver.inflight import Entry
from router.spool import writer
from support.simulation.fibers import Fiber, SimEvent, SimFuture
from support.simulation.relay import RULES, Door, Idle, fiber_thread
from support.simulation.scheduler import Scheduler
from support.simulation.site_database import SharedState

HOUSEKEEPING = 2.0
_LOOK = 1.0
_RUNS = 20
_LITTLE = 100
"""Between two collections of garbage: never within a run, for what a dead process leaves must not run on."""


class Present:
    """The run that goes on now; there is one at a time in a process."""

    scheduler: Scheduler
    shared: SharedState
    fibers: list[Fiber]
    numbers = 0
    runs = 0

    @classmethod
    def begin(cls, scheduler: Scheduler, shared: SharedState) -> None:
        cls.scheduler, cls.shared, cls.fibers, cls.numbers = scheduler, shared, [], 0
        random.seed(scheduler.random.random())

    @classmethod
    def end(cls) -> None:
        for fiber in cls.fibers:
            fiber.unwind()
        cls.fibers = []
        cls.runs += 1
        if cls.runs % _RUNS == 0:
            gc.collect()

    @classmethod
    def forget(cls) -> None:
        for name in ("scheduler", "shared"):
            if hasattr(cls, name):
                delattr(cls, name)


class PollEvent(SimEvent):
    """A poll that finds nothing does nothing: it is left out until there is news, or a second has passed."""

    def wait(self, timeout: float | None = None) -> bool:
        fiber = Fiber.current
        if timeout is None or timeout > 0.1 or fiber is None or self._set:
            return super().wait(timeout)
        self._wake = fiber.timer(_LOOK)
        Present.shared.wait_for_news(self._wake)
        fiber.park()
        self._wake = None
        return self._set


def _now() -> float:
    return Present.scheduler.now


def _thread(**keys: Any) -> Any:
    return fiber_thread(Present.scheduler, Present.fibers)(**keys)


def _name() -> str:
    """In place of a uuid."""
    Present.numbers += 1
    return f"incarnation-{Present.numbers}"


async def _to_thread(work: Any, *args: Any, **keys: Any) -> Any:
    """`asyncio.to_thread`, in a fiber: what it does may wait."""
    import asyncio  # noqa: PLC0415 - the real one

    loop: Any = asyncio.get_running_loop()
    future = loop.create_future()

    def body() -> None:
        try:
            value, error = work(*args, **keys), None
        except Exception as found:  # noqa: BLE001 - for the caller
            value, error = None, found

        def answer() -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        loop.call_soon_threadsafe(answer)

    Present.fibers.append(Fiber(Present.scheduler, loop._process, body))
    return await future


@contextmanager
def installed() -> Iterator[None]:
    """The edges of the product are the simulation's."""
    thread = SimpleNamespace(Thread=_thread, Event=SimEvent)
    polling = SimpleNamespace(Event=PollEvent)
    clock = SimpleNamespace(monotonic=_now, time=_now)
    changes: list[tuple[Any, str, Any]] = [
        (follower, "threading", thread),
        (follower, "Future", SimFuture),
        (tail, "threading", polling),
        (tail, "time", clock),
        (tail, "HOUSEKEEPING", HOUSEKEEPING),
        (writer, "monotonic", _now),
        (worker, "AlarmKeeper", Idle),
        (worker, "Front", Door),
        (worker, "load_rules", lambda _settings: RULES),
        (worker, "uuid", SimpleNamespace(uuid4=_name)),
        (Entry, "__hash__", lambda entry: entry.number),
        (__import__("asyncio"), "to_thread", _to_thread),
    ]
    former, random_state = logging.root.manager.disable, random.getstate()
    logging.disable(logging.CRITICAL)
    patches = [patch.object(where, name, value) for where, name, value in changes]
    hook, collecting = sys.unraisablehook, gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.unraisablehook = lambda _left: None  # coroutines of dead processes that are cleared away
    try:
        for one in patches:
            one.start()
        yield
    finally:
        Present.forget()
        while gc.collect() > _LITTLE:
            pass  # what a coroutine was keeping is only then garbage itself
        gc.unfreeze()
        sys.unraisablehook = hook
        if collecting:
            gc.enable()
        for one in reversed(patches):
            one.stop()
        logging.disable(former)
        random.setstate(random_state)
