"""
Mail that an operator takes away while it is being delivered, or waits in memory for a busy store: it is called back
before the final dot, left alone after it, and never sent when it is gone.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from support.memory import World
from support.plane import Plane

from router.deliver.recall import Recall
from router.model.envelope import RecipientState
from router.pipeline import conclude

ALICE, BOB = "alice@example.edu", "bob@example.edu"
BEFORE_THE_DOT = ["connect", "mail", "rcpt", "data", "dot"]


@pytest.fixture
def world() -> World:
    world = World()
    world.add("alice", "old")
    world.add("bob", "old")
    return world


def numbers_of(plane: Plane, address: str) -> list[int]:
    return [number for number, row in plane.spool.rows.items() if row.recipient.address.key == address]


async def remove(plane: Plane, numbers: list[int], patience: float = 60.0) -> tuple[int, int]:
    """As the desk does; how many were removed, and how many are under way."""
    async with Recall(plane.claims, plane.inflight, patience)(numbers) as recalled:
        await asyncio.sleep(0.005)
        for number in recalled.ours:
            del plane.spool.rows[number]
    return len(recalled.ours), len(recalled.under_way)


@pytest.mark.parametrize("stage", BEFORE_THE_DOT)
async def test_before_the_dot_it_is_called_back_and_the_others_go_on(world: World, stage: str) -> None:
    async with Plane(world) as plane:
        store = plane.senders["old"]
        store.pause = stage
        await plane.send(ALICE, BOB)
        await store.reached.wait()
        store.pause = ""
        assert await remove(plane, numbers_of(plane, ALICE)) == (1, 0)
        await plane.settle()
        assert plane.at("old") == [BOB]
        assert not plane.spool.rows
        assert not plane.claims.calling


async def test_after_the_dot_it_is_left_alone(world: World) -> None:
    async with Plane(world) as plane:
        store = plane.senders["old"]
        store.pause = "reply"
        await plane.send(ALICE)
        await store.reached.wait()
        assert await remove(plane, numbers_of(plane, ALICE), 0.05) == (0, 1)
        store.resume.set()
        await plane.settle()
        assert plane.at("old") == [ALICE]
        assert not plane.claims.calling


async def test_after_the_dot_a_reply_in_time_is_waited_for(world: World) -> None:
    async with Plane(world) as plane:
        store = plane.senders["old"]
        store.pause = "reply"
        await plane.send(ALICE)
        await store.reached.wait()
        asyncio.get_running_loop().call_later(0.02, store.resume.set)
        async with Recall(plane.claims, plane.inflight, 60.0)(numbers_of(plane, ALICE)) as recalled:
            assert recalled.under_way == []
            assert not plane.spool.rows, "it is delivered, and there is nothing to remove"
        await plane.settle()


async def test_what_waits_in_memory_is_not_sent(world: World) -> None:
    async with Plane(world, limit=1) as plane:
        store = plane.senders["old"]
        store.pause = "mail"
        await plane.send(BOB)
        await store.reached.wait()
        for _ in range(5):
            await plane.send(ALICE)
        assert await remove(plane, numbers_of(plane, ALICE)) == (5, 0)
        store.resume.set()
        await plane.settle()
        assert plane.at("old") == [BOB]
        assert not plane.claims.calling


async def test_a_release_goes_on_with_what_is_left(world: World) -> None:
    async with Plane(world, limit=1) as plane:
        plane.hold(ALICE)
        for _ in range(4):
            await plane.send(ALICE)
        store = plane.senders["old"]
        store.pause = "mail"
        plane.release(ALICE)
        await store.reached.wait()
        store.pause = ""
        assert await remove(plane, numbers_of(plane, ALICE)[:3]) == (3, 0)
        store.resume.set()
        await plane.settle()
        assert plane.at("old") == [ALICE]


# --- what ends without a delivery: mail for somebody who forwards it, or whom nobody knows any more


@contextmanager
def slow_commits(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """The spool takes its time: the first event tells that a commit has begun, the second lets it go on."""
    begun, go_on, settle = asyncio.Event(), asyncio.Event(), plane.spool.settle

    async def slow(*args: Any, **more: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await settle(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(plane.spool, "settle", slow)
        yield begun, go_on


@pytest.fixture
def forwarding(world: World) -> World:
    world.add("carol", "old", BOB, keeps=False)
    world.add("dave", "old", BOB, keeps=False)
    return world


CAROL, DAVE = "carol@example.edu", "dave@example.edu"


async def test_whose_end_is_being_committed_is_left_alone(forwarding: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Plane(forwarding) as plane:
        with slow_commits(plane, monkeypatch) as (begun, go_on):
            await plane.send(CAROL)
            await begun.wait()
            assert await remove(plane, numbers_of(plane, CAROL), 0.05) == (0, 1)
            go_on.set()
            await plane.settle()
        assert plane.at("old") == [BOB]
        assert not plane.claims.calling


async def test_such_a_commit_is_waited_for(forwarding: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Plane(forwarding) as plane:
        with slow_commits(plane, monkeypatch) as (begun, go_on):
            await plane.send(CAROL)
            await begun.wait()
            asyncio.get_running_loop().call_later(0.02, go_on.set)
            async with Recall(plane.claims, plane.inflight, 60.0)(numbers_of(plane, CAROL)) as recalled:
                assert recalled.under_way == []
                assert not numbers_of(plane, CAROL), "there is nothing to remove"
            await plane.settle()


async def test_whose_end_is_decided_and_not_yet_committed_is_called_back(
    forwarding: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conclude, "MOST_OPENED", 1)
    async with Plane(forwarding) as plane:
        with slow_commits(plane, monkeypatch) as (begun, go_on):
            await plane.send(CAROL, DAVE)
            await begun.wait()
            (dave,) = numbers_of(plane, DAVE)
            async with Recall(plane.claims, plane.inflight, 0.05)([dave]) as recalled:
                row = plane.spool.rows[dave]
                row.recipient = replace(row.recipient, state=RecipientState.PARKED, due=0.0)
            assert recalled.ours == [dave], "the commit under way is Carol's"
            go_on.set()
            await plane.settle(lambda: plane.at("old") == [BOB])
            await plane.settle()
        assert list(plane.spool.rows) == [dave]
        assert not plane.claims.calling
