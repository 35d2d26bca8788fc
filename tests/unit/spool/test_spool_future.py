"""Clocks that disagree: mail due in a year is brought near (inv_56), a disk with another clock is told (inv_13)."""

import time
from pathlib import Path
from typing import Any

import pytest

from router.model.outcome import Disposition
from router.spool import place
from router.spool.spool import Spool

real = time.time
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


@pytest.mark.parametrize(("skew", "told"), [(0.0, False), (4.0, False), (3600.0, True), (-3600.0, True)])
async def test_inv_13_a_clock_that_is_not_the_disks_is_told(
    directory: Path, skew: float, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    warnings = place.prepare(directory, create=True)
    assert any("clock is" in warning for warning in warnings) is told
