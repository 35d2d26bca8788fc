"""A drain that reads ahead: the order stays, what changes meanwhile is obeyed, and memory is bounded."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.memory import World
from support.plane import Plane

from router.deliver import drain
from router.deliver.recall import Recall
from router.model.envelope import RecipientState, Work
from router.model.reply import HopReply

ALICE, BOB = "alice@example.edu", "bob@example.edu"
MANY = 40


@pytest.fixture
def world() -> World:
    world = World()
    for local in ("alice", "bob"):
        world.add(local, "old")
    return world


async def held(plane: Plane, count: int = MANY) -> list[str]:
    """So many messages on hold; their queue-ids in order of arrival."""
    plane.hold(ALICE)
    for _ in range(count):
        await plane.send(ALICE)
    await plane.settle()
    return [row.message.queue_id for row in plane.spool.rows.values()]


async def in_the_midst(plane: Plane, stage: str = "reply") -> None:
    """The first is at this stage, and the next ones have been read."""
    store = plane.senders["new"]
    store.pause = stage
    plane.release(ALICE, "new")
    await store.reached.wait()
    store.pause = ""
    assert len(plane.claims) == drain.AHEAD


def arrived(plane: Plane) -> list[str]:
    return [one.queue_id for one in plane.arrivals]


def reads(plane: Plane) -> list[tuple[int, int]]:
    """The reads from now on: how many works were asked for, and octets of bodies."""
    noted: list[tuple[int, int]] = []
    real = plane.spool.draining

    async def counted(mailbox: str, limit: int, octets: int = 0) -> Sequence[Work]:
        noted.append((limit, octets))
        works: list[Work] = await real(mailbox, limit, octets)
        return works

    plane.spool.draining = counted  # type: ignore[method-assign]
    return noted


async def test_it_reads_some_at_once_and_delivers_one_after_the_other(world: World) -> None:
    async with Plane(world) as plane:
        ids = await held(plane)
        noted = reads(plane)
        plane.release(ALICE, "new")
        await plane.settle(lambda: not plane.spool.rows)
        assert arrived(plane) == ids
        assert plane.senders["new"].most == 1
        assert len(noted) <= MANY // drain.AHEAD + 2


async def test_what_is_read_ahead_is_bounded(world: World) -> None:
    async with Plane(world) as plane:
        await held(plane)
        noted = reads(plane)
        await in_the_midst(plane)
        assert noted == [(drain.AHEAD, drain.OCTETS)]
        assert plane.drain._width * drain.OCTETS <= 16 << 20
        plane.senders["new"].resume.set()
        await plane.settle(lambda: not plane.spool.rows)


async def test_a_drain_that_waits_for_its_commits_alone_asks_for_them_at_once(world: World) -> None:
    async with Plane(world) as plane:
        await held(plane, 3)
        await plane.send(BOB)
        await plane.settle(lambda: len(plane.spool.rows) == 3)
        plane.spool.urgent.clear()
        plane.release(ALICE, "new")
        await plane.settle(lambda: not plane.spool.rows)
        await plane.settle()
        assert plane.spool.urgent == [True] * 3
        await plane.send(ALICE)
        await plane.settle(lambda: not plane.spool.rows)
        assert plane.spool.urgent == [True] * 3 + [False]


async def test_the_outcomes_of_many_drains_keep_each_other_company(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "FEW", 0)
    async with Plane(world) as plane:
        await held(plane, 3)
        plane.spool.urgent.clear()
        plane.release(ALICE, "new")
        await plane.settle(lambda: not plane.spool.rows)
        assert plane.spool.urgent == [False] * 3


async def test_a_deferral_does_not_block_the_next(world: World) -> None:
    async with Plane(world) as plane:
        ids = await held(plane, 5)
        later = iter([HopReply(451, "4.2.0", "busy", "store")])
        plane.senders["new"].answer = lambda _wire: next(later, HopReply(250, "2.0.0", "ok", "store"))
        plane.release(ALICE, "new")
        await plane.settle()
        assert arrived(plane) == ids[1:]


@pytest.mark.parametrize("stage", ["connect", "data", "dot"])
async def test_a_hold_in_the_midst_stops_it_at_once(world: World, stage: str) -> None:
    async with Plane(world) as plane:
        ids = await held(plane)
        await in_the_midst(plane, stage)
        plane.hold(ALICE)
        plane.senders["new"].resume.set()
        await plane.settle()
        assert arrived(plane) == []
        assert {row.recipient.state for row in plane.spool.rows.values()} == {RecipientState.HELD}
        plane.release(ALICE, "old")
        await plane.settle(lambda: not plane.spool.rows)
        assert arrived(plane) == ids
        assert plane.at("new") == []


async def test_a_paused_store_in_the_midst_stops_it_at_once(world: World) -> None:
    async with Plane(world) as plane:
        ids = await held(plane)
        await in_the_midst(plane)
        plane.lanes.pause(frozenset({"new"}))
        plane.senders["new"].resume.set()
        await asyncio.sleep(0.05)
        assert arrived(plane) == ids[:1]
        plane.lanes.pause(frozenset())
        await plane.settle(lambda: not plane.spool.rows)
        assert arrived(plane) == ids


async def test_nothing_is_read_ahead_for_a_store_that_takes_nothing(world: World) -> None:
    """Every place asks anew all the time: bodies that nobody takes are not read for that."""
    async with Plane(world) as plane:
        ids = await held(plane)
        noted = reads(plane)
        plane.release(ALICE, "new")
        plane.lanes.pause(frozenset({"new"}))
        await plane.settle(lambda: len(noted) > 4)
        assert set(noted[1:]) == {(1, 0)}
        plane.lanes.pause(frozenset())
        await plane.settle(lambda: not plane.spool.rows)
        assert arrived(plane) == ids
        assert (drain.AHEAD, drain.OCTETS) in noted[5:]


async def test_a_removal_that_fails_leaves_the_order_as_it_was(world: World) -> None:
    async with Plane(world) as plane:
        ids = await held(plane)
        await in_the_midst(plane)
        second = [number for number, row in plane.spool.rows.items() if row.message.queue_id == ids[1]]
        recall = Recall(plane.claims, plane.inflight, 60.0)
        store = plane.senders["new"]
        store.pause = "data"
        store.reached.clear()
        await asyncio.sleep(0.01)  # who has reached it waits by now
        store.resume.set()
        store.resume.clear()
        await plane.settle(store.reached.is_set)  # the second is on its way
        with pytest.raises(OSError, match="no copy"):
            async with recall(second):
                raise OSError("no copy")
        store.pause = ""
        store.resume.set()
        await plane.settle(lambda: not plane.spool.rows)
        assert arrived(plane) == ids


async def test_what_is_removed_in_the_midst_is_not_sent(world: World) -> None:
    async with Plane(world) as plane:
        ids = await held(plane)
        await in_the_midst(plane)
        numbers = [number for number, row in plane.spool.rows.items() if row.message.queue_id in {ids[1], ids[5]}]
        async with Recall(plane.claims, plane.inflight, 60.0)(numbers) as recalled:
            plane.senders["new"].resume.set()
            await asyncio.sleep(0.02)
            for number in recalled.ours:
                del plane.spool.rows[number]
        await plane.settle(lambda: not plane.spool.rows)
        assert arrived(plane) == [ids[0], *ids[2:5], *ids[6:]]
        assert not plane.claims.calling


async def test_what_is_parked_in_the_midst_is_not_sent_and_keeps_nobody_waiting(world: World) -> None:
    async with Plane(world) as plane:
        plane.drain._patience = 3600.0
        ids = await held(plane)
        await in_the_midst(plane)
        rows = [row for row in plane.spool.rows.values() if row.message.queue_id == ids[3]]
        async with Recall(plane.claims, plane.inflight, 60.0)([row.recipient.number for row in rows]):
            for row in rows:
                row.recipient = replace(row.recipient, state=RecipientState.PARKED, due=1e12, draining=False)
        plane.senders["new"].resume.set()
        await plane.settle(lambda: len(plane.spool.rows) == 1)
        assert arrived(plane) == [*ids[:3], *ids[4:]]


async def test_what_comes_to_stand_before_them_goes_first(world: World) -> None:
    """The copy that a forward of an older message opens stands before what was read."""
    async with Plane(world) as plane:
        ids = await held(plane)
        await in_the_midst(plane)
        [older] = [row for row in plane.spool.rows.values() if row.message.queue_id == ids[0]]
        copy = replace(older.recipient, number=older.recipient.number + 1)
        plane.spool.rows[copy.number] = replace(older, recipient=copy, order=copy.number)
        plane.releases.arrived(ALICE)
        plane.senders["new"].resume.set()
        await plane.settle(lambda: not plane.spool.rows)
        assert arrived(plane) == [ids[0], *ids]


async def test_nothing_is_read_ahead_while_a_release_is_being_written(world: World) -> None:
    """What it frees may stand before what was read: each is looked for anew until the release is done."""
    async with Plane(world) as plane:
        ids = await held(plane)
        await in_the_midst(plane)
        noted = reads(plane)
        with plane.drain.expecting([ALICE]):
            plane.senders["new"].resume.set()
            await plane.settle(lambda: len(plane.arrivals) >= 4)
        assert set(noted) == {(1, drain.OCTETS)}
        await plane.settle(lambda: not plane.spool.rows)
        assert arrived(plane) == ids
        assert not plane.drain._expected


async def test_a_second_release_in_the_midst_begins_with_the_first_message(world: World) -> None:
    """Part of the mail is on hold again when the mailbox is released: it goes before what was read after it."""
    async with Plane(world) as plane:
        ids = await held(plane)
        await in_the_midst(plane, "mail")
        plane.hold(ALICE)
        await plane.settle(lambda: states(plane).count(RecipientState.HELD) >= 5)
        real, let = plane.spool.release, asyncio.Event()

        async def in_two_steps(mailboxes: Sequence[str], now: float) -> int:
            count: int = await real(mailboxes, now)
            await let.wait()
            return count

        plane.spool.release = in_two_steps  # type: ignore[method-assign]
        plane.release(ALICE, "new")
        await plane.settle(lambda: len(plane.arrivals) >= 5)
        let.set()
        await plane.settle(lambda: not plane.spool.rows)
        order = [ids.index(one) for one in arrived(plane)]
        assert sorted(order) == list(range(MANY))
        # What was tried at the moment of the release may go before; nothing else.
        assert sum(order[i] > order[i + 1] for i in range(MANY - 1)) <= 1
        assert order.index(0) <= 2


def states(plane: Plane) -> list[RecipientState]:
    return [row.recipient.state for row in plane.spool.rows.values()]


async def test_somebody_elses_message_among_them_is_waited_for(world: World) -> None:
    """A delivery from before the release: what comes after it in the mailbox is not begun."""
    async with Plane(world) as plane:
        ids = await held(plane, 5)
        third = [number for number, row in plane.spool.rows.items() if row.message.queue_id == ids[2]]
        plane.claims.take(third)
        plane.release(ALICE, "new")
        await plane.settle(lambda: len(plane.arrivals) == 2)
        await asyncio.sleep(0.05)
        assert arrived(plane) == ids[:2]
        plane.claims.give_back(third)
        await plane.settle(lambda: not plane.spool.rows)
        assert arrived(plane) == ids


async def test_nothing_stays_claimed_when_it_is_given_up(world: World) -> None:
    async with Plane(world) as plane:
        await held(plane)
        await in_the_midst(plane)
        await plane.drain.stop()
        assert len(plane.claims) == 1, "what is at the store is in the dispatcher's hands"
        plane.senders["new"].resume.set()
        await plane.settle(lambda: not len(plane.claims))
