"""Lanes by themselves: they share the event loop with everything else."""

import asyncio
import time
from typing import Any, cast

from router.deliver.claims import Claims
from router.deliver.lanes import ROUTE_LANE, Lanes
from router.model.envelope import QueuedMessage, Work

PIECES = 100
WORK = Work(cast("QueuedMessage", None), ())


async def test_work_that_never_waits_leaves_others_their_turn() -> None:
    """Routing that only hands over does not suspend; a whole queue of it in one step would stop every session."""
    done: list[Work] = []

    async def handle(_lane: str, work: Work) -> None:
        done.append(work)

    async def failed(*_: Any) -> None:
        raise AssertionError

    lanes = Lanes(handle, failed, lambda _lane: 1, Claims(), time.monotonic)
    lanes.attach(lambda _lane: None)
    lanes.start()
    for _ in range(PIECES):
        assert lanes.offer(ROUTE_LANE, WORK)
    turns = 0
    while len(done) < PIECES:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= PIECES // 10
    await lanes.stop(1.0)
