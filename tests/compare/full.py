"""
A disk without an octet left, filled while clients send: what they are told, what happens to the mail that is there,
and whether the relay takes mail again by itself when there is space again.

What the file system keeps for root is taken, too, so that all relays find the same, whoever they run as.
"""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

from compare.bout import HUNG, Bout, Make
from compare.figures import Full, refusal
from router.ledger.behaviour import Behaviour
from router.ledger.load import Fate, Submission

DISK = 96
"""Megabytes."""
FULL = 3.0
"""Seconds that clients send to a relay whose disk is full, and whose next hops are silent."""
EMPTYING = 20.0
"""Seconds that it has to deliver on a full disk."""
AGAIN = 60.0


async def full(make: Make, seed: int, patience: float = 60.0) -> Full:
    """See the module's text."""
    async with Bout(make, disk_megabytes=DISK) as bout:
        await bout.start()
        bout.behave(HUNG)
        bout.load(seed)
        await asyncio.sleep(1.0)
        before = _kept(await bout.end_load())
        filler, told = await _filled(bout, seed + 1)
        kept = _kept(bout.submissions)
        bout.behave(Behaviour())
        await bout.drained(EMPTYING)
        gone = len(kept & _arrived(bout))
        filler.unlink()
        again = await _taken_again(bout, seed + 2)
        return Full(len(before), told, gone, len(kept) - gone, again, await bout.judge(patience))


async def _filled(bout: Bout, seed: int) -> tuple[Path, dict[str, int]]:
    """Fill it under load, and go on; the file that takes the space, and what clients were told from then on."""
    assert bout.disk is not None
    bout.load(seed)
    await asyncio.sleep(0.3)
    filler = await asyncio.to_thread(_fill, bout.disk.path)
    at = time.monotonic()
    await asyncio.sleep(FULL)
    said = [one for one in await bout.end_load() if one.at >= at]
    return filler, dict(Counter(_word(one) for one in said))


def _fill(path: Path) -> Path:
    """Take what is left, in ever smaller pieces, until nothing is."""
    filler = path / "filler"
    with filler.open("wb") as file:
        size, piece = 0, 1 << 26
        while piece >= 4096:
            try:
                os.posix_fallocate(file.fileno(), size, piece)
                size += piece
            except OSError:
                piece >>= 1
        os.fsync(file.fileno())
    return filler


def _word(one: Submission) -> str:
    if Fate.ACKNOWLEDGED in one.fates:
        return "250"
    return str(refusal(one) or "no reply")


def _kept(submissions: list[Submission]) -> set[tuple[str, str]]:
    return {
        (one.tag, who)
        for one in submissions
        for who, fate in zip(one.recipients, one.fates, strict=True)
        if fate is Fate.ACKNOWLEDGED
    }


def _arrived(bout: Bout) -> set[tuple[str, str]]:
    return {(one.tag, who) for records in bout.records.values() for one in records for who, _ in one.recipients}


async def _taken_again(bout: Bout, seed: int) -> float:
    """Seconds to the first message taken; -1 when the time is over."""
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < AGAIN:
        number += 1
        bout.load(seed * 1000 + number, sizes=(800,))
        await asyncio.sleep(0.1)
        if _kept(await bout.end_load()):
            return time.monotonic() - began
    return -1.0
