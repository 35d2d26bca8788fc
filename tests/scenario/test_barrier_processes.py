"""
A hold is exact against real processes (promise 2): stores that hang at every stage, workers stopped and killed there,
workers that join during a hold, and replies that never come. After `hold` says quiet, nothing reaches any store.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.hands import stages
from support.site import Site
from support.trio import Trio

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]
Send = Callable[..., Any]
BEFORE_THE_DOT = [Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA]


def seen(store: RecordingStore) -> list[str]:
    return sorted(name for arrival in store.arrivals for name, _ in arrival.recipients)


def hang(store: RecordingStore, stage: Stage) -> list[Stage]:
    """From now on the store hangs at the stage; what `hanging` wants to know."""
    store.behaviour = Behaviour(hang=frozenset({stage}))
    return stages(store)


async def hanging(store: RecordingStore, stage: Stage, seen: list[Stage]) -> None:
    """Wait until a connection of the relay is at the store, and has come to the stage."""
    end = time.monotonic() + 60
    while True:
        early = stage in {Stage.CONNECT, Stage.HELO, Stage.MAIL}
        there = stage in seen if stage in {Stage.DATA, Stage.DOT} else early or bool(store.attempts)
        if store.open_connections and there:
            await asyncio.sleep(0.2)
            return
        assert time.monotonic() < end, "no delivery began"
        await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def lasting(lasting_site: Callable[..., Site]) -> Site:
    return lasting_site()


@pytest.mark.parametrize("stage", BEFORE_THE_DOT)
async def test_store_that_hangs_before_the_dot_is_reset_and_the_others_arrive_once(
    stage: Stage, site: Site, trio: Trio, stores: Stores, send: Send
) -> None:
    come = hang(stores["old"], stage)
    await send(site, trio.alice, trio.bob)
    await hanging(stores["old"], stage, come)

    held = await site.hold(trio.alice, timeout=60)
    assert held.quiet
    stores["old"].behaviour = Behaviour()
    await stores["old"].arrived(1, timeout=60)
    await asyncio.sleep(0.5)
    assert seen(stores["old"]) == [trio.bob]

    await site.release(trio.alice, to="new")
    assert await site.drained() == 0
    assert seen(stores["old"]) == [trio.bob]
    assert seen(stores["new"]) == [trio.alice]
    site.balance()


async def test_store_that_hangs_after_the_dot_keeps_the_barrier_until_it_replies(
    site: Site, trio: Trio, stores: Stores, send: Send
) -> None:
    come = hang(stores["old"], Stage.DOT)
    await send(site, trio.alice)
    await hanging(stores["old"], Stage.DOT, come)

    held = await site.hold(trio.alice, timeout=1.0)
    assert not held.quiet
    assert [waiting.stage for waiting in held.waiting_for] == ["dot"]
    stores["old"].behaviour = Behaviour()
    held = await site.hold(trio.alice, timeout=60)
    assert held.quiet
    assert held.in_doubt == ()
    assert await site.drained() == 0
    assert seen(stores["old"]) == [trio.alice]


async def test_reply_that_never_comes_is_in_doubt_for_the_settle_time_and_named(
    site: Site, trio: Trio, stores: Stores, send: Send
) -> None:
    seen_there = hang(stores["old"], Stage.DOT)
    await send(site, trio.alice, tag="doubt")
    await hanging(stores["old"], Stage.DOT, seen_there)
    waits = await site.hold(trio.alice, timeout=0.1)
    assert not waits.quiet
    # Hazard: doubt lasts for the settle time only, so the hold is there before it begins.
    began = time.monotonic()
    for connection in tuple(stores["old"]._connections):
        connection.abort()
    await stores["old"].arrived(1, timeout=60)
    stores["old"].behaviour = Behaviour()
    held = await site.hold(trio.alice, timeout=60)
    assert held.quiet
    assert time.monotonic() - began < 45
    assert [doubt.store for doubt in held.in_doubt] == ["old"]
    assert "doubt@outside.example" in held.in_doubt[0].message_id

    await site.release(trio.alice, to="new")
    assert await site.drained() == 0
    assert seen(stores["old"]) == [trio.alice]
    assert seen(stores["new"]) == [trio.alice]
    delivered = [row for row in site.journal() if row.recipient == trio.alice and row.disposition == "delivered"]
    assert [row.note for row in delivered] == ["possible duplicate"]


@pytest.mark.parametrize("stage", [Stage.HELO, Stage.RCPT, Stage.DATA, Stage.DOT])
async def test_stopped_worker_is_killed_and_sends_nothing_after_quiet(
    stage: Stage, stores: Stores, make_site: MakeSite, send: Send
) -> None:
    async with make_site(settings={"safety": {"ack_timeout": "1s"}}) as site:
        come = hang(stores["old"], stage)
        await send(site, "alice@example.edu")
        await hanging(stores["old"], stage, come)
        [pid] = site.worker_pids()
        os.kill(pid, signal.SIGSTOP)

        held = await site.hold("alice@example.edu", timeout=60)
        quiet_at = time.monotonic()
        assert held.quiet
        stores["old"].behaviour = Behaviour()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(1.0)

        assert [arrival for arrival in stores["old"].arrivals if arrival.at > quiet_at] == []
        assert bool(held.in_doubt) or stage is not Stage.DOT
        await site.release("alice@example.edu", to="new")
        assert await site.drained() == 0
        assert seen(stores["new"]) == ["alice@example.edu"]


async def test_killed_worker_leaves_nothing_for_the_kernel_to_send(
    stores: Stores, make_site: MakeSite, send: Send
) -> None:
    async with make_site() as site:
        come = hang(stores["old"], Stage.DATA)
        await send(site, "alice@example.edu")
        await hanging(stores["old"], Stage.DATA, come)
        os.kill(site.worker_pids()[0], signal.SIGKILL)
        held = await site.hold("alice@example.edu", timeout=60)
        assert held.quiet
        stores["old"].behaviour = Behaviour()
        await asyncio.sleep(0.5)
        assert seen(stores["old"]) == []


async def test_worker_that_joins_during_a_hold_delivers_nothing_for_it(
    stores: Stores, make_site: MakeSite, send: Send
) -> None:
    async with make_site(workers=2) as site:
        stores["old"].behaviour = Behaviour(replies={Stage.RCPT: "451 4.3.2 not now"})
        for number in range(6):
            await send(site, "alice@example.edu", tag=f"m{number}")
        await asyncio.to_thread(site.stop)
        held = await site.hold("alice@example.edu", timeout=60)
        assert held.quiet
        stores["old"].behaviour = Behaviour()
        await asyncio.to_thread(site.start)
        await send(site, "bob@example.edu", tag="bob")
        await stores["old"].arrived(1, timeout=60)
        await asyncio.sleep(1.5)
        assert seen(stores["old"]) == ["bob@example.edu"]
        await site.release("alice@example.edu", to="new")
        assert await site.drained() == 0
        assert seen(stores["new"]) == ["alice@example.edu"] * 6
