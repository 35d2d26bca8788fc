"""Messages of many clients at work wait for each other, and nobody waits alone."""

import asyncio
from typing import Any

import pytest

from router.model.envelope import Work
from router.spool.company import worth_waiting
from router.spool.spool import Spool


@pytest.mark.parametrize(
    ("clients", "here", "waits"),
    [
        (0, 1, False),
        (1, 1, False),
        (4, 1, False),
        (5, 1, True),
        (5, 4, True),
        (5, 5, False),
        (10, 9, True),
        (10, 10, False),
        (100, 94, True),
        (100, 95, False),
        (5, 60, False),
    ],
)
def test_who_waits(clients: int, here: int, waits: bool) -> None:
    assert worth_waiting(clients, here) is waits


async def put(kit: Any, spool: Spool, company: int) -> Work:
    body = spool.open_body()
    await body.write(b"\r\ntext\r\n")
    work: Work = await spool.accept(kit.ENVELOPE, (kit.rcpt("a@example.edu"),), body, kit.HEADER, 1.0, company=company)
    return work


async def test_the_last_of_a_crowd_ends_the_wait_of_all(
    kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.spool.writer.LINGER", 3600.0)
    before = spool._writer.commits
    waiting = [asyncio.ensure_future(put(kit, spool, 8)) for _ in range(7)]
    done, _ = await asyncio.wait(waiting, timeout=0.2)
    assert not done
    await asyncio.gather(put(kit, spool, 8), *waiting)
    assert spool._writer.commits - before == 1


async def test_a_lone_client_does_not_wait(kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.spool.writer.LINGER", 3600.0)
    async with asyncio.timeout(60):
        for _ in range(3):
            await put(kit, spool, 1)


async def test_one_of_few_takes_along_who_waits(kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others have gone home meanwhile."""
    monkeypatch.setattr("router.spool.writer.LINGER", 3600.0)
    waiting = asyncio.ensure_future(put(kit, spool, 8))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    async with asyncio.timeout(60):
        await asyncio.gather(put(kit, spool, 2), waiting)


async def test_nobody_waits_for_long(kit: Any, spool: Spool) -> None:
    async with asyncio.timeout(60):
        await put(kit, spool, 500)


async def test_an_orderly_end_waits_for_nobody(kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.spool.writer.LINGER", 3600.0)
    waiting = asyncio.ensure_future(put(kit, spool, 8))
    await asyncio.wait([waiting], timeout=0.1)
    async with asyncio.timeout(60):
        await spool.close()
        await waiting
