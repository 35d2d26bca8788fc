"""The guards of the protocol, each by the interleaving that it is there for."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest
from support.memory import World
from support.plane import Plane

from router.deliver.inflight import InFlight
from router.model.mailbox import Hold
from router.model.outcome import Disposition
from router.model.parcel import Parcel, Verdict
from router.model.reply import HopReply
from router.ports import Gate

ALICE = "alice@example.edu"


@pytest.fixture
def world() -> World:
    world = World()
    world.add("alice", "old")
    return world


@pytest.mark.parametrize("cached", [True, False])
async def test_a_hold_at_any_step_of_the_loop_is_exact(cached: bool) -> None:
    """Barrier rule 1: wherever a hold falls, once nothing blocks it the store takes nothing more, ever."""
    took = []
    for step in range(45):
        world = World()
        world.add("alice", "old")
        async with Plane(world) as plane:
            if cached:
                await plane.send(ALICE)
                await plane.settle()
            sending = asyncio.ensure_future(plane.send(ALICE))
            for _ in range(step):
                await asyncio.sleep(0)
            plane.hold(ALICE)
            for _ in range(1000):
                if plane.barrier.quiet(ALICE):
                    break
                await asyncio.sleep(0)
            quiet = len(plane.arrivals)
            await sending
            await plane.settle()
            assert len(plane.arrivals) == quiet, f"delivered after quiet, hold at step {step}"
            took.append(quiet - cached)
    assert (min(took), max(took)) == (0, 1)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_release_at_any_step_of_the_loop_leaves_nothing_held(waits: bool) -> None:
    """Deciding to hold and remembering it are one step: a release in between would not see the recipient."""
    for step in range(30):
        world = World()
        world.add("alice", "old")
        async with Plane(world) as plane:
            if waits:  # accepted before the hold: the dispatch holds it
                plane.lanes.pause(frozenset({"old"}))
                await plane.send(ALICE)
            plane.hold(ALICE)
            plane.releases._held.clear()  # the change itself has not come here yet
            if waits:
                plane.lanes.pause(frozenset())
            sending = [] if waits else [asyncio.create_task(plane.send(ALICE))]
            for _ in range(step):
                await asyncio.sleep(0)
            plane.release(ALICE, "new")
            await asyncio.gather(*sending)
            await plane.settle(partial(arrived, plane))
            assert plane.at("old") == []


def arrived(plane: Plane) -> bool:
    return plane.at("new") == [ALICE]


def test_a_cancelled_delivery_may_not_pass_its_dot() -> None:
    inflight = InFlight(lambda _ended: None)
    entry = inflight.register([ALICE], "old", "Q1", "", 0.0)
    [row] = inflight.hold(ALICE, Hold(1, 0.0, 2))
    assert (row.stage, row.queue_id, row.store) == ("route", "Q1", "old")
    assert not entry.pass_dot()
    assert not entry.passed


async def test_a_sender_that_was_not_called_back_in_time_stops_at_the_dot(world: World) -> None:
    """The abort may come when everything but the dot is written: the gate has the last word."""
    async with Plane(world) as plane:
        at_the_dot, go = asyncio.Event(), asyncio.Event()

        async def send(parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
            at_the_dot.set()
            await go.wait()
            passed = gate.pass_dot()
            if passed:
                plane.arrivals.append(None)  # type: ignore[arg-type]
            reply = HopReply(250, "2.0.0", "ok") if passed else HopReply(451, "4.3.2", "interrupted")
            return [Verdict(one.number, reply, no_attempt=not passed) for one in parcel.recipients]

        plane.senders["old"].send = send  # type: ignore[method-assign]
        await plane.send(ALICE)
        await at_the_dot.wait()
        plane.hold(ALICE)
        go.set()
        await plane.settle()
        assert plane.arrivals == []
        assert plane.barrier.quiet(ALICE)


async def test_a_message_that_commits_as_held_after_the_release_is_released(world: World) -> None:
    async with Plane(world) as plane:
        plane.hold(ALICE)
        accept, go = plane.spool.accept, asyncio.Event()

        async def slow(*args: object, **more: object) -> object:
            await go.wait()
            return await accept(*args, **more)  # type: ignore[arg-type]

        plane.spool.accept = slow  # type: ignore[method-assign]
        sending = asyncio.ensure_future(plane.send(ALICE))
        await asyncio.sleep(0.01)
        plane.release(ALICE, "new")
        await plane.settle(lambda: not plane.releases._tasks - {_sweeper(plane)})
        go.set()
        await sending
        await plane.settle(lambda: plane.at("new") == [ALICE])


async def test_a_dispatch_that_commits_as_held_after_the_release_is_released(world: World) -> None:
    async with Plane(world) as plane:
        settle, go, deciding = plane.spool.settle, asyncio.Event(), asyncio.Event()

        async def slow(*args: object, **more: object) -> object:
            deciding.set()
            await go.wait()
            return await settle(*args, **more)  # type: ignore[arg-type]

        plane.spool.settle = slow  # type: ignore[method-assign]
        plane.lanes.pause(frozenset({"old"}))
        await plane.send(ALICE)
        plane.hold(ALICE)
        for row in plane.spool.rows.values():
            row.recipient = row.recipient.__class__(row.recipient.number, row.recipient.address, due=plane.clock.now)
        await deciding.wait()
        plane.release(ALICE, "new")
        await plane.settle(lambda: not plane.releases._tasks - {_sweeper(plane)})
        go.set()
        await plane.settle(lambda: plane.at("new") == [ALICE])


def _sweeper(plane: Plane) -> asyncio.Task[None]:
    [task] = [task for task in plane.releases._tasks if "look_around" in repr(task.get_coro())]
    return task


@pytest.mark.parametrize("first", ["rcpt", "dispatch"])
async def test_a_hold_seen_by_a_lookup_before_its_change_came_is_believed(world: World, first: str) -> None:
    """Otherwise the mail would be released, routed to held, and released again until the change comes."""
    async with Plane(world) as plane:
        released: list[object] = []
        release = plane.spool.release

        async def counted(*args: object) -> int:
            released.append(args)
            return await release(*args)  # type: ignore[arg-type]

        plane.spool.release = counted  # type: ignore[method-assign]
        if first == "dispatch":
            plane.lanes.pause(frozenset({"old"}))
            await plane.send(ALICE)
        world.hold(ALICE)
        plane.classifier._cache.clear()
        if first == "rcpt":
            await plane.send(ALICE)
        else:
            plane.lanes.pause(frozenset())
        await plane.settle(lambda: [r.recipient.state.value for r in plane.spool.rows.values()] == ["held"])
        await asyncio.sleep(0.02)
        assert released == []
        assert len([one for one in plane.spool.settled if one.disposition is Disposition.HELD]) <= 1

        # Hold and release lie between two looks at the changes: only the end of it is told.
        plane.release(ALICE, "new")
        await plane.settle(lambda: plane.at("new") == [ALICE])
        assert len(released) == 1
