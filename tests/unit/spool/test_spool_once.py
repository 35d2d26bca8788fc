"""A request that its owner carried out and died before it could say so: the successor gives the same answer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.control.requests import NEW, Request
from router.daemon.requests import RequestDesk
from router.deliver.recall import Recalled
from router.spool.finding import QueueFilter
from router.spool.spool import Spool


def desk_of(spool: Spool, *, under_way: Sequence[int]) -> RequestDesk:
    """A worker's, in a moment in which stores have these."""

    @asynccontextmanager
    async def recall(numbers: Sequence[int]) -> AsyncIterator[Recalled]:
        busy = [number for number in numbers if number in under_way]
        yield Recalled([number for number in numbers if number not in busy], busy)

    return RequestDesk(spool.desk, lambda: None, lambda _lane: None, recall)


@pytest.mark.parametrize("kind", ["delete", "park"])
async def test_what_was_left_alone_is_said_again_and_not_called_done(
    kit: Any, open_spool: Any, directory: Path, kind: str
) -> None:
    spool = await open_spool(options=kit.QUIET)
    taken, left = [(await kit.put(spool)).recipients[0].number for _ in range(2)]
    payload = {"numbers": [taken, left], "actor": "root", "reason": "virus"}
    request = Request(7, 1, kind, payload, NEW, 1000.5, "root", None, None)
    first = await desk_of(spool, under_way=[left])(request)
    copies = sorted((directory / "removed").iterdir())
    await spool.close()
    spool = await open_spool(options=kit.QUIET)
    again = await desk_of(spool, under_way=[])(request)
    assert first == again == {"count": 1, "under_way": 1}
    entries = {one.number: one.state for one in await spool.desk.find(QueueFilter())}
    assert entries == {left: "queued"} | ({} if kind == "delete" else {taken: "parked"})
    assert sorted((directory / "removed").iterdir()) == copies
