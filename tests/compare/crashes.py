"""
Kills and power cuts: the same rounds for each relay.

In every second round no next hop takes mail until the relay is dead, so that all of it has to survive in the queue; in
the others deliveries are cut off as well. Messages are small and large.
"""

import asyncio
import random
import time

from compare.bout import HUNG, Bout, Make
from compare.figures import Crashes
from router.ledger.behaviour import Behaviour

DISK = 192
"""Megabytes of the disk that is cut."""
EMPTIED = 4
"""After so many kills all that is queued is delivered, so that it does not grow without an end."""


async def killed(make: Make, rounds: int, seed: int, patience: float = 60.0) -> Crashes:
    """SIGKILL to every process, 0.2 to 1.2 s after load began, so many times."""
    draw = random.Random(seed)
    began = time.monotonic()
    async with Bout(make) as bout:
        await bout.start()
        for number in range(1, rounds + 1):
            _load(bout, number, seed)
            await asyncio.sleep(draw.uniform(0.2, 1.2))
            await bout.kill()
            await bout.end_load()
            bout.behave(Behaviour())
            await bout.start()
            if number % EMPTIED == 0:
                await bout.drained(patience)
        return Crashes(rounds, time.monotonic() - began, await bout.judge(patience))


async def cut(make: Make, rounds: int, seed: int, patience: float = 60.0) -> Crashes:
    """The disk below the queue is gone 0.2 to 1.0 s after load began, so many times; then it is back."""
    draw = random.Random(seed)
    began = time.monotonic()
    async with Bout(make, disk_megabytes=DISK) as bout:
        await bout.start()
        await bout.sync()
        for number in range(1, rounds + 1):
            _load(bout, number, seed)
            await asyncio.sleep(draw.uniform(0.2, 1.0))
            await cut_off(bout)
            bout.behave(Behaviour())
            await bout.start()
            await bout.drained(patience)
        return Crashes(rounds, time.monotonic() - began, await bout.judge(patience))


async def cut_off(bout: Bout) -> None:
    """No power: the disk goes first, so that nothing that dies can write any more. Then it is back."""
    assert bout.disk is not None
    at = time.monotonic()
    await asyncio.to_thread(bout.disk.cut)
    await bout.kill(since=1.0)
    await bout.end_load(until=at)
    bout.relay.leave_disk()
    await asyncio.to_thread(bout.disk.remount)


def _load(bout: Bout, number: int, seed: int) -> None:
    bout.behave(HUNG if number % 2 else Behaviour())
    bout.load(seed * 1000 + number)
