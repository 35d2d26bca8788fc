"""
The workers of a simulated site: the product's `Worker`, started, killed, stopped and started again.

Replaced are only the edges: the spool's disk, the control database's file, the stores, the listeners, the clocks.

Guarantees: a killed worker does nothing more; its lock is free at that moment and its connections break. On failure:
an exception that nobody in a worker handles ends the run.
"""

import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from router.classify.rules import load_rules
from router.daemon.worker import Worker, WorkerOptions
from router.deliver.inflight import InFlight
from router.errors import SluiceError
from router.settings.schema import Settings
from support.simulation.fibers import Fiber
from support.simulation.loop import SimLoop
from support.simulation.network import SETTLE, Network, SimSenders
from support.simulation.scheduler import Process, Scheduler
from support.simulation.site_database import DOMAIN, STORES, SharedState, SimDatabase
from support.simulation.spool_disk import SimSpool, SpoolDisk

START = 1_700_000_000.0
NODE = "node"
SUPERVISOR = Process("supervisor")
_RESTART = 0.05


def make_settings() -> Settings:
    """Three stores, one domain. A retry comes so late that only a release, or the end of the run, brings it about."""
    stores = {
        name: {"role": "new" if name == "new" else "old", "hosts": [f"{name}.example:25"], "settle": SETTLE}
        for name in STORES
    }
    for store in stores.values():
        store["max_connections"] = 4
    return Settings.model_validate(
        {
            "hostname": "mx.example.edu",
            "state_dir": "/nowhere",
            "workers": 2,
            "listen": [{"address": "127.0.0.1", "port": 25}],
            "postmaster": "root@example.edu",
            "stores": stores,
            "domains": {DOMAIN: {}},
            "retry": {"first": 600.0, "factor": 1.0, "longest": 600.0, "lifetime": 86400.0},
            "safety": {"protect": 5 * 86400.0},
            "fingerprint": "one",
        }
    )


SETTINGS = make_settings()
RULES = load_rules(SETTINGS)


class Clock:
    """The wall clock can be set; the other one goes with the scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.set_by = 0.0
        self.skipped = 0.0
        """Seconds that the end of a run leaves out on both clocks."""

    def wall(self) -> float:
        return START + self._scheduler.now + self.set_by + self.skipped

    def monotonic(self) -> float:
        return self._scheduler.now + self.skipped


class Silence:
    """An observer of the data plane that keeps nothing."""

    def received(self, *_: object) -> None:
        return None

    removed = rejected = outcome = received


class SimWorker(Worker):
    """The product's worker on simulated edges."""

    def __init__(self, home: "Slot", loop: SimLoop, process: Process) -> None:
        options = WorkerOptions(Path("/nowhere"), home.number, home.disk.number, listen=(0,), workers=2)
        super().__init__(home.settings, options, Silence())
        self._clock = home.clock  # type: ignore[assignment]
        self._home = home
        self._loop = loop
        self._process = process

    async def _open(self, stack: AsyncExitStack) -> None:
        home, wall = self._home, self._home.clock.wall
        self._spool = await SimSpool.start(home.disk, self._loop, self._process, wall)
        stack.push_async_callback(self._spool.close)
        home.opened(self._spool)
        self._database = SimDatabase(home.shared, self._process)
        self._connect(stack, NODE, wall)
        home.watch(self._inflight, self)

    def _make_senders(self, settings: Settings) -> Any:
        return SimSenders(self._home.network, self._process)

    @property
    def plane(self) -> Any:
        return self._wiring.plane

    @property
    def incarnation(self) -> str:
        return self._follower._incarnation


class Door:
    """The listeners of a worker: open while it takes mail."""

    def __init__(self, settings: Settings, receiver: Any, trace: Any, clock: Any, workers: int) -> None:
        self.receiver = receiver
        self.is_open = False

    async def open(self, descriptors: Sequence[int]) -> None:
        self.is_open = True

    async def drain(self, grace: float) -> None:
        self.is_open = False

    async def use(self, settings: Settings, receiver: Any) -> None:
        self.receiver = receiver

    async def renew(self) -> None:
        return None


