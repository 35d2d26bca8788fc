"""
SIGKILL at random moments under load, again and again: nothing is lost, and nothing comes twice but what a store took at
the moment of a kill. The kills that hit a hold or a release are in tests/scenario/test_kill_under_load.py.
"""

import asyncio
import random
import time
from pathlib import Path

import pytest
from support.bursts import Bursts
from support.lives import Lives, minutes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400 + 60 * minutes())]

PEOPLE = [f"p{number}@example.edu" for number in range(6)]
SHORT = 6
"""Kills of the short run."""
CONNECTIONS = 64
"""More deliveries than can be under way at once."""


async def test_inv_3_kills_at_random_moments_under_load(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    draw = random.Random(seed)
    end, kills = time.monotonic() + 60 * minutes() / 2, 0
    async with Lives(tmp_path, PEOPLE) as lives:
        bursts = Bursts(lives.site, [lives.old, lives.new], PEOPLE, seed)
        while kills < SHORT or time.monotonic() < end:
            bursts.begin()
            for _ in range(SHORT):
                await kill(lives, bursts, draw.uniform(0.1, 1.2))
                kills += 1
            await lives.live()
            await bursts.until(lambda _: bursts.acknowledged > 5 * kills)  # noqa: B023 - awaited here
            await bursts.end()
            verdict = await bursts.judge()
            await lives.end()
        assert "CRITICAL" not in lives.nursery.said()
    print(f"{kills} kills, {bursts.acknowledged} messages acknowledged: {verdict.balance}")  # noqa: T201 - as above
    assert bursts.acknowledged > 5 * kills
    assert verdict.balance.extra == verdict.balance.excused <= kills * CONNECTIONS


async def kill(lives: Lives, bursts: Bursts, after: float) -> None:
    """One life of a worker."""
    worker = await lives.live()
    await asyncio.sleep(after)
    since = time.monotonic()
    await lives.kill(worker)
    await asyncio.to_thread(bursts.note)
    bursts.crash(since)
