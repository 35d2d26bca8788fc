"""Parked mail: what its time brings back, what only an operator brings back, and verdicts that come too late."""

from typing import Any

import pytest

from router.model.outcome import Disposition
from router.spool.operations import CHUNK
from router.spool.spool import Spool

DAY = 86400.0


async def parked_by_policy(kit: Any, spool: Spool, due: float, *recipients: Any) -> Any:
    work = await kit.put(spool, *recipients)
    outcomes = [kit.outcome(one.number, Disposition.PARKED, due=due, lane="zimbra") for one in work.recipients]
    await spool.settle(work.message, outcomes)
    return work


async def test_promise_6_parked_refusal_is_revived_after_its_time_and_not_before(kit: Any, spool: Spool) -> None:
    work = await parked_by_policy(kit, spool, 7 * DAY)
    assert await spool.revive(7 * DAY - 1) == 0
    assert (await spool.desk.counts()).mail.parked == 1
    assert await spool.revive(7 * DAY) == 1
    assert await spool.revive(7 * DAY) == 0
    (found,) = await spool.due("", 7 * DAY, 10)  # without a lane: it is routed anew
    (one,) = found.recipients
    assert (one.number, one.state, one.due) == (work.recipients[0].number, "queued", 7 * DAY)
    assert (await spool.desk.counts()).mail.balanced


async def test_revived_mail_has_a_retry_clock_of_its_own(kit: Any, spool: Spool) -> None:
    """It waited for longer than a retry lifetime: one temporary failure now must not be the end of it."""
    work = await kit.put(spool)
    number = work.recipients[0].number
    deferral = kit.outcome(number, Disposition.DEFERRED, due=300.0, unknown_since=200.0)
    await spool.settle(work.message, [deferral])
    await spool.settle(work.message, [kit.outcome(number, Disposition.PARKED, due=7 * DAY)])
    await spool.revive(8 * DAY)
    (found,) = await spool.due("", 8 * DAY, 10)
    (one,) = found.recipients
    assert (one.clock_start, one.attempts, one.unknown_since) == (8 * DAY, 0, None)


async def test_promise_6_what_an_operator_parked_is_never_revived(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool)
    assert await spool.desk.park([work.recipients[0].number], actor="root", reason="looks odd") == 1
    assert await spool.revive(1e12) == 0
    assert (await spool.desk.counts()).mail.parked == 1


async def test_operator_may_park_for_good_what_was_parked_for_a_time(kit: Any, spool: Spool) -> None:
    work = await parked_by_policy(kit, spool, 500.0)
    numbers = [one.number for one in work.recipients]
    assert await spool.desk.park(numbers, actor="root", reason="keep it") == 1
    assert await spool.desk.park(numbers, actor="root", reason="keep it") == 0
    assert await spool.revive(1e12) == 0
    assert await spool.desk.unpark(numbers) == 1


@pytest.mark.parametrize("late", [Disposition.DEFERRED, Disposition.PARKED, Disposition.HELD])
async def test_late_verdict_gives_what_an_operator_parked_no_time(kit: Any, spool: Spool, late: Disposition) -> None:
    """The delivery was under way when the operator parked it; its verdict must not make the parking run out."""
    work = await kit.put(spool)
    number = work.recipients[0].number
    await spool.desk.park([number], actor="root", reason="looks odd")
    await spool.settle(work.message, [kit.outcome(number, late, due=900.0)])
    assert (await spool.desk.counts()).mail.parked == 1
    assert await spool.revive(1e12) == 0


async def test_double_bounce_is_never_revived(kit: Any, spool: Spool) -> None:
    await parked_by_policy(kit, spool, 0.0)
    assert await spool.revive(1e12) == 0


async def test_quarantined_mail_stays_so_whatever_comes_late(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool)
    number = work.recipients[0].number
    await spool.settle(work.message, [kit.outcome(number, Disposition.QUARANTINED)])
    await spool.settle(work.message, [kit.outcome(number, Disposition.PARKED, due=900.0)])
    await spool.settle(work.message, [kit.outcome(number, Disposition.DEFERRED, due=900.0)])
    assert (await spool.desk.counts()).mail.quarantined == 1
    assert await spool.revive(1e12) == 0


async def test_revival_and_release_meet(kit: Any, spool: Spool) -> None:
    """A release does not touch parked mail; a revival before it puts the mail among the released."""
    box = "a@example.edu"
    await parked_by_policy(kit, spool, 500.0)
    assert await spool.release([box], 400.0) == 0
    assert await spool.revive(600.0) == 1
    assert await spool.release([box], 700.0) == 1
    assert len(await spool.draining(box, 10)) == 1


async def test_revival_takes_all_in_chunks(kit: Any, spool: Spool) -> None:
    await parked_by_policy(kit, spool, 500.0, *[kit.rcpt(f"u{n}@example.edu") for n in range(CHUNK + 5)])
    assert await spool.revive(600.0) == CHUNK + 5


async def test_reroute_forgets_the_lane_in_chunks_and_leaves_released_mail_alone(kit: Any, spool: Spool) -> None:
    box = "a@example.edu"
    await kit.put(spool, kit.rcpt(box, held=True))
    await spool.release([box], 500.0)
    work = await kit.put(spool, *[kit.rcpt(box) for _ in range(CHUNK + 5)], at=600.0)
    await spool.settle(
        work.message,
        [kit.outcome(one.number, Disposition.DEFERRED, due=9000.0, lane="cliff") for one in work.recipients],
    )
    before = spool._writer.commits
    assert await spool.reroute([box, ""], 700.0) == CHUNK + 5
    assert spool._writer.commits - before >= 2
    assert await spool.due("cliff", 1e12, 10) == []
    (found,) = await spool.due("", 700.0, 10_000)
    assert len(found.recipients) == CHUNK + 5
    assert {one.due for one in found.recipients} == {700.0}
    assert {one.attempts for one in found.recipients} == {1}
    assert len(await spool.draining(box, 10)) == 1
    assert await spool.reroute([box], 700.0) == 0
