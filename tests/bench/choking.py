"""
A relay on a small disk whose store is slower than its clients: how fast it takes mail while there is space, and after.

Clients do not wait when they are refused for the moment: each goes on with its next message after a pause.

Guarantees: in the end the store is quick, the queue is delivered, and the ledger agrees that all that was acknowledged
has arrived once. On failure: an assertion that says what is wrong; such a run has no figures.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.loop_disk import LoopDisk

from bench.relays import Plan, Sluice
from bench.row import Figures
from router.demo.config import LOOPBACK
from router.ledger.behaviour import Behaviour, Stage
from router.ledger.book import Ledger
from router.ledger.load import Fate, Load, Submission
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan as Traffic

DISK = 192
RESERVED = 48
"""MiB: of the disk, and what the relay is to leave free (`limits.minimum_free`); below twice that it slows down."""
SECONDS = float(os.environ.get("BENCH_SECONDS", "40"))
"""How long clients come."""
LAST = 0.4
"""The part of that time that counts as after."""
SLOW = 0.25
"""Seconds of the store for each message."""
OFFERED = 20_000_000
"""Octets a second that clients would like to hand in."""
SAMPLING = 0.1
ALICE = "p0@example.edu"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. `at` is CLOCK_MONOTONIC seconds."""

    at: float
    free: int
    queued: int


def choked(size: int) -> Figures:
    """One run with messages of `size` octets."""
    return asyncio.run(_story(size))


async def _story(size: int) -> Figures:
    with _small_disk() as directory:
        async with RecordingStore("old", behaviour=Behaviour(delays={Stage.DOT: SLOW})) as store:
            limits = {"minimum_free": f"{RESERVED} MiB", "minimum_free_inodes": 100}
            relay = Sluice(directory, Plan({"old": store.port}, [ALICE], settings={"limits": limits}))
            try:
                await asyncio.to_thread(relay.start)
                submissions, samples = await _flooded(relay, size)
                store.behaviour = Behaviour()
                await asyncio.to_thread(relay.settle, 120.0)
                _judge(relay, submissions, store)
            finally:
                await asyncio.to_thread(relay.stop)
    return figures(submissions, samples)


async def _flooded(relay: Sluice, size: int) -> tuple[list[Submission], list[Sample]]:
    """Clients come for `SECONDS`."""
    traffic = Traffic(["a@outside.example"], [ALICE], (1,), (size,), rate=OFFERED / size, connections=20, run="flood")
    load = Load(LOOPBACK, relay.port, traffic, timeout=30)
    running = asyncio.create_task(load.run())
    samples, end = [], time.monotonic() + SECONDS
    with relay.site.books() as books:
        while time.monotonic() < end:
            space = os.statvfs(relay.site.state_dir)
            samples.append(Sample(time.monotonic(), space.f_bavail * space.f_frsize, books.undelivered()))
            await asyncio.sleep(SAMPLING)
    load.stop()
    return await running, samples


def figures(submissions: Sequence[Submission], samples: Sequence[Sample]) -> Figures:
    """`early` is until the first refusal, `late` the last part of the time. Pure."""
    began, ended = samples[0].at, samples[-1].at
    refused = [one.at for one in submissions if one.fates[0] is Fate.REFUSED]
    full = min(refused, default=ended)
    late = [one for one in samples if one.at >= ended - LAST * (ended - began)]
    since, seconds = late[0].at, late[-1].at - late[0].at
    taken = [one.at for one in submissions if one.fates[0] is Fate.ACKNOWLEDGED]
    accepted = sum(since <= at < ended for at in taken) / seconds
    return {
        "early": sum(at < full for at in taken) / (full - began),
        "until": full - began,
        "late": accepted,
        "out": accepted - (late[-1].queued - late[0].queued) / seconds,
        "refused": sum(since <= at < ended for at in refused) / seconds,
        "free": min(one.free for one in samples) / _MIB,
        "queued": max(one.queued for one in samples),
    }


def _judge(relay: Sluice, submissions: Sequence[Submission], store: RecordingStore) -> None:
    ledger = Ledger()
    ledger.submitted(submissions)
    ledger.arrived(store.arrivals)
    relay.site.tell(ledger)
    verdict = ledger.check()
    assert verdict.ok, f"the run does not count: {verdict.report()}"


@contextmanager
def _small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        try:
            stack.enter_context(LoopDisk(Path(name), megabytes=DISK))
        except pytest.fail.Exception as error:
            raise AssertionError(str(error)) from None
        yield Path(name)
