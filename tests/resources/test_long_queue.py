"""
A spool with very many messages for a store that does not answer: it starts as fast as an empty one, although its owner
was killed; memory stays what it was; mail is taken, and delivered elsewhere, as fast as before (inv 11).

The long run (`./dev crash --minutes N tests/resources`) goes up to a million.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

import pytest
from support.lives import minutes
from support.long_queue import queue_many
from support.site import Site, StoreAt, users_csv

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.load import Fate, Load
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400 + 1200 * bool(minutes()))]

MIB = 1 << 20
LENGTHS = (10_000, 100_000, 1_000_000) if minutes() else (20_000,)
PEOPLE = [f"p{number}@example.edu" for number in range(20_000 if minutes() else 1000)]
BOB = "bob@example.edu"
SAMPLE = 100
GROWTH = 64 * MIB
"""What any length may cost: half of it is what SQLite keeps of the database."""
DEARER = 2.0
"""Seconds of processor time that a worker's start may cost more than with an empty spool."""
PATIENCE = 30.0
"""Seconds until the first 250, at most, on a machine that others use too."""
SLOWER = 0.05
"""Seconds that a message may take longer, in the median."""
SCATTER = 3
"""Times that one and the same thing may take, as much as two measurements on a busy machine differ."""
_NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one life of the relay showed. Seconds and octets."""

    start: float
    cost: float
    """Processor time of the worker until then."""
    resident: int
    median: float
    worst: float
    delivered: float
    """Median until the arrival at a store that answers."""

    def __str__(self) -> str:
        return (
            f"first 250 after {self.start:.2f} s ({self.cost:.2f} s of processor time), "
            f"worker {self.resident / MIB:.0f} MiB, accept median {1000 * self.median:.1f} ms, "
            f"worst {1000 * self.worst:.0f} ms, delivered elsewhere after {1000 * self.delivered:.1f} ms"
        )


@pytest.fixture
async def new() -> AsyncIterator[RecordingStore]:
    async with RecordingStore("new") as found:
        yield found


@pytest.fixture
async def old() -> AsyncIterator[RecordingStore]:
    async with RecordingStore("old", behaviour=Behaviour(hang=frozenset({Stage.CONNECT}))) as found:
        yield found


async def test_inv_11_a_long_queue_costs_neither_time_nor_memory(
    tmp_path: Path, old: RecordingStore, new: RecordingStore
) -> None:
    site = Site(tmp_path, [StoreAt("old", old.port), StoreAt("new", new.port, "new")], fresh=True)
    await asyncio.to_thread(site.import_users, users_csv(dict.fromkeys(PEOPLE, "old") | {BOB: "new"}))
    try:
        empty = await life(site, new, 0)
        for length in LENGTHS:
            await asyncio.to_thread(lengthen, site, length)
            long = await life(site, new, length)
            assert long.start < max(PATIENCE, SCATTER * empty.start)
            assert long.cost < SCATTER * empty.cost + DEARER
            assert long.resident < empty.resident + GROWTH
            assert long.median < SCATTER * empty.median + SLOWER
        await moves(site, old)
    finally:
        await asyncio.to_thread(site.close)


def lengthen(site: Site, length: int) -> None:
    """The relay's end, without a last word; then so many messages in its spool."""
    site.kill()
    began = time.monotonic()
    with site.books() as books:
        there = books.undelivered()
    queue_many(site.state_dir / "spool" / "0001", 1, "old", PEOPLE, length - there)
    print(f"{length - there} messages more within {time.monotonic() - began:.0f} s")  # noqa: T201 - the figures


async def life(site: Site, new: RecordingStore, length: int) -> Figures:
    """Start, and take mail for a while."""
    began = time.monotonic()
    await asyncio.to_thread(site.start, 120.0)
    await offer(site, new)
    start, pid = time.monotonic() - began, site.worker_pids()[0]
    cost = processor(pid)
    seen = [await offer(site, new) for _ in range(SAMPLE)]
    accepted, arrived = zip(*seen, strict=True)
    figures = Figures(start, cost, resident(pid), median(accepted), max(accepted), median(arrived))
    print(f"{length} queued: {figures}", flush=True)  # noqa: T201 - the figures
    return figures


async def offer(site: Site, new: RecordingStore) -> tuple[float, float]:
    """Hand a message for Bob in; seconds from MAIL to the last reply, and to the arrival at his store."""
    number = next(_NUMBERS)
    plan = Plan(["a@outside.example"], [BOB], (1,), (3000,), connections=1, run=f"bob{number}")
    (said,) = await Load("127.0.0.1", site.port, plan, timeout=120).run(1)
    assert said.fates == (Fate.ACKNOWLEDGED,), site.relay.tail()
    await new.arrived(number, timeout=60)
    return said.seconds, new.arrivals[-1].at - said.at


async def moves(site: Site, old: RecordingStore) -> None:
    """The store answers again: the queue goes out, and the accounts balance."""
    old.behaviour = Behaviour()
    began = time.monotonic()
    await old.arrived(1000, 120.0)
    print(f"1000 delivered within {time.monotonic() - began:.1f} s")  # noqa: T201 - the figures
    assert await asyncio.to_thread(site.stop) == 0
    site.balance()


def processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """At its highest."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
