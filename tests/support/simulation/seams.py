"""
What of the product's modules is exchanged while a simulation runs: threads, clocks, and nothing that decides.

Guarantees: everything is put back at the end of `installed`. On failure: nothing here fails.
"""

import asyncio
import gc
import logging
import os
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
from support.simulation.loop import SimLoop
from support.simulation.relay import RULES, Door, Idle, fiber_thread
from support.simulation.scheduler import Process, Scheduler
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
    collecting = True
    """Whether what runs leave is cleared away; not in a process that ends with them."""

    @classmethod
    def begin(cls, scheduler: Scheduler, shared: SharedState) -> None:
        cls.scheduler, cls.shared, cls.fibers, cls.numbers = scheduler, shared, [], 0
        # asyncio's list of all tasks would find those of former runs under the same numbers.
        asyncio.tasks._all_tasks.data.clear()  # type: ignore[attr-defined]
        random.seed(scheduler.random.random())

    @classmethod
    def end(cls) -> None:
        for fiber in cls.fibers:
            fiber.unwind()
        cls.fibers = []
        cls.runs += 1
        if cls.collecting and cls.runs % _RUNS == 0:
            _collect()

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


def _collect() -> int:
    """Clear away what dead processes left; what their coroutines still do as they end, they do in a loop of nobody."""
    nobody = Process("nobody")
    nobody.alive = False
    asyncio.events._set_running_loop(SimLoop(Scheduler(0), nobody, lambda: 0.0))
    try:
        return gc.collect()
    finally:
        asyncio.events._set_running_loop(None)


@contextmanager
def installed() -> Iterator[None]:
    """The edges of the product are the simulation's, and garbage is collected between runs only."""
    collecting, hook = gc.isenabled(), sys.unraisablehook
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.unraisablehook = lambda _left: None  # coroutines of dead processes that are cleared away
    try:
        with exchanged():
            try:
                yield
            finally:
                Present.forget()
                # One that ends coroutines frees nothing itself; what they were keeping is only then garbage.
                while max(_collect(), _collect()) > _LITTLE:
                    pass
    finally:
        gc.unfreeze()
        sys.unraisablehook = hook
        if collecting:
            gc.enable()


def _processor(all_of_them: set[int]) -> int:
    """One for all fibers: on two, each change of threads would begin with cold caches, a third of the whole time."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")[2:]
    return sorted(all_of_them)[int(worker or os.getpid()) % len(all_of_them)]


@contextmanager
def exchanged() -> Iterator[None]:
    """The same, without a thought of garbage. The process keeps to one processor meanwhile."""
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
        (asyncio, "to_thread", _to_thread),
    ]
    former, random_state = logging.root.manager.disable, random.getstate()
    logging.disable(logging.CRITICAL)
    patches = [patch.object(where, name, value) for where, name, value in changes]
    processors = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {_processor(processors)})
        for one in patches:
            one.start()
        yield
    finally:
        Present.forget()
        os.sched_setaffinity(0, processors)
        for one in reversed(patches):
            one.stop()
        logging.disable(former)
        random.setstate(random_state)
