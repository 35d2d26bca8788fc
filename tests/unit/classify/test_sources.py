"""A directory that failed again and again is asked by one question at a time, after a rest."""

import asyncio
from collections.abc import Sequence

import pytest

from router.classify.sources import Sources
from router.errors import LookupFailed
from router.model.mailbox import Found


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Silent:
    """A directory that never answers."""

    def __init__(self) -> None:
        self.asked = 0

    async def find(self, keys: Sequence[str]) -> Found:
        self.asked += 1
        await asyncio.sleep(0)
        raise LookupFailed("no answer")

    async def populated(self, domain: str) -> bool:
        return True


async def test_inv_39_after_a_rest_one_question_finds_out_for_all() -> None:
    clock, source = Clock(), Silent()
    sources = Sources([source], clock, failures=3, rest=1.0)
    for _ in range(3):
        with pytest.raises(LookupFailed):
            await sources.find(["a@example.edu"])
    with pytest.raises(LookupFailed, match="did not answer"):
        await sources.find(["a@example.edu"])
    assert source.asked == 3
    clock.now += 2.0
    results = await asyncio.gather(*(sources.find(["a@example.edu"]) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(one, LookupFailed) for one in results)
    assert source.asked == 4
