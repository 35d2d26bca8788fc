"""A next hop's places: given back with its answer, unless more is to be sent from there; the commit comes after."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.memory import World
from support.plane import Plane

from router.deliver.lanes import ROUTE_LANE
from router.deliver.place import Place
from router.model.address import parse_address
from router.model.envelope import HeaderFacts, Work
from router.model.parcel import Parcel, Verdict
from router.model.route import Classification, DispatchFacts, Route
from router.ports import Gate


@pytest.fixture
def world() -> World:
    world = World()
    for local in ("alice", "bob", "carol"):
        world.add(local, "old")
    return world


class StuckDisk:
    """Commits outcomes when told to."""

    def __init__(self, plane: Plane) -> None:
        self.go = asyncio.Event()
        self.waiting = 0
        self._settle = plane.spool.settle
        plane.spool.settle = self.settle  # type: ignore[method-assign]

    async def settle(self, *args: Any, **kwargs: Any) -> Any:
        self.waiting += 1
        await self.go.wait()
        return await self._settle(*args, **kwargs)


async def test_a_store_takes_the_next_message_while_the_last_is_committed(world: World) -> None:
    async with Plane(world, limit=1) as plane:
        disk = StuckDisk(plane)
        for local in ("alice", "bob", "carol"):
            await plane.send(f"{local}@example.edu")
        await plane.settle(lambda: disk.waiting == 3)
        assert plane.senders["old"].most == 1
        for mailbox in ("alice@example.edu", "bob@example.edu", "carol@example.edu"):
            plane.hold(mailbox)
            assert not plane.barrier.quiet(mailbox)  # barrier rule 2: until the outcome has committed

        disk.go.set()
        await plane.settle()
        assert plane.at("old") == ["alice@example.edu", "bob@example.edu", "carol@example.edu"]
        assert all(plane.barrier.quiet(f"{local}@example.edu") for local in ("alice", "bob", "carol"))
        assert not plane.spool.rows


async def test_a_message_that_is_not_through_keeps_its_place(world: World) -> None:
    """The store takes one recipient a transaction: the second transaction needs the place of the first."""
    async with Plane(world, limit=1) as plane:
        disk, store = StuckDisk(plane), plane.senders["old"]
        real = store.send

        async def one_at_a_time(parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
            first = replace(parcel, recipients=parcel.recipients[:1])
            verdicts = list(await real(first, gate))
            return verdicts + [replace(verdicts[0], recipient=r.number, split=True) for r in parcel.recipients[1:]]

        store.send = one_at_a_time  # type: ignore[method-assign]
        await plane.send("alice@example.edu", "bob@example.edu")
        await plane.send("carol@example.edu")
        await plane.settle(lambda: disk.waiting == 1)
        for _ in range(200):
            await asyncio.sleep(0)
        assert plane.at("old") == ["alice@example.edu"]

        disk.go.set()
        await plane.settle()
        assert store.most == 1
        assert plane.at("old") == ["alice@example.edu", "bob@example.edu", "carol@example.edu"]


async def test_released_mail_goes_straight_to_the_lane_of_its_route(world: World) -> None:
    """One dispatch for each message: the lane of its row is that of the former home."""
    async with Plane(world) as plane:
        plane.hold("alice@example.edu")
        for _ in range(5):
            await plane.send("alice@example.edu")
        asked: list[str] = []
        handle = plane.lanes._handle

        async def watched(lane: str, work: Work, place: Place) -> None:
            asked.append(lane)
            await handle(lane, work, place)

        plane.lanes._handle = watched
        await plane.classifier.classify(parse_address("alice@example.edu"))
        plane.release("alice@example.edu", home="new")
        await plane.settle()
        assert plane.at("new") == ["alice@example.edu"] * 5
        assert asked.count("new") == 5
        assert asked.count(ROUTE_LANE) <= 1  # who it is was to be asked for anew


async def test_released_mail_that_makes_the_router_fail_does_not_keep_what_is_behind_it(world: World) -> None:
    async with Plane(world) as plane:
        plane.hold("alice@example.edu")
        for _ in range(3):
            await plane.send("alice@example.edu")
        decide = plane.dispatcher._router.at_dispatch
        worst = sorted(plane.spool.rows)[1]  # by then it is known who that is

        def fail(found: Classification, facts: DispatchFacts, now: float) -> Route:
            if facts.marks == ("poison",):
                raise ValueError("no such route")
            return decide(found, facts, now)

        row = plane.spool.rows[worst]
        row.message = replace(row.message, header=HeaderFacts(marks=("poison",)))
        plane.dispatcher._router = SimpleNamespace(at_dispatch=fail)
        plane.release("alice@example.edu", home="new")
        await plane.settle(lambda: len(plane.at("new")) == 2)
        await plane.settle()
        assert [row.recipient.number for row in plane.spool.rows.values()] == [worst]
        assert not row.recipient.draining
