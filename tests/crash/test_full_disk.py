"""
A state directory without space, without inodes, or gone read-only, on an ext4 of its own: 4xx, never a lost message,
deliveries go on where they can, and everything goes on when the disk does.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from support.bursts import Bursts, acknowledged
from support.loop_disk import LoopDisk
from support.site import Site, StoreAt

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.load import Fate, Submission
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PEOPLE = [f"p{number}@example.edu" for number in range(4)]
HUNG = Behaviour(hang=frozenset({Stage.CONNECT}))
LIMITS = {
    "message_size_limit": "1 MiB",
    "limits": {"minimum_free": "1 MiB", "minimum_free_inodes": 0},
}


@pytest.fixture
async def site(tmp_path: Path, disk: LoopDisk, store: RecordingStore) -> AsyncIterator[Site]:
    at = [StoreAt("old", store.port)]
    async with Site(tmp_path, at, users=dict.fromkeys(PEOPLE, "old"), settings=LIMITS) as found:
        yield found


async def some(
    bursts: Bursts, seconds: float = 1.0, until: Callable[[Sequence[Submission]], object] = acknowledged
) -> list[Submission]:
    """What was said to messages of all sizes in a time, and until that was said which is waited for."""
    before = len(bursts.submissions)
    bursts.begin()
    await asyncio.sleep(seconds)
    await bursts.until(lambda said: bool(until(said)))
    await bursts.end()
    return bursts.submissions[before:]


def codes(said: Sequence[Submission]) -> set[int]:
    """Replies that refused something. DATA without a recipient is 503, which says nothing of the mail."""
    found = {code for one in said for code in one.codes if code >= 400}
    return found | {one.dot_code for one in said if one.dot_code >= 400 and min(one.codes) < 400}


def fill(disk: LoopDisk, keep: int) -> Path:
    """Take all space but so many octets."""
    path = disk.path / "filler"
    found = os.statvfs(disk.path)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - keep)
    return path


async def test_inv_46_full_disk_refuses_for_a_time_and_empties_itself(
    site: Site, disk: LoopDisk, store: RecordingStore
) -> None:
    bursts = Bursts(site, [store], PEOPLE)
    store.behaviour = HUNG
    assert not codes(await some(bursts, 0.5))
    filler = await asyncio.to_thread(fill, disk, 400_000)
    refused = codes(await some(bursts, 3.0, codes))
    assert refused
    assert refused <= {421, 451, 452}
    store.behaviour = Behaviour()
    assert await site.drained(60) == 0, "a full disk takes outcomes"
    filler.unlink()
    await back(bursts)
    await bursts.judge()


async def test_inv_46_no_inodes_refuses_large_mail_only_for_a_time(
    site: Site, disk: LoopDisk, store: RecordingStore
) -> None:
    bursts = Bursts(site, [store], PEOPLE)
    crowd = disk.path / "crowd"
    await asyncio.to_thread(use_up_inodes, crowd)
    said = await some(bursts, 2.0, lambda said: bool(codes(said)) and acknowledged(said) > 0)
    assert codes(said) == {452}
    assert any(Fate.ACKNOWLEDGED in one.fates for one in said), "small bodies need no inode"
    for file in crowd.iterdir():
        file.unlink()
    await back(bursts)
    await bursts.judge()


def use_up_inodes(crowd: Path) -> None:
    crowd.mkdir()
    first = crowd / "0"
    first.touch()
    number = 0
    try:
        while True:
            number += 1
            (crowd / str(number)).touch()
    except OSError:
        return


async def test_inv_47_disk_gone_read_only_refuses_for_a_time_and_a_restart_heals(
    site: Site, disk: LoopDisk, store: RecordingStore
) -> None:
    bursts = Bursts(site, [store], PEOPLE)
    store.behaviour = HUNG
    assert not codes(await some(bursts, 0.5))
    disk.break_down()
    refused = codes(await some(bursts, 2.0, codes))
    assert refused
    assert refused <= {421, 451, 452}
    assert len(site.relay.tail()) < 200_000
    await asyncio.to_thread(site.kill)
    site.leave_disk()
    await asyncio.to_thread(disk.remount)
    store.behaviour = Behaviour()
    await asyncio.to_thread(site.start)
    await back(bursts)
    await bursts.judge()


async def back(bursts: Bursts) -> None:
    """Mail of all sizes is taken again."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not codes(await some(bursts, 0.5, bool)):
            return
    pytest.fail("mail is still refused")
