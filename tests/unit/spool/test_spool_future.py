"""Mail whose next try was written down by a clock that was ahead is tried all the same (inv_56)."""

from typing import Any

from router.model.outcome import Disposition
from router.spool.spool import Spool

YEAR = 365 * 86400.0


async def test_inv_56_what_is_due_in_a_year_is_brought_near(kit: Any, spool: Spool) -> None:
    now, farthest = 1e9, 4500.0
    for due in (now + 240.0, now + 4000.0, now + YEAR):
        work = await kit.put(spool)
        await spool.settle(
            work.message, [kit.outcome(work.recipients[0].number, Disposition.DEFERRED, due=due, lane="cliff")]
        )
    assert await spool.wake("cliff", now + farthest) == 1
    assert await spool.wake("cliff", now + farthest) == 0
    found = await spool.due("cliff", now + farthest, 10)
    assert [one.due for work in found for one in work.recipients] == [now + 240.0, now + 4000.0, now + farthest]
