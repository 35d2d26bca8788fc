"""Questions that share their work."""

import asyncio
from collections.abc import Sequence

import pytest

from router.classify.flight import GatheredFind, SingleFlight
from router.classify.merged import Merged
from router.errors import BadRouteData, LookupFailed


class Finder:
    def __init__(self) -> None:
        self.reads: list[tuple[str, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()
        self.bad = ""

    async def __call__(self, keys: Sequence[str]) -> Merged:
        self.reads.append(tuple(keys))
        self.reached.set()
        await self.gate.wait()
        if self.bad in keys:
            raise BadRouteData(self.bad)
        if "down" in keys:
            raise LookupFailed("down")
        return Merged(len(self.reads), {}, {})


async def test_one_turn_of_the_loop_is_one_read() -> None:
    finder = Finder()
    reads = GatheredFind(finder)

    await asyncio.gather(*(reads.find((f"k{n}", "common")) for n in range(150)))

    assert len(finder.reads) == 1
    assert len(finder.reads[0]) == 151


async def test_batches_and_reads_at_a_time_are_bounded() -> None:
    finder = Finder()
    finder.gate.clear()
    reads = GatheredFind(finder, batch=10, reads=2)
    asking = [asyncio.create_task(reads.find((f"k{n}",))) for n in range(45)]
    await finder.reached.wait()
    await asyncio.sleep(0)
    assert len(finder.reads) == 2
    asking[30].cancel()

    finder.gate.set()
    await asyncio.gather(*asking, return_exceptions=True)

    assert [len(keys) for keys in finder.reads] == [10, 10, 10, 9, 5]


async def test_one_bad_entry_spoils_only_its_own_answer() -> None:
    finder = Finder()
    finder.bad = "k3"
    reads = GatheredFind(finder)

    answers = await asyncio.gather(*(reads.find((f"k{n}",)) for n in range(5)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [Merged, Merged, Merged, BadRouteData, Merged]


async def test_a_source_that_is_down_is_down_for_all_and_not_asked_again() -> None:
    finder = Finder()
    reads = GatheredFind(finder)

    answers = await asyncio.gather(reads.find(("down",)), reads.find(("k",)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [LookupFailed, LookupFailed]
    assert len(finder.reads) == 1


async def test_closing_ends_what_waits() -> None:
    finder = Finder()
    finder.gate.clear()
    reads = GatheredFind(finder)
    asking = asyncio.create_task(reads.find(("k",)))
    await finder.reached.wait()

    await reads.close()

    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_single_flight() -> None:
    flights: SingleFlight[int] = SingleFlight(limit=2)
    gate, started = asyncio.Event(), 0

    async def work() -> int:
        nonlocal started
        started += 1
        number = started
        await gate.wait()
        return number

    waiters = [asyncio.create_task(flights.run("a", work)) for _ in range(3)]
    other = asyncio.create_task(flights.run("b", work))
    await asyncio.sleep(0)
    with pytest.raises(LookupFailed, match="too many"):
        await flights.run("c", work)
    waiters[0].cancel()
    gate.set()

    assert await asyncio.gather(*waiters[1:], other) == [1, 1, 2]
    assert started == 2
    assert await flights.run("a", work) == 3


async def test_closing_single_flight() -> None:
    flights: SingleFlight[None] = SingleFlight()

    async def forever() -> None:
        await asyncio.Event().wait()

    waiter = asyncio.create_task(flights.run("a", forever))
    await asyncio.sleep(0)
    await flights.close()

    with pytest.raises(asyncio.CancelledError):
        await waiter
