"""
A delivery stopped at every await between the decision and the committed outcome, and a hold at each: once the
barrier says quiet, the store takes nothing more (promise 2, barrier rules 1, 2, 6, 7).
"""

import asyncio

import pytest
from support.memory import StagedSender, World
from support.plane import SETTLE, Plane

from router.model.change import Change, ChangeKind, ChangeSet
from router.model.reply import HopReply

BEFORE_THE_DOT = ["connect", "mail", "rcpt", "data", "dot"]


@pytest.fixture
def world() -> World:
    world = World()
    world.add("alice", "old")
    world.add("bob", "old")
    return world


@pytest.mark.parametrize("stage", BEFORE_THE_DOT)
async def test_hold_before_the_dot_cancels_and_only_that_recipient_waits(world: World, stage: str) -> None:
    async with Plane(world) as plane:
        store = plane.senders["old"]
        store.pause = stage
        await plane.send("alice@example.edu", "bob@example.edu")
        await store.reached.wait()
        store.pause = ""

        plane.hold("alice@example.edu")
        await plane.settle()

        assert plane.barrier.quiet("alice@example.edu")
        assert plane.at("old") == ["bob@example.edu"]
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["held"]
        assert all(row.recipient.attempts == 0 for row in plane.spool.rows.values())


async def test_hold_after_the_dot_waits_for_the_reply_and_the_commit(world: World) -> None:
    async with Plane(world) as plane:
        store = plane.senders["old"]
        store.pause = "reply"
        await plane.send("alice@example.edu")
        await store.reached.wait()

        plane.hold("alice@example.edu")
        for _ in range(20):
            await asyncio.sleep(0)
            assert not plane.barrier.quiet("alice@example.edu")
        store.resume.set()
        await plane.settle()

        assert plane.barrier.quiet("alice@example.edu")
        assert plane.at("old") == ["alice@example.edu"]
        assert not plane.spool.rows


async def test_a_hold_is_not_quiet_while_the_outcome_is_being_committed(world: World) -> None:
    async with Plane(world) as plane:
        committing, go = asyncio.Event(), asyncio.Event()
        settle = plane.spool.settle

        async def slow_settle(*args: object, **kwargs: object) -> object:
            committing.set()
            await go.wait()
            return await settle(*args, **kwargs)  # type: ignore[arg-type]

        plane.spool.settle = slow_settle  # type: ignore[method-assign]
        await plane.send("alice@example.edu")
        await committing.wait()
        plane.hold("alice@example.edu")
        await asyncio.sleep(0.02)
        assert not plane.barrier.quiet("alice@example.edu")
        go.set()
        await plane.settle()
        assert plane.barrier.quiet("alice@example.edu")


