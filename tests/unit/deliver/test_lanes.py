"""Lanes by themselves: they share the event loop with everything else."""

import asyncio
import time
from typing import Any, cast

from router.deliver.claims import Claims
from router.deliver.lanes import ROUTE_LANE, SETTLING, Handle, Lanes
from router.deliver.place import Place
from router.model.envelope import QueuedMessage, Work

PIECES = 100
WORK = Work(cast("QueuedMessage", None), ())


async def failed(*_: Any) -> None:
    raise AssertionError


def started(handle: Handle, limit: int) -> Lanes:
    lanes = Lanes(handle, failed, lambda _lane: limit, Claims(), time.monotonic)
    lanes.attach(lambda _lane: None)
    lanes.start()
    return lanes


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Store:
    """A next hop that answers when it is told to, and a disk that commits when it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Semaphore(0)
        self.commits = asyncio.Semaphore(0)
        self.delivering = self.most = self.answered = self.committed = 0

    async def handle(self, _lane: str, _work: Work, place: Place) -> None:
        self.delivering += 1
        self.most = max(self.most, self.delivering)
        await self.answers.acquire()
        self.delivering -= 1
        self.answered += 1
        place.leave()
        await self.commits.acquire()
        self.committed += 1


def let(gate: asyncio.Semaphore, count: int) -> None:
    for _ in range(count):
        gate.release()


async def test_a_store_that_has_answered_gets_its_next_message_before_the_commit_of_the_last() -> None:
    store = Store()
    lanes = started(store.handle, limit=2)
    for _ in range(6):
        assert lanes.offer("old", WORK)
    await turns()
    assert (store.delivering, store.answered) == (2, 0)
    let(store.answers, 3)
    await turns()
    assert (store.delivering, store.answered, store.committed) == (2, 3, 0)
    let(store.commits, 6)
    let(store.answers, 3)
    await turns()
    assert (store.answered, store.committed, store.most) == (6, 6, 2)
    assert lanes.active() == 0
    await lanes.stop(1.0)


async def test_deliveries_that_wait_for_their_commit_are_bounded() -> None:
    """A disk that hangs: what was delivered meanwhile comes twice if the machine dies now."""
    store = Store()
    lanes = started(store.handle, limit=2)
    let(store.answers, 1000)
    for _ in range(SETTLING + 50):
        assert lanes.offer("old", WORK)
    await turns(1000)
    assert (store.answered, store.committed) == (SETTLING + 2, 0)
    let(store.commits, SETTLING + 50)
    await turns(1000)
    assert store.committed == SETTLING + 50
    assert store.most <= 2
    for _ in range(50):  # nothing of the bound is used up
        assert lanes.offer("old", WORK)
    await turns(1000)
    assert store.answered == SETTLING + 100
    let(store.commits, 50)
    await lanes.stop(1.0)


async def test_a_stop_waits_for_what_has_been_answered() -> None:
    store = Store()
    lanes = started(store.handle, limit=1)
    let(store.answers, 3)
    for _ in range(3):
        assert lanes.offer("old", WORK)
    await turns()
    assert (store.answered, store.committed) == (3, 0)
    stopping = asyncio.ensure_future(lanes.stop(60.0))
    await turns()
    assert not stopping.done()
    let(store.commits, 3)
    await stopping
    assert store.committed == 3


async def test_who_fails_after_leaving_leaves_no_place_too_many() -> None:
    began = running = most = 0
    put_off: list[Work] = []

    async def handle(_lane: str, _work: Work, place: Place) -> None:
        nonlocal began, running, most
        began += 1
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        place.leave()
        place.leave()
        raise ValueError

    async def note(_lane: str, work: Work, _error: BaseException) -> None:
        put_off.append(work)

    lanes = Lanes(handle, note, lambda _lane: 2, Claims(), time.monotonic)
    lanes.attach(lambda _lane: None)
    lanes.start()
    for _ in range(SETTLING + 20):
        assert lanes.offer("old", WORK)
    await turns(1000)
    assert (began, len(put_off), most) == (SETTLING + 20, SETTLING + 20, 2)
    await lanes.stop(1.0)


async def test_work_that_never_waits_leaves_others_their_turn() -> None:
    """Routing that only hands over does not suspend; a whole queue of it in one step would stop every session."""
    done: list[Work] = []

    async def handle(_lane: str, work: Work, _place: Place) -> None:
        done.append(work)

    lanes = started(handle, limit=1)
    for _ in range(PIECES):
        assert lanes.offer(ROUTE_LANE, WORK)
    turns = 0
    while len(done) < PIECES:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= PIECES // 10
    await lanes.stop(1.0)
