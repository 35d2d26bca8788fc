"""
Brings due recipients from the spool to their lanes, a window at a time.

Guarantees: the queue is never read into memory beyond the lanes' windows; each lane is fed apart, so a long queue of
one next hop does not hide the others; a row is claimed only if nobody touched it while it was read. Mail that is due
farther ahead than any back-off puts it (a clock was set back since) is brought near, at the start and once an hour.

On failure: a read that fails is logged and tried again at the next tick; nothing is lost, the rows are on disk.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from router.deliver.claims import Claims
from router.deliver.lanes import Lanes
from router.errors import SluiceError
from router.model.envelope import Work
from router.ports import Clock, Queue

REVIVAL = 60.0
"""Seconds between two looks at parked mail whose time to be tried again, or returned, has come."""

LOOK_AHEAD = 3600.0
"""Seconds between two looks for mail that is due too far ahead."""
FARTHEST = 86400.0

log = logging.getLogger(__name__)


class Feeder:
    """
    One task per worker. `tick` is the longest wait, in seconds, before due mail is noticed; `batch` the most
    recipients read at once; `farthest` tells how many seconds ahead mail may be due at most.
    """

    def __init__(
        self,
        queue: Queue,
        lanes: Lanes,
        claims: Claims,
        clock: Clock,
        *,
        tick: float = 0.5,
        batch: int = 100,
        farthest: Callable[[], float] = lambda: FARTHEST,
    ) -> None:
        self._queue = queue
        self._lanes = lanes
        self._claims = claims
        self._clock = clock
        self._tick = tick
        self._batch = batch
        self._farthest = farthest
        self._next_look_ahead = 0.0
        self._more: set[str] = set()
        self._next_revival = 0.0
        self._signal = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="feeder")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def behind(self, lane: str) -> None:
        """Work of `lane` was left in the spool for want of room: read it when there is room again."""
        self._more.add(lane)

    def low(self, lane: str) -> None:
        """The lane has room again."""
        if lane in self._more:
            self._signal.set()

    def nudge(self) -> None:
        """Due times have changed: look now."""
        self._signal.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick):
                    await self._signal.wait()
            self._signal.clear()
            try:
                await self.feed()
            except SluiceError as error:
                log.warning("the queue could not be read: %s", error)
                await asyncio.sleep(self._tick)
            except Exception:
                # Nobody else brings mail to the lanes: whatever it was, go on.
                log.exception("the queue could not be read")
                await asyncio.sleep(self._tick)

    async def feed(self) -> None:
        """One round over all lanes that have something due."""
        now = self._clock.wall()
        if self._clock.monotonic() >= self._next_revival:
            self._next_revival = self._clock.monotonic() + REVIVAL
            await self._queue.revive(now)
        lanes = await self._queue.lanes(now)
        if self._clock.monotonic() >= self._next_look_ahead:
            self._next_look_ahead = self._clock.monotonic() + LOOK_AHEAD
            for lane, _ in lanes:
                await self._queue.wake(lane, now + self._farthest())
        for lane, due in lanes:
            if due <= now:
                await self._feed_lane(lane, now)

    async def _feed_lane(self, lane: str, now: float) -> None:
        room = min(self._lanes.room(lane), self._batch)
        if room <= 0:
            self._more.add(lane)
            return
        # Rows already in a window come back in this read too: ask for that many more, or they hide the rest.
        limit = room + self._lanes.busy(lane)
        found, free = await self._read(lane, now, limit)
        if not free and found >= limit:
            # Rows of this lane that were handed over to others in memory hide the rest; nobody counts those.
            limit = room + len(self._claims)
            found, free = await self._read(lane, now, limit)
        (self._more.add if found >= limit else self._more.discard)(lane)
        for work in free:
            self._claims.take(r.number for r in work.recipients)
            if not self._lanes.offer(lane, work):
                self._claims.give_back((r.number for r in work.recipients), tried=False)
                self._more.add(lane)
                return

    async def _read(self, lane: str, now: float, limit: int) -> tuple[int, list[Work]]:
        """How many recipients are due, at most `limit`, and which of them may be taken: at once, before any await."""
        with self._claims.reading() as began:
            works = await self._queue.due(lane, now, limit)
            free = self._claims.fresh(works, began)
        return sum(len(work.recipients) for work in works), free
