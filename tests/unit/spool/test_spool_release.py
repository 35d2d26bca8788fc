"""Releases: order, and verdicts that were overtaken by one."""

import asyncio
from typing import Any

import pytest

from router.model.outcome import Disposition
from router.spool.accepting import StoredBody
from router.spool.batch import Releases
from router.spool.bodies import SpoolBody
from router.spool.operations import CHUNK
from router.spool.spool import Spool

BOX = "a@example.edu"


async def one_draining(spool: Spool) -> Any:
    works = await spool.draining(BOX, 10)
    assert len(works) == 1
    return works[0].recipients[0]


async def test_release_takes_held_and_queued_in_order_of_arrival(kit: Any, spool: Spool) -> None:
    held = await kit.put(spool, kit.rcpt(BOX, held=True), kit.rcpt("other@example.edu", held=True), at=10.0)
    deferred = await kit.put(spool, at=20.0)
    await spool.settle(
        deferred.message, [kit.outcome(deferred.recipients[0].number, Disposition.DEFERRED, due=9999.0, lane="x")]
    )
    parked = await kit.put(spool, at=30.0)
    await spool.settle(parked.message, [kit.outcome(parked.recipients[0].number, Disposition.PARKED)])
    assert await spool.release([BOX, BOX], 500.0) == 2
    newer = await kit.put(spool, at=40.0)
    works = await spool.draining(BOX, 10)
    assert [work.message.number for work in works] == [held.message.number, deferred.message.number]
    for work in works:
        (one,) = work.recipients
        assert (one.due, one.clock_start, one.attempts, one.unknown_since, one.draining) == (
            500.0,
            500.0,
            0,
            None,
            True,
        )
    assert [work.message.number for work in await spool.draining(BOX, 1)] == [held.message.number]
    assert await spool.draining_mailboxes() == [BOX]
    assert await spool.held_mailboxes() == ["other@example.edu"]
    assert [work.message.number for work in await spool.due("cliff", 1000.0, 10)] == [newer.message.number]


async def test_first_deferral_after_a_release_ends_draining(kit: Any, spool: Spool) -> None:
    await kit.put(spool, kit.rcpt(BOX, held=True))
    await spool.release([BOX], 500.0)
    (work,) = await spool.draining(BOX, 10)
    await spool.settle(
        work.message, [kit.outcome(work.recipients[0].number, Disposition.DEFERRED, due=800.0, lane="zimbra")]
    )
    assert await spool.draining(BOX, 10) == []
    assert await spool.due("zimbra", 799.0, 10) == []
    assert len(await spool.due("zimbra", 800.0, 10)) == 1


async def test_deferral_that_was_no_attempt_and_is_due_at_once_keeps_draining(kit: Any, spool: Spool) -> None:
    await kit.put(spool, kit.rcpt(BOX, held=True))
    await spool.release([BOX], 500.0)
    (work,) = await spool.draining(BOX, 10)
    number = work.recipients[0].number
    await spool.settle(work.message, [kit.outcome(number, Disposition.DEFERRED, at=600.0, due=600.0, counted=False)])
    assert (await one_draining(spool)).attempts == 0
    await spool.settle(work.message, [kit.outcome(number, Disposition.DEFERRED, at=600.0, due=700.0, counted=False)])
    assert await spool.draining(BOX, 10) == []


async def test_deferral_decided_before_a_release_leaves_it_due_now(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool)
    await spool.release([BOX], 500.0)
    verdict = kit.outcome(work.recipients[0].number, Disposition.DEFERRED, due=9999.0, in_doubt=True, lane="cliff")
    await spool.settle(work.message, [verdict])
    one = await one_draining(spool)
    assert (one.due, one.possible_duplicate) == (500.0, True)


async def test_hold_decided_before_a_release_does_not_keep_it(kit: Any, spool: Spool) -> None:
    """The mailbox was not known when the release ran: without the generation it would be held for ever."""
    work = await kit.put(spool, kit.rcpt("alias@example.edu", mailbox=""))
    await spool.release([BOX], 500.0)
    verdict = kit.outcome(work.recipients[0].number, Disposition.HELD, at=501.0, mailbox=BOX)
    await spool.settle(work.message, [verdict])
    one = await one_draining(spool)
    assert (one.mailbox, one.due, one.clock_start) == (BOX, 501.0, 501.0)
    (again,) = await spool.draining(BOX, 1)
    await spool.settle(again.message, [verdict])
    assert await spool.held_mailboxes() == [BOX]


async def test_message_accepted_with_an_outdated_hold_is_not_held(kit: Any, spool: Spool) -> None:
    class Slow(SpoolBody):
        """While the body becomes durable, the hold that RCPT saw is released."""

        async def finish(self) -> StoredBody:
            await spool.release([BOX], 500.0)
            return await super().finish()

    body = Slow(spool._bodies)
    await body.write(b"x\r\n")
    work = await spool.accept(kit.ENVELOPE, [kit.rcpt(BOX, held=True)], body, kit.HEADER, 499.0)
    assert work.recipients[0].state == "queued"
    assert work.recipients[0].draining
    assert await spool.held_mailboxes() == []


async def test_operator_parked_it_meanwhile(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool)
    number = work.recipients[0].number
    assert await spool.desk.park([number], actor="root", reason="looks odd") == 1
    await spool.release([BOX], 500.0)
    await spool.settle(
        work.message, [kit.outcome(number, Disposition.DEFERRED, due=1.0), kit.outcome(number, Disposition.HELD)]
    )
    assert (await spool.desk.counts()).mail.parked == 1


async def test_long_releases_go_in_chunks(kit: Any, spool: Spool) -> None:
    everybody = [kit.rcpt(BOX, held=True) for _ in range(CHUNK + 50)]
    await kit.put(spool, *everybody)
    await kit.put(spool, kit.rcpt("b@example.edu", held=True))
    before = spool._writer.commits
    assert await spool.release([BOX, "b@example.edu"], 500.0) == CHUNK + 51
    assert spool._writer.commits - before == 2
    assert await spool.held_mailboxes() == []
    assert await spool.draining_mailboxes() == [BOX, "b@example.edu"]


def test_release_memory_is_bounded_and_forgets_to_the_safe_side() -> None:
    releases = Releases(limit=2)
    releases.note({"a"})
    assert releases.after("a", 0)
    assert not releases.after("a", 1)
    assert not releases.after("b", 0)
    releases.note({"b", "c"})
    assert releases.after("a", 1)
    assert not releases.after("a", 2)


async def test_an_urgent_outcome_does_not_wait_for_company(
    kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.spool.writer.LINGER", 30.0)
    work = await kit.put(spool, kit.rcpt(BOX))
    outcome = kit.outcome(work.recipients[0].number, Disposition.DELIVERED)
    settled = await asyncio.wait_for(spool.settle(work.message, [outcome], urgent=True), 25)
    assert settled.removed
