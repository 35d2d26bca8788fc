"""
Writes and syncs that fail with EIO, ENOSPC or EDQUOT under a worker, once or again and again: the client hears 4xx or
a true 250, the worker lives and works again by itself, and no acknowledged message is lost.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.lives import Lives, minutes
from support.strace import Strace

from router.ledger.load import Fate, Submission

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400 + 60 * minutes()), pytest.mark.asyncio(loop_scope="module")]

ANN = "ann@example.edu"
SMALL, LARGE = 800, 200_000
FAULTS = [
    ("fdatasync", "error=EIO:when=1"),
    ("fdatasync", "error=EIO:when=1+"),
    ("pwrite64", "error=ENOSPC:when=1+"),
    ("pwrite64", "error=EDQUOT:when=3+"),
    ("pwrite64", "error=EIO:when=5"),
    ("fsync", "error=EIO:when=1+"),
    ("rename", "error=ENOSPC:when=1+"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lives(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lives]:
    async with Lives(tmp_path_factory.mktemp("lives"), [ANN]) as found:
        await found.live()
        yield found


@pytest.mark.parametrize(("call", "fault"), FAULTS)
async def test_inv_5_6_failing_disk_is_4xx_and_heals(lives: Lives, call: str, fault: str, tmp_path: Path) -> None:
    strace = Strace(lives.worker.pid, call, fault, log=tmp_path / "calls")
    with strace:
        during = [await lives.send(ANN, size) for size in (SMALL, LARGE, SMALL)]
    said = [one for one in during if one is not None]
    assert len(said) == 3, "the worker lives"
    heard = any(one.fates == (Fate.DECLINED,) or temporary(one) for one in said)
    # One call that fails may be that of an outcome, of which no client hears.
    hit = not fault.endswith("+") and any("INJECTED" in line for line in strace.calls())
    assert heard or hit, "the fault was seen"
    assert not any(permanent(one) for one in said), said
    await healed(lives)
    assert lives.alive(lives.worker)
    await lives.judge()


# The second sync is that of the directory, whose result SQLite does not look at.
@pytest.mark.parametrize("fault", ["EIO:when=1", "EIO:when=3", "ENOSPC:when=1", "EDQUOT:when=1+"])
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
async def test_inv_9_failing_control_database_is_an_exit_status_and_never_half_a_hold(
    lives: Lives, call: str, fault: str
) -> None:
    born = await asyncio.to_thread(lives.nursery.command, "hold", ANN, "--reason", "test", "--timeout", "60s")
    with Strace(born.pid, call, f"error={fault}"):
        born.go()
        status = await asyncio.to_thread(lives.nursery.wait, born)
    assert (await lives.site.hold(ANN)).quiet
    assert status > 0, "it says so itself"
    said = await lives.keep(ANN, SMALL)
    assert lives.stores_of(said.tag) == []
    assert (await lives.site.release(ANN)).applied
    await lives.judge()
    assert lives.stores_of(said.tag) == ["old"]


def temporary(one: Submission) -> bool:
    return any(400 <= code < 500 for code in (*one.codes, one.dot_code))


def permanent(one: Submission) -> bool:
    """DATA without a recipient is 503, which says nothing of the mail: the client of the ledger pipelines."""
    return any(code >= 500 for code in one.codes) or (one.dot_code >= 500 and min(one.codes) < 400)


async def healed(lives: Lives) -> None:
    """Small and large mail is taken again, without anybody doing anything."""
    async with asyncio.timeout(90):
        for size in (SMALL, LARGE):
            while True:
                said = await lives.send(ANN, size)
                if said is not None and said.fates == (Fate.ACKNOWLEDGED,):
                    break
                await asyncio.sleep(0.2)
