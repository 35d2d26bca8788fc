"""Mail that is put off again while it is being woken is not woken again and again: nothing would ever end that."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from router.model.outcome import Disposition
from router.spool import operations
from router.spool.spool import Spool

Change = Callable[[Spool], Awaitable[int]]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda spool: spool.wake("", 1000.0), id="wake"),
        pytest.param(lambda spool: spool.reroute([f"p{n}@example.edu" for n in range(5)], 1000.0), id="reroute"),
    ],
)
@pytest.mark.parametrize("chunk", [2, 5, 6])
async def test_it_ends_though_one_is_put_off_again_each_time(
    kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch, change: Change, chunk: int
) -> None:
    monkeypatch.setattr(operations, "CHUNK", chunk)
    work = await kit.put(spool, *(kit.rcpt(f"p{n}@example.edu") for n in range(5)))

    def later(number: int) -> Any:
        return kit.outcome(number, Disposition.DEFERRED, due=9000.0, lane="")

    await spool.settle(work.message, [later(one.number) for one in work.recipients])
    submit, first = spool._writer.submit, work.recipients[0].number

    async def disturbed(operation: Any) -> Any:
        done = await submit(operation)
        if isinstance(operation, operations.Wake | operations.Reroute):
            await submit_settle(first)
        return done

    async def submit_settle(number: int) -> None:
        monkeypatch.setattr(spool._writer, "submit", submit)
        await spool.settle(work.message, [later(number)])
        monkeypatch.setattr(spool._writer, "submit", disturbed)

    monkeypatch.setattr(spool._writer, "submit", disturbed)
    async with asyncio.timeout(60):
        assert await change(spool) >= 5
    (found,) = await spool.due("", 1000.0, 10)
    assert {one.number for one in found.recipients} >= {one.number for one in work.recipients[1:]}
