"""
Lanes: one short in-memory queue per next hop, worked on by as many deliveries at once as the next hop may have.

Guarantees: a lane never holds more than its window, so the queue proper stays on disk; a slow or silent next hop
keeps only its own lane waiting; released mail and live mail of a lane take turns. A recipient in a lane is claimed.
A delivery that its next hop has answered makes room for the next one while its outcome is being committed; of those
are at most `SETTLING` in a worker, for as many may come twice if the machine dies just then.

On failure: an error while handling work is given to `failed`, which must leave the recipients safe in the spool;
the lane goes on.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from router.deliver.claims import Claims
from router.deliver.place import Place
from router.model.envelope import Work

log = logging.getLogger(__name__)

_SET_ASIDE = 60.0
"""Seconds until recipients that could not even be put off are given back: less would spin at what is wrong."""
_IN_A_ROW = 8
"""Pieces of work until others get their turn at the latest: what only hands mail over to another lane never waits."""
SETTLING = 100
"""Deliveries that have been answered and are not committed, beyond those that have a place."""
ROUTE_LANE = ""
"""Recipients whose next hop is not known yet; it never rests and cannot be paused."""

Handle = Callable[[str, Work, Place], Awaitable[None]]


class Lane:
    """Waiting and running work of one next hop."""

    __slots__ = ("active", "first", "limit", "name", "paused", "resting_until", "running", "turn", "waiting")

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.active = 0
        self.running = 0
        self.first: deque[Work] = deque()
        self.waiting: deque[Work] = deque()
        self.turn = False
        self.paused = False
        self.resting_until = 0.0

    def pick(self) -> Work | None:
        """Released mail and live mail in turn, so that neither starves the other."""
        self.turn = not self.turn
        if self.first and (self.turn or not self.waiting):
            return self.first.popleft()
        return self.waiting.popleft() if self.waiting else None


class Lanes:
    """
    All lanes of a worker. Event-loop thread only. Times are monotonic seconds.

    `handle` dispatches one piece of work and returns when its outcomes are committed; it may leave its place before.
    `low` is called when a lane has room again.
    """

    def __init__(
        self,
        handle: Handle,
        failed: Callable[[str, Work, BaseException], Awaitable[None]],
        limit: Callable[[str], int],
        claims: Claims,
        monotonic: Callable[[], float],
        window: int = 200,
    ) -> None:
        self._handle = handle
        self._failed = failed
        self._limit = limit
        self._claims = claims
        self._monotonic = monotonic
        self._low: Callable[[str], None]
        self._window = window
        self._lanes: dict[str, Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: frozenset[str] = frozenset()
        self._stopped = True
        self._suspended = False
        self._settling = 0

    def attach(self, low: Callable[[str], None]) -> None:
        """The feeder feeds the lanes and is told by them: called once, before anything starts."""
        self._low = low

    def relimit(self) -> None:
        """The limits have changed."""
        for lane in tuple(self._lanes.values()):
            lane.limit = max(1, self._limit(lane.name))
            self._fill(lane)

    def start(self) -> None:
        """Deliveries may begin."""
        self._stopped = False
        for lane in tuple(self._lanes.values()):
            self._fill(lane)

    async def stop(self, grace: float) -> None:
        """Begin nothing new, put back what waits, and give what runs `grace` seconds to end; then cancel it."""
        self._stopped = True
        for lane in self._lanes.values():
            self._put_back(lane)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def room(self, name: str) -> int:
        """How many more recipients the feeder may bring; 0 while the lane rests, is paused or is stopped."""
        lane = self._lane(name)
        if not self._awake(lane):
            return 0
        return max(0, self._window - sum(len(work.recipients) for work in lane.waiting))

    def busy(self, name: str) -> int:
        """Recipients of the lane in memory, waiting or under way (at least; handed-over ones count where they are)."""
        lane = self._lane(name)
        waiting = sum(len(work.recipients) for queue in (lane.first, lane.waiting) for work in queue)
        return waiting + lane.running

    def awake(self, name: str) -> bool:
        """Whether the lane may deliver now."""
        return self._awake(self._lane(name))

    def _awake(self, lane: Lane) -> bool:
        if self._stopped or self._suspended or lane.paused:
            return False
        return not lane.resting_until or lane.resting_until <= self._monotonic()

    def closed(self, name: str) -> bool:
        """
        Whether nothing may begin on the lane by order: paused, stopping, or the routing state is not to be trusted.

        To be asked in the step that registers a delivery: what runs already has seen an earlier answer.
        """
        return self._stopped or self._suspended or name in self._paused

    def rests(self, name: str) -> bool:
        """Whether the next hop could not be talked to a moment ago."""
        lane = self._lanes.get(name)
        return lane is not None and lane.resting_until > self._monotonic()

    def offer(self, name: str, work: Work) -> bool:
        """Take claimed work; False (and the caller keeps the claim) when there is no room for it."""
        lane = self._lane(name)
        if len(lane.waiting) >= self._window or not self._awake(lane):
            return False
        lane.waiting.append(work)
        self._fill(lane)
        return True

    def offer_first(self, name: str, work: Work) -> bool:
        """As `offer`, for released mail; its number is bounded by the releases under way."""
        lane = self._lane(name)
        if not self._awake(lane):
            return False
        lane.first.append(work)
        self._fill(lane)
        return True

    def rest(self, name: str, seconds: float) -> None:
        """The next hop cannot be talked to: begin nothing for a while; what waits goes back to the spool."""
        lane = self._lane(name)
        lane.resting_until = max(lane.resting_until, self._monotonic() + seconds)
        self._put_back(lane)

    def wake(self, name: str) -> None:
        """End a rest now."""
        lane = self._lane(name)
        lane.resting_until = 0.0
        self._low(name)

    def pause(self, names: frozenset[str]) -> None:
        """Exactly these lanes are paused by an operator."""
        resumed = self._paused - names
        self._paused = names
        for name in names:
            lane = self._lane(name)
            lane.paused = True
            self._put_back(lane)
        for name in resumed:
            self._lane(name).paused = False
            self.wake(name)

    def suspend(self, *, suspended: bool) -> None:
        """Begin nothing on any lane while the routing state is not to be trusted; what waits goes back."""
        if suspended == self._suspended:
            return
        self._suspended = suspended
        for lane in tuple(self._lanes.values()):
            if suspended:
                self._put_back(lane)
            else:
                self._low(lane.name)

    def resting(self) -> dict[str, float]:
        """Seconds of rest left, by lane."""
        now = self._monotonic()
        return {lane.name: lane.resting_until - now for lane in self._lanes.values() if lane.resting_until > now}

    def active(self) -> int:
        return len(self._tasks)

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            self._forget_idle()
            lane = self._lanes[name] = Lane(name, max(1, self._limit(name)))
            lane.paused = name in self._paused
        return lane

    def _forget_idle(self, most: int = 1000) -> None:
        # Lanes of outside domains come and go without end; an idle one keeps no state worth its memory.
        if len(self._lanes) < most:
            return
        now = self._monotonic()
        for lane in tuple(self._lanes.values()):
            busy = lane.active or lane.running or lane.waiting or lane.first
            if not (busy or lane.paused or lane.resting_until > now):
                del self._lanes[lane.name]

    def _put_back(self, lane: Lane) -> None:
        for queue in (lane.first, lane.waiting):
            while queue:
                self._claims.give_back((r.number for r in queue.popleft().recipients), tried=False)

    def _fill(self, lane: Lane) -> None:
        while work := self._next(lane):
            lane.active += 1
            task = asyncio.get_running_loop().create_task(self._work_on(lane, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self, lane: Lane) -> Work | None:
        """What is to be begun on the lane now."""
        return lane.pick() if lane.active < lane.limit and self._awake(lane) else None

    async def _work_on(self, lane: Lane, first: Work) -> None:
        """One piece of work after another while there is some: a task for each costs more than its start."""
        work: Work | None = first
        pieces = 0
        place = Place(partial(self._leave, lane))
        try:
            while work is not None:
                await self._work(lane, work, place)
                pieces += 1
                if pieces % _IN_A_ROW == 0:
                    await asyncio.sleep(0)
                self._vacate(lane, place)
                work = self._next(lane)
                lane.active += 1
                place.occupied = True
                self._ask_for_more(lane)
        finally:
            self._vacate(lane, place)
            self._fill(lane)

    def _leave(self, lane: Lane) -> bool:
        """A delivery was answered and only has to be committed: the next one may begin, unless too many are so far."""
        if self._settling >= SETTLING:
            return False
        self._settling += 1
        lane.active -= 1
        self._fill(lane)
        self._ask_for_more(lane)
        return True

    def _vacate(self, lane: Lane, place: Place) -> None:
        if place.occupied:
            lane.active -= 1
        else:
            self._settling -= 1

    def _ask_for_more(self, lane: Lane) -> None:
        if len(lane.waiting) * 2 <= self._window:
            self._low(lane.name)

    async def _work(self, lane: Lane, work: Work, place: Place) -> None:
        count = len(work.recipients)
        lane.running += count
        try:
            await self._handle(lane.name, work, place)
        except Exception as error:  # noqa: BLE001 - whatever it was, the lane must live and the mail stay queued
            await self._put_off(lane, work, error)
        finally:
            lane.running -= count

    async def _put_off(self, lane: Lane, work: Work, error: Exception) -> None:
        try:
            await self._failed(lane.name, work, error)
        except Exception:
            log.exception("%s could not be put off and waits in memory", work.message.queue_id)
            numbers = [one.number for one in work.recipients]
            asyncio.get_running_loop().call_later(_SET_ASIDE, self._claims.give_back, numbers)
