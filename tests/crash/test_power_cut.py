"""
Power cut at random moments under load: every acknowledged message is there afterwards, once.

The state directory is on an ext4 of its own, which is shut down without flushing its log: what was not synced is gone.
In half of the rounds no store takes mail before the cut, so that all of it has to survive in the spool; in the others
deliveries are cut off as well. Bodies are on both sides of the limit for files.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bursts import Bursts, acknowledged
from support.lives import Lives, minutes
from support.loop_disk import LoopDisk

from router.ledger.behaviour import Behaviour, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400 + 60 * minutes())]

PEOPLE = [f"p{number}@example.edu" for number in range(6)]
SHORT = 4
"""Rounds of the short run."""
HUNG = Behaviour(hang=frozenset({Stage.CONNECT}))
TAKEN = 5
"""Messages that are acknowledged before the power goes."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    """With room for the log that a cut leaves behind: the relay takes mail only while a large message has a place."""
    with LoopDisk(tmp_path, megabytes=256) as found:
        yield found


async def test_inv_4_power_cuts_under_load_lose_nothing(tmp_path: Path, disk: LoopDisk) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    draw = random.Random(seed)
    end, rounds, idle = time.monotonic() + 60 * minutes() / 2, 0, 0
    async with Lives(tmp_path, PEOPLE) as lives:
        bursts = Bursts(lives.site, [lives.old, lives.new], PEOPLE, seed)
        while rounds < SHORT or time.monotonic() < end:
            rounds += 1
            lives.old.behaviour = HUNG if rounds % 2 else Behaviour()
            idle += not await cut(lives, disk, bursts, draw.uniform(0.2, 1.0))
            lives.old.behaviour = Behaviour()
            worker = await lives.live()
            verdict = await bursts.judge()
            await lives.kill(worker)
        assert "CRITICAL" not in lives.nursery.said()
    print(f"{rounds} cuts, {bursts.acknowledged} messages acknowledged: {verdict.balance}")  # noqa: T201 - as above
    assert bursts.acknowledged > TAKEN * rounds
    assert idle <= rounds / 4, "in most of the rounds mail was taken until the cut"
    assert verdict.balance.extra == verdict.balance.excused


async def cut(lives: Lives, disk: LoopDisk, bursts: Bursts, after: float) -> int:
    """Load on a new worker, and the end of all power after a while; then the disk is back. How many were taken."""
    worker = await lives.live()
    bursts.begin()
    await asyncio.sleep(after)
    await bursts.until(lambda said: acknowledged(said) > TAKEN, 30.0)
    since = time.monotonic()
    await asyncio.to_thread(lives.freeze, worker)
    await asyncio.to_thread(bursts.note)
    await asyncio.to_thread(disk.cut)
    await lives.kill(worker)
    taken = await bursts.end()
    bursts.crash(since)
    lives.site.leave_disk()
    await asyncio.to_thread(disk.remount)
    return taken


async def test_what_was_not_synced_is_gone_after_a_cut(disk: LoopDisk) -> None:
    """The cut is one: without it no test of this file could fail."""
    written, synced = disk.path / "written", disk.path / "synced"
    await asyncio.to_thread(write, written, sync=False)
    await asyncio.to_thread(write, synced, sync=True)
    disk.cut()
    disk.remount()
    assert synced.read_bytes() == b"x"
    assert not written.exists() or written.read_bytes() != b"x"


def write(path: Path, *, sync: bool) -> None:
    with path.open("wb") as file:
        file.write(b"x")
        file.flush()
        if sync:
            os.fsync(file.fileno())