async def test_in_doubt_blocks_for_the_settle_time_and_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Plane(world) as plane:
        later: list[tuple[float, object]] = []
        loop = asyncio.get_running_loop()
        real = loop.call_later

        def call_later(delay: float, callback: object, *args: object, **kwargs: object) -> object:
            if delay == SETTLE:
                later.append((delay, callback))
                return None
            return real(delay, callback, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_later", call_later)
        plane.senders["old"].vanish = True
        await plane.send("alice@example.edu")
        await plane.settle(lambda: bool(later))
        plane.hold("alice@example.edu")
        assert not plane.barrier.quiet("alice@example.edu")

        later[0][1]()  # type: ignore[operator]
        assert plane.barrier.quiet("alice@example.edu")
        assert [ended.in_doubt for ended in plane.barrier.in_doubt] == [True]
        [row] = plane.spool.rows.values()
        assert row.recipient.possible_duplicate


async def test_a_slow_lookup_overtaken_by_a_hold_is_asked_again(world: World) -> None:
    async with Plane(world) as plane:
        plane.classifier.slow = asyncio.Event()
        sending = asyncio.ensure_future(plane.send("alice@example.edu"))
        await plane.settle(lambda: plane.classifier.lookups > 0)

        plane.hold("alice@example.edu")
        plane.classifier.slow.set()
        await sending
        await plane.settle()

        assert plane.at("old") == []
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["held"]


async def test_recipient_accepted_for_the_old_store_follows_a_flip_before_delivery(world: World) -> None:
    async with Plane(world) as plane:
        plane.senders["old"].refuse_connection = True
        await plane.send("alice@example.edu")
        await plane.settle()
        plane.hold("alice@example.edu")
        plane.release("alice@example.edu", home="new")
        await plane.settle()

        assert plane.at("old") == []
        assert plane.at("new") == ["alice@example.edu"]


async def test_release_delivers_in_order_of_arrival_one_at_a_time(world: World) -> None:
    async with Plane(world, limit=8) as plane:
        plane.hold("alice@example.edu")
        for number in range(12):
            plane.clock.now += 1
            await plane.send("alice@example.edu", sender=f"s{number}@outside.example")
        plane.release("alice@example.edu", home="new")
        await plane.settle()

        assert [arrival.queue_id for arrival in plane.arrivals] == [f"Q{number}" for number in range(1, 13)]
        assert {arrival.lane for arrival in plane.arrivals} == {"new"}
        assert plane.senders["new"].most == 1


async def test_a_deferral_during_a_release_does_not_block_the_next(world: World) -> None:
    async with Plane(world) as plane:
        plane.hold("alice@example.edu")
        for _ in range(3):
            await plane.send("alice@example.edu")
        answers = iter([HopReply(451, "4.2.0", "busy", "store")] + [HopReply(250, "2.0.0", "ok", "store")] * 9)
        current: list[HopReply] = []

        def answer(_wire: str) -> HopReply:
            if not current:
                current.append(next(answers))
            return current[0]

        store: StagedSender = plane.senders["new"]
        store.answer = answer
        real = store.send

        async def send(parcel: object, gate: object) -> object:
            current.clear()
            return await real(parcel, gate)  # type: ignore[arg-type]

        store.send = send  # type: ignore[assignment, method-assign]
        plane.release("alice@example.edu", home="new")
        await plane.settle()

        assert [arrival.queue_id for arrival in plane.arrivals] == ["Q2", "Q3"]
        [row] = plane.spool.rows.values()
        assert row.message.queue_id == "Q1"
        assert (row.recipient.attempts, row.recipient.draining) == (1, False)


async def test_a_row_read_while_its_delivery_was_being_committed_is_not_sent_twice(world: World) -> None:
    async with Plane(world) as plane:
        for _ in range(30):
            await plane.send("alice@example.edu", "bob@example.edu")
            await plane.feeder.feed()
        await plane.settle()
        assert sorted(plane.at("old")) == ["alice@example.edu"] * 30 + ["bob@example.edu"] * 30


async def test_a_release_that_overtakes_the_commit_of_a_held_recipient_still_frees_it(world: World) -> None:
    async with Plane(world) as plane:
        plane.hold("alice@example.edu")
        accept, overtaken = plane.spool.accept, []

        async def late(*args: object, **more: object) -> object:
            overtaken.append(args)
            plane.release("alice@example.edu")
            await plane.settle(lambda: len(plane.releases._tasks) == 1)  # only the sweeper is left
            return await accept(*args, **more)  # type: ignore[arg-type]

        plane.spool.accept = late  # type: ignore[method-assign]
        await plane.send("alice@example.edu")
        assert overtaken[0][1][0].held  # type: ignore[index]
        await plane.settle(lambda: plane.at("old") == ["alice@example.edu"])


async def test_store_refusal_for_a_protected_mailbox_is_parked_not_returned(world: World) -> None:
    async with Plane(world) as plane:
        plane.senders["new"].answer = lambda _wire: HopReply(550, "5.1.1", "no such user", "store")
        plane.hold("alice@example.edu")
        await plane.send("alice@example.edu")
        plane.release("alice@example.edu", home="new")
        await plane.settle()
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["parked"]
        assert plane.spool.reports == []
        assert [kind for kind, _, _ in plane.notes.alarms] == ["protected-refusal"]


async def test_refusal_in_steady_state_is_returned_once_and_never_for_the_null_sender(world: World) -> None:
    async with Plane(world) as plane:
        plane.senders["old"].answer = lambda _wire: HopReply(550, "5.1.1", "no such user", "store")
        await plane.send("alice@example.edu")
        await plane.send("bob@example.edu", sender="")
        await plane.settle()
        assert [report.recipient.address.wire for report in plane.spool.reports] == ["someone@outside.example"]
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["parked"]


async def test_resting_lane_keeps_released_mail_in_order(world: World) -> None:
    async with Plane(world) as plane:
        plane.hold("alice@example.edu")
        for _ in range(5):
            await plane.send("alice@example.edu")
        plane.senders["new"].refuse_connection = True
        plane.release("alice@example.edu", home="new")
        await plane.settle(lambda: any(kind == "store-down" for kind, _, _ in plane.notes.alarms))
        plane.senders["new"].refuse_connection = False
        plane.advance(11.0)
        await plane.settle(lambda: len(plane.arrivals) >= 4)
        assert [arrival.queue_id for arrival in plane.arrivals] == ["Q2", "Q3", "Q4", "Q5"]


async def test_what_a_store_is_not_able_to_take_is_parked_and_nobody_is_blamed(world: World) -> None:
    async with Plane(world) as plane:
        reply = HopReply(552, "5.3.4", "too large for the store", said_by_hop=False)
        plane.senders["old"].answer = lambda _wire: reply
        await plane.send("alice@example.edu")
        await plane.settle()
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["parked"]
        assert plane.spool.reports == []
        assert [kind for kind, _, _ in plane.notes.alarms] == ["store-unfit"]


async def test_an_address_moved_onto_a_held_mailbox_waits_for_its_delivery_under_way(world: World) -> None:
    """Barrier rule 11: what is in flight for the address was registered under its former owner."""
    async with Plane(world) as plane:
        plane.hold("alice@example.edu")
        store = plane.senders["old"]
        store.pause = "reply"
        await plane.send("bob@example.edu")
        await store.reached.wait()

        hold = world.hold("alice@example.edu")
        epoch = world.epoch
        changes = ChangeSet(
            epoch,
            (
                Change(epoch, ChangeKind.ADDRESS, "bob.alias@example.edu"),
                Change(epoch, ChangeKind.MAILBOX, "alice@example.edu"),
                Change(epoch, ChangeKind.MAILBOX, "bob@example.edu"),
            ),
            {"alice@example.edu": hold, "bob@example.edu": None},
        )
        plane.barrier.acknowledge(plane.following.apply(changes))
        assert not plane.barrier.quiet("alice@example.edu")
        store.resume.set()
        await plane.settle()
        assert plane.barrier.quiet("alice@example.edu")


async def test_a_resynchronisation_may_hide_that_an_address_was_moved(world: World) -> None:
    async with Plane(world) as plane:
        store = plane.senders["old"]
        store.pause = "reply"
        await plane.send("bob@example.edu")
        await store.reached.wait()
        hold = world.hold("alice@example.edu")
        changes = ChangeSet(world.epoch, (Change(world.epoch, ChangeKind.RESYNC, ""),), {"alice@example.edu": hold})
        plane.barrier.acknowledge(plane.following.apply(changes))
        assert not plane.barrier.quiet("alice@example.edu")
        store.resume.set()
        await plane.settle()
        assert plane.barrier.quiet("alice@example.edu")


async def test_a_home_that_is_no_store_is_an_alarm_and_temporary(world: World) -> None:
    world.add("lost", "nowhere")
    async with Plane(world) as plane:
        [reply] = await plane.send("lost@example.edu")
        assert (reply.code, reply.enhanced) == (451, "4.3.5")
        assert [(kind, key) for kind, key, _ in plane.notes.alarms] == [("unmapped-home", "lost@example.edu")]


async def test_delivery_after_one_in_doubt_is_marked_as_a_possible_duplicate(world: World) -> None:
    async with Plane(world, settle=0.01) as plane:
        plane.senders["old"].vanish = True
        await plane.send("alice@example.edu")
        await plane.settle()
        plane.senders["old"].vanish = False
        plane.advance(1000.0)
        await plane.settle(lambda: not plane.spool.rows)
        assert plane.at("old") == ["alice@example.edu"] * 2
        [(_, delivered)] = plane.spool.closed
        assert delivered.note == "possible duplicate"
