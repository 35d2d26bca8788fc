"""
A disk that mail itself has filled: 452 at MAIL while there is little space, and nothing worse for those who were let in
before; with no octet left deliveries and their journal go on, and the disk empties itself (inv 46).

What a disk filled by others does is in tests/crash/test_full_disk.py.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.bursts import Bursts
from support.large_mail import SENDER, send_large
from support.loop_disk import LoopDisk
from support.site import Site, StoreAt

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.connection import Connection
from router.ledger.stores import RecordingStore
from router.spool.health import RESERVE
from router.spool.options import SpoolOptions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MIB = 1 << 20
ANN = "ann@example.edu"
HUNG = Behaviour(hang=frozenset({Stage.CONNECT}))
MINIMUM = 6 * MIB
AT_ONCE = 30
SIZE = 2 * MIB
"""All of them together are more than the disk has."""
SMALL = 30_000
"""Octets, of which `send_large` makes twice as many at most: kept in the database."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path) as found:
        yield found


@pytest.fixture
async def store() -> AsyncIterator[RecordingStore]:
    async with RecordingStore("old", behaviour=HUNG) as found:
        yield found


@pytest.fixture
def minimum() -> int:
    return MINIMUM


@pytest.fixture
async def site(tmp_path: Path, disk: LoopDisk, store: RecordingStore, minimum: int) -> AsyncIterator[Site]:
    limits = {"minimum_free": minimum, "minimum_free_inodes": 0}
    settings = {"message_size_limit": "4 MiB", "limits": limits}
    async with Site(tmp_path, [StoreAt("old", store.port)], users={ANN: "old"}, settings=settings) as found:
        yield found


async def test_inv_46_a_disk_filled_by_mail_empties_itself(site: Site, disk: LoopDisk, store: RecordingStore) -> None:
    bursts = Bursts(site, [store], [ANN])
    bursts.submissions += await asyncio.gather(
        *(send_large(site.port, f"crowd-{n}", ANN, SIZE, declared=SIZE) for n in range(AT_ONCE))
    )
    await fill_up(site, disk, bursts)
    said = Counter((one.fates[0].value, one.dot_code or one.codes[0]) for one in bursts.submissions)
    print(f"{dict(said)}; {free(disk) >> 10} KiB are free")  # noqa: T201 - the figures
    assert set(said) <= {("acknowledged", 250), ("declined", 452), ("refused", 452)}, site.relay.tail()
    assert bursts.acknowledged >= 5
    assert not list((site.state_dir / "spool" / "0001" / "bodies").glob("tmp-*"))

    await asyncio.to_thread(use_up, disk)
    assert await at_mail(site) == "452 4.3.1"
    store.behaviour = Behaviour()
    assert await site.drained(60) == 0, "a full disk takes outcomes\n" + site.relay.tail()

    await back(site)
    print(f"emptied: {free(disk) >> 10} KiB are free")  # noqa: T201 - the figures
    await bursts.judge()


@pytest.mark.parametrize("minimum", [24 * MIB])
async def test_inv_46_a_disk_filled_by_small_mail_empties_itself_too(
    site: Site, disk: LoopDisk, store: RecordingStore
) -> None:
    """Small messages are in the database, whose file does not get shorter by itself."""
    bursts = Bursts(site, [store], [ANN])
    while not await refused_for_good(site):
        tags = [f"small-{len(bursts.submissions) + n}" for n in range(40)]
        bursts.submissions += await asyncio.gather(*(send_large(site.port, tag, ANN, SMALL) for tag in tags))
    store.behaviour = Behaviour()
    assert await site.drained(60) == 0
    await back(site)
    print(f"{bursts.acknowledged} taken; emptied: {free(disk) >> 10} KiB are free")  # noqa: T201 - the figures
    await bursts.judge()


async def refused_for_good(site: Site) -> bool:
    """Whether MAIL is refused, and still is when the log of the database has been copied back."""
    for _ in range(15):
        if await at_mail(site) != "452 4.3.1":
            return False
        await asyncio.sleep(0.2)
    return True


async def fill_up(site: Site, disk: LoopDisk, bursts: Bursts) -> None:
    """Hand more in, one after the other, while there is space; then the next one is refused at MAIL."""
    for _ in range(AT_ONCE):
        await asyncio.sleep(1.1)  # the next look at the disk
        if free(disk) < MINIMUM and await at_mail(site) == "452 4.3.1":
            return
        if free(disk) >= MINIMUM:
            tag = f"more-{len(bursts.submissions)}"
            bursts.submissions.append(await send_large(site.port, tag, ANN, SIZE, declared=SIZE))
    pytest.fail("the disk is never full")


async def at_mail(site: Site) -> str:
    """Code and enhanced code of the reply to MAIL."""
    connection = await Connection.open("127.0.0.1", site.port, "probe.example.net")
    try:
        await connection.write(f"MAIL FROM:<{SENDER}> SIZE={SIZE}\r\n".encode())
        code, text = await connection.reply()
        return f"{code} {text.split()[0]}"
    finally:
        await connection.close()


def free(disk: LoopDisk) -> int:
    found = os.statvfs(disk.path)
    return found.f_bavail * found.f_frsize


def use_up(disk: LoopDisk) -> None:
    """Take what is left, to the last block; it is never given back."""
    with (disk.path / "filler").open("wb") as file:
        for size in (MIB, 64 << 10, 4 << 10):
            while free(disk) >= size:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError:
                    break


def has_reserve(site: Site) -> bool:
    path = site.state_dir / "spool" / "0001" / RESERVE
    return path.exists() and path.stat().st_size == SpoolOptions().reserve


async def back(site: Site) -> None:
    """Mail is taken again, and the reserve is laid out as before."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if has_reserve(site) and await at_mail(site) == "250 2.1.0":
            return
        await asyncio.sleep(0.1)
    pytest.fail("mail is still refused\n" + site.relay.tail())
