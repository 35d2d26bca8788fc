"""
The demo from the first process to the verdict: each step is a method, and `run_demo` calls them in order.

Guarantees: the verdict is taken after everything has come to rest, from the records of the stores. Whatever ends the
demo, no process is left behind; its directory stays only when asked for or when the verdict is bad.

On failure: errors of the steps pass to the caller, after everything was cleaned up.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from router.demo.cast import Cast
from router.demo.config import LOOPBACK
from router.demo.movers import Movers, Stop
from router.demo.show import Moment, Show
from router.demo.stage import Stage
from router.demo.verdict import DemoVerdict, Evidence, judge
from router.ledger.load import Load

_TICK = 0.2
_DRAIN = 20.0
"""Seconds for the last mail to reach its store."""


@dataclass(frozen=True, slots=True)
class Options:
    """`users` people move within `seconds`; `rate` messages a second, 0 for as many as it takes."""

    users: int = 200
    seconds: float = 15.0
    workers: int = 2
    rate: float = 100.0
    parallel: int = 8
    copy: float = 0.25
    keep: bool = False


class Demo:
    """One run. Call the steps in their order, and `close` at the end."""

    def __init__(self, options: Options, show: Show) -> None:
        self.options = options
        self.cast = Cast.of(options.users)
        self._show = show
        self._stop = Stop()
        self._began = time.monotonic()
        self.stage = Stage(self.cast, options.workers, self._stop)
        self._load: Load
        self._movers: Movers
        self._traffic_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def set_up(self) -> None:
        """Stores, people, relay. Blocks."""
        stage, say = self.stage, self._show.line
        stage.open_stores()
        ports = ", ".join(f"{name} on {store.port}" for name, store in stage.stores.items())
        say(f"stores on {LOOPBACK}: {ports}")
        say(f"imported {stage.import_users()} mailboxes from {stage.directory / 'users.csv'}")
        stage.start_relay()
        say(f"sluice serves on {LOOPBACK}:{stage.port} with {self.options.workers} workers, pid {stage.relay.pid}")

    def move_people(self) -> None:
        """Traffic and moves together. Blocks until all moves are made and the time is over."""
        options = self.options
        self._load = Load(LOOPBACK, self.stage.port, self.cast.traffic(options.rate))
        self._movers = Movers(
            self.stage.office,
            self.cast,
            self._stop,
            seconds=options.seconds,
            parallel=options.parallel,
            copy=options.copy,
        )
        self._show.line(f"moving {len(self.cast.moved)} people, {options.parallel} at a time, while mail comes in")
        asyncio.run(self._run_traffic())

    async def _run_traffic(self) -> None:
        begin = time.monotonic()
        loop = asyncio.get_running_loop()
        traffic = loop.create_task(self._load.run())
        moving = loop.create_task(asyncio.to_thread(self._movers.run))
        try:
            while not moving.done() or time.monotonic() < begin + self.options.seconds:
                await asyncio.sleep(_TICK)
                self._show.moment(self._moment(begin))
            await moving
            self._load.stop()
            await traffic
        finally:
            self._stop.set()
            self._load.stop()
        self._traffic_seconds = time.monotonic() - begin

    def _moment(self, begin: float) -> Moment:
        movers, messages = self._movers, len(self._load.submissions)
        rate = messages / max(time.monotonic() - begin, _TICK)
        return Moment(len(movers.moves), movers.total, movers.copying, messages, rate)

    def judge(self) -> DemoVerdict:
        """Wait until everything has come to rest, then count. Blocks."""
        stage = self.stage
        stage.books.drain(_DRAIN)
        return judge(
            Evidence(
                cast=self.cast,
                moves=tuple(self._movers.moves),
                submissions=self._load.submissions,
                arrivals={name: store.arrivals() for name, store in stage.stores.items()},
                kept=stage.books.kept(),
                delivered=stage.books.delivered(),
                totals=stage.books.totals(),
                unbalanced=stage.books.unbalanced(),
                records=stage.office.records(person.address for person in self.cast.people),
                undelivered=[f"{entry.state}: {entry.reason}" for entry in stage.books.queue()],
                alarms=stage.office.alarms(),
                traffic_seconds=self._traffic_seconds,
            )
        )

    def close(self) -> None:
        """End everything. Idempotent."""
        self._stop.set()
        self.stage.close()


def run_demo(options: Options, show: Show, finish: Callable[[Demo, DemoVerdict], None]) -> DemoVerdict:
    """
    Run it and clean up; the verdict. `finish` is told of it while everything still runs.

    The directory stays with `options.keep`, and when the verdict is bad. Raises `KeyboardInterrupt` for SIGINT,
    SIGTERM and SIGHUP. For the main thread.
    """
    with _terminable():
        demo = Demo(options, show)
        try:
            with show:
                demo.set_up()
                demo.move_people()
                verdict = demo.judge()
            demo.stage.keep_files = options.keep or not verdict.ok
            finish(demo, verdict)
            demo.stage.relay.stop()
        finally:
            demo.close()
    return verdict


@contextmanager
def _terminable() -> Iterator[None]:
    """A closed terminal and SIGTERM are as good as Ctrl-C, which works even where a shell had it ignored."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: interrupt, signal.SIGHUP: interrupt}
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