class Idle:
    """In place of what has no part in the promises (the keeper of alarms)."""

    def __init__(self, *_: object) -> None:
        return None

    async def keep(self) -> None:
        return None


class Slot:
    """One place for a worker: its spool's disk, and the process that has it now."""

    def __init__(
        self,
        number: int,
        shared: SharedState,
        network: Network,
        clock: Clock,
        slow: Callable[[], float],
        watch: Callable[["Slot", InFlight, SimWorker], None],
        opened: Callable[["Slot", SimSpool], None],
    ) -> None:
        self.number = number
        self.settings = SETTINGS
        self.disk = SpoolDisk(number + 1)
        self.shared = shared
        self.network = network
        self.clock = clock
        self._slow = slow
        self._watch = watch
        self._opened = opened
        self._lives = 0
        self.kept: list[object] = []
        self.process: Process | None = None
        self.worker: SimWorker | None = None
        self.loop: SimLoop | None = None
        self.task: Any = None
        self.wanted = False
        """Whether the supervisor starts another process when this one ends."""

    def watch(self, inflight: InFlight, worker: SimWorker) -> None:
        self._watch(self, inflight, worker)

    def opened(self, spool: SimSpool) -> None:
        self._opened(self, spool)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.alive and self.task is not None and not self.task.done()

    @property
    def door(self) -> Door | None:
        """Where mail is taken now, if anywhere."""
        front = self.worker._front if self.running and self.worker is not None else None
        return front if isinstance(front, Door) and front.is_open else None

    def start(self) -> None:
        """A new process, as soon as the former one has ended."""
        self.wanted = True
        if self.running:
            return
        if self.process is not None:
            self.process.alive = False
        self._lives += 1
        scheduler = self.shared.scheduler
        self.process = Process(f"worker {self.number}.{self._lives}")
        self.loop = SimLoop(scheduler, self.process, self._slow)
        self.worker = SimWorker(self, self.loop, self.process)
        self.kept.append((self.loop, self.worker))
        scheduler.note(f"{self.process.name} starts")
        self.task = self.loop.create_task(self.worker.run())
        self.task.add_done_callback(self._ended)

    def _ended(self, task: Any) -> None:
        """A worker may end because of an outage; any other error is a finding."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, SluiceError):
            self.shared.scheduler.failure = error
        if self.wanted:
            self.shared.scheduler.after(_RESTART, SUPERVISOR, self._again)

    def _again(self) -> None:
        if self.wanted:
            self.start()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.running:
            self.wanted = False
            self.shared.scheduler.note(f"{self.process.name} is killed")
            self.process.alive = False
            self.network.died(self.process)

    def stop(self) -> None:
        """SIGTERM."""
        if self.running and self.loop is not None and signal.SIGTERM in self.loop.signals:
            self.shared.scheduler.note(f"{self.process.name if self.process else ''} is told to stop")
            self.wanted = False
            self.loop.signals[signal.SIGTERM]()


def fiber_thread(scheduler: Scheduler, fibers: list[Fiber]) -> Any:
    """`threading.Thread` for the product's follower: a fiber of the worker that starts it."""

    class Thread:
        def __init__(self, *, target: Callable[[], object], name: str, daemon: bool) -> None:
            self._target = target
            self._fiber: Fiber | None = None

        def start(self) -> None:
            from asyncio import get_running_loop  # noqa: PLC0415 - in the worker that starts it

            loop: Any = get_running_loop()
            self._fiber = Fiber(scheduler, loop._process, self._target)
            fibers.append(self._fiber)

        def join(self) -> None:
            while self._fiber is not None and not self._fiber.done:
                current = Fiber.current
                if current is None:
                    raise AssertionError("a thread was joined on the loop")
                current.sleep(0.005)

    return Thread
