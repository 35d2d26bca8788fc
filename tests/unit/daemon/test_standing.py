"""What a spool remembers of the control database: the highest epoch that was in force here, and that once."""

import asyncio
from types import SimpleNamespace
from typing import Any

from router.daemon.standing import SpoolStanding
from router.model.change import ChangeSet


async def test_each_epoch_that_comes_is_remembered_and_then_it_rests() -> None:
    remembered: list[int] = []
    running: list[asyncio.Task[None]] = []

    async def remember(_uuid: str, epoch: int) -> None:
        remembered.append(epoch)
        if epoch == 5:
            standing.applied(ChangeSet(7, (), {}, frozenset()))
        await asyncio.sleep(0)

    spool: Any = SimpleNamespace(number=1, remember=remember)
    nothing: Any = None
    standing = SpoolStanding(
        spool, nothing, nothing, 0.0, lambda work: running.append(asyncio.ensure_future(work)), lambda: None
    )
    standing.applied(ChangeSet(5, (), {}, frozenset()))
    await asyncio.wait_for(asyncio.gather(*running), 60)
    assert remembered == [5, 7]
    assert len(running) == 1
