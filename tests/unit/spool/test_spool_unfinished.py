"""A body that cannot be made durable leaves neither a file nor a descriptor: a full disk could not empty itself."""

import asyncio
import errno
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.errors import SpoolFull, SpoolUnavailable
from router.spool.options import SpoolOptions
from router.spool.spool import Spool

LARGE = b"x" * 100_000


def descriptors() -> int:
    """How many are open. What is nobody's any more, of this test or of one before, is closed first."""
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def nothing_left(spool: Spool, before: int) -> bool:
    """Files are given up in a thread of their own."""
    for _ in range(1200):
        if not list((spool.directory / "bodies").iterdir()) and descriptors() <= before:
            return True
        await asyncio.sleep(0.05)
    return False


def full(*_: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["write", "fsync", "close"])
async def test_inv_6_what_fails_at_the_last_step_leaves_nothing(
    kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await kit.put(spool)
    before = descriptors()
    with monkeypatch.context() as patched:
        real: Callable[..., Any] = getattr(os, call)
        patched.setattr(os, call, full if call != "close" else lambda number: (real(number), full()))
        with pytest.raises(SpoolFull):
            await kit.put(spool, body=LARGE)
    assert await nothing_left(spool, before)
    await kit.put(spool, body=LARGE)


async def test_inv_50_without_room_for_its_file_a_message_is_refused_for_a_time(kit: Any, open_spool: Any) -> None:
    roomy = True

    def room(number: int, *, favoured: bool) -> bool:
        return roomy

    spool = await open_spool(options=SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0, room=room))
    await kit.put(spool, body=LARGE)
    (kept,) = (spool.directory / "bodies").iterdir()
    before, roomy = descriptors(), False
    with pytest.raises(SpoolUnavailable):
        await kit.put(spool, body=LARGE)
    assert spool.unhealthy() is None, "small mail can be taken"
    roomy = True
    kept.unlink()
    assert await nothing_left(spool, before)
