"""Syncs that take a second: commits wait for them, together, and nothing else does (inv_53)."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.lives import Lives
from support.strace import Strace

from router.ledger.load import Fate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ANN = "ann@example.edu"
SLOW = 1.0
MESSAGES = 12


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Lives]:
    async with Lives(tmp_path, [ANN]) as found:
        yield found


async def test_inv_53_slow_syncs_delay_commits_and_nothing_else(lives: Lives, tmp_path: Path) -> None:
    worker = await lives.live()
    await lives.keep(ANN, 800)
    slow = Strace(worker.pid, "fdatasync", f"delay_enter={SLOW * 1e6:.0f}", log=tmp_path / "calls")
    with slow:
        began = time.monotonic()
        sending = [asyncio.create_task(lives.send(ANN, 800)) for _ in range(MESSAGES)]
        waits = [await said_at_once(lives.site.port) for _ in range(5)]
        said = await asyncio.gather(*sending)
        took = time.monotonic() - began
        syncs = sum("fdatasync(" in line for line in slow.calls())
    assert {one.fates for one in said if one is not None} == {(Fate.ACKNOWLEDGED,)}
    assert len([one for one in said if one is not None]) == MESSAGES
    assert took >= SLOW, "the syncs were slow"
    assert syncs < MESSAGES, "those who wait share a commit"
    assert min(waits) < SLOW / 2, f"a command waited for a disk: {waits}"
    assert lives.alive(worker)
    await lives.judge()


async def said_at_once(port: int) -> float:
    """Seconds from a connection to the reply to its RCPT, which needs no disk."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for command in (b"", b"HELO x\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<ann@example.edu>\r\n"):
            writer.write(command)
            assert (await reader.readline())[:1] == b"2"
    finally:
        writer.close()
    return time.monotonic() - began
