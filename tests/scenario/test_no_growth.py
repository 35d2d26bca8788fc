"""Traffic leaves nothing behind in a worker: no descriptor, no thread, no memory that grows with it (inv_54)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.site import Site

from router.ledger.load import Fate, Load
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]

PEOPLE = ["alice@example.edu", "bob@example.edu", "carol@example.edu"]
WARM, ROUNDS, MESSAGES = 1, 2, 150
POOLS = 8
"""Pools of threads, each with a connection to a database, fill up to their limits. One a message would be hundreds."""
MEMORY = 6 * 1024 * 1024
"""Octets: caches fill, and pages are not given back at once. One body kept for each message would be twice that."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a process has."""

    descriptors: int
    threads: int
    memory: int


def use(pid: int) -> Use:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {key: value.split()[0] for key, _, value in (line.partition(":") for line in lines) if value.split()}
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Use(descriptors, int(found["Threads"]), int(found["VmRSS"]) * 1024)


async def traffic(site: Site, run: str) -> None:
    plan = Plan(["a@outside.example", ""], PEOPLE, (1, 2), (800, 20_000, 100_000), connections=8, run=run)
    said = await Load("127.0.0.1", site.port, plan).run(MESSAGES)
    assert {fate for one in said for fate in one.fates} == {Fate.ACKNOWLEDGED}
    assert await site.drained(60) == 0


async def test_inv_54_traffic_leaves_nothing_behind(make_site: Callable[..., Site], stores: Stores) -> None:
    async with make_site() as site:
        [pid] = site.worker_pids()
        for number in range(WARM):
            await traffic(site, f"warm{number}")
        before = await at_rest(pid)
        for number in range(ROUNDS):
            await traffic(site, f"round{number}")
        after = await at_rest(pid, before)
        assert after.threads - before.threads <= POOLS
        assert after.descriptors - before.descriptors <= POOLS
        assert after.memory - before.memory < MEMORY, (before, after)
        assert stores["old"].arrivals


async def at_rest(pid: int, before: Use | None = None, patience: float = 60.0) -> Use:
    """
    What is in use once connections to clients have been let go of: the least that is seen in a while.

    Where there was a `before`, it is waited for that they are, on a slow machine.
    """
    seen: list[Use] = []
    end = asyncio.get_running_loop().time() + patience
    while asyncio.get_running_loop().time() < end and (len(seen) < 20 or not settled(least(seen), before)):
        seen.append(use(pid))
        await asyncio.sleep(0.1)
    return least(seen)


def least(seen: list[Use]) -> Use:
    return min(seen, key=lambda one: (one.descriptors, one.threads))


def settled(now: Use, before: Use | None) -> bool:
    return before is None or max(now.descriptors - before.descriptors, now.threads - before.threads) <= POOLS
