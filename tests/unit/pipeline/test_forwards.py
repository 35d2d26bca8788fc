"""Forwards: every target and the copy get the mail once, wherever a hold, a failure or a circle comes in between."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.memory import PlainSigner, StagedSender, World
from support.plane import GRACE, PROTECT, Plane

from router.errors import LookupFailed, SpoolUnavailable
from router.model.address import Address
from router.model.envelope import QueuedMessage, Work
from router.model.mailbox import Hold, Status
from router.model.outcome import Disposition
from router.model.parcel import Settled
from router.model.reply import HopReply
from router.model.route import Classification
from router.route.replies import BAD_ROUTE_DATA
from router.settings.schema import Retry

ALICE, BOB, CAROL = (f"{name}@example.edu" for name in ("alice", "bob", "carol"))
OUTSIDE = "alice@outside.example"
MX = "mx:outside.example"
LIFETIME = Retry().lifetime


@pytest.fixture
def world() -> World:
    world = World()
    world.add("bob", "new")
    world.add("carol", "lists")
    return world


def plane_of(world: World) -> Plane:
    plane = Plane(world)
    plane.senders[MX] = StagedSender(MX, world, plane.arrivals)
    return plane


def taken(plane: Plane) -> Counter[tuple[str, str]]:
    return Counter((arrival.lane, arrival.wire) for arrival in plane.arrivals)


def alarms(plane: Plane) -> set[tuple[str, str]]:
    return {(kind, key) for kind, key, _ in plane.notes.alarms}


def balanced(plane: Plane) -> bool:
    opened = sum(len(outcome.opens) for _, outcome in plane.spool.closed)
    return bool(plane.spool.accepted_recipients + opened == len(plane.spool.rows) + len(plane.spool.closed))


@pytest.mark.parametrize("keeps", [True, False])
async def test_every_target_and_the_copy_get_it_once(world: World, keeps: bool) -> None:
    world.add("alice", "old", BOB, "Alice@outside.example", "BOB@example.edu", keeps=keeps)
    async with plane_of(world) as plane:
        assert await plane.send("Alice@example.edu") == []
        await plane.settle(lambda: not plane.spool.rows)
        copy = {("old", "Alice@example.edu"): 1} if keeps else {}
        assert taken(plane) == {("new", BOB): 1, (MX, "Alice@outside.example"): 1, **copy}
        ((_, outcome),) = [one for one in plane.notes.outcomes if one[1].disposition is Disposition.FORWARDED]
        assert outcome.note.startswith(
            "as bob@example.edu, Alice@outside.example" if keeps else "as bob@example.edu and "
        )
        assert outcome.note.endswith("its mailbox") is keeps
        assert balanced(plane)


async def test_new_recipients_are_delivered_without_waiting_for_the_feeder(world: World) -> None:
    world.add("alice", "old", BOB, keeps=False)
    async with plane_of(world) as plane:
        await plane.feeder.stop()
        await plane.send(ALICE)
        await plane.settle(lambda: taken(plane) == {("new", BOB): 1})


async def test_other_recipients_of_the_message_are_not_concerned(world: World) -> None:
    world.add("alice", "old", OUTSIDE, keeps=True)
    async with plane_of(world) as plane:
        await plane.send(ALICE, CAROL)
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("old", ALICE): 1, ("lists", CAROL): 1, (MX, OUTSIDE): 1}


async def test_chain_of_forwards_is_gone_through(world: World) -> None:
    world.add("alice", "old", "dan@example.edu", keeps=False)
    world.add("dan", "old", CAROL, keeps=True)
    async with plane_of(world) as plane:
        await plane.send(ALICE)
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("old", "dan@example.edu"): 1, ("lists", CAROL): 1}


async def test_forward_to_oneself_is_the_home(world: World) -> None:
    world.add("alice", "old", ALICE, keeps=False)
    async with plane_of(world) as plane:
        assert await plane.send(ALICE) == []
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("old", ALICE): 1}


async def test_two_who_forward_to_each_other_with_copies_get_one_each(world: World) -> None:
    world.add("alice", "old", "dan@example.edu", keeps=True)
    world.add("dan", "new", ALICE, keeps=True)
    async with plane_of(world) as plane:
        assert await plane.send(ALICE) == []
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("old", ALICE): 1, ("new", "dan@example.edu"): 1}
        assert alarms(plane) == set()
        assert balanced(plane)


async def test_circle_in_which_one_keeps_a_copy_ends_there(world: World) -> None:
    world.add("alice", "old", "dan@example.edu", keeps=True)
    world.add("dan", "new", ALICE, keeps=False)
    async with plane_of(world) as plane:
        assert await plane.send("dan@example.edu") == []
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("old", ALICE): 1}


async def test_circle_without_a_copy_is_refused_for_now(world: World) -> None:
    world.add("alice", "old", "dan@example.edu", keeps=False)
    world.add("dan", "old", ALICE, BOB, keeps=False)
    world.add("erin", "old", "dan@example.edu", keeps=True)
    async with plane_of(world) as plane:
        assert await plane.send(ALICE) == [BAD_ROUTE_DATA]
        assert await plane.send("erin@example.edu") == [BAD_ROUTE_DATA]
        assert {kind for kind, _ in alarms(plane)} == {"forward-loop"}
        assert plane.spool.rows == {}


async def test_circle_made_after_acceptance_waits_and_is_never_returned(world: World) -> None:
    world.add("alice", "old", "dan@example.edu", keeps=False)
    world.add("dan", "old")
    async with plane_of(world) as plane:
        plane.lanes.pause(frozenset({"old"}))
        await plane.send(ALICE)
        await plane.settle(lambda: len(plane.spool.rows) == 1 and not len(plane.claims))
        world.add("dan", "old", ALICE, keeps=False)
        plane.following.apply(world.change("dan@example.edu"))
        for _ in range(5):
            plane.advance(LIFETIME)
            await asyncio.sleep(0.05)
        await plane.settle(lambda: ("forward-loop", ALICE) in alarms(plane))
        assert [one.disposition for _, one in plane.spool.closed] == [Disposition.FORWARDED, Disposition.FORWARDED]
        assert plane.spool.reports == []
        assert taken(plane) == {}


@pytest.mark.parametrize(("length", "refused"), [(10, False), (11, True)])
async def test_chain_has_a_limit(world: World, length: int, refused: bool) -> None:
    for at in range(length):
        world.add(f"u{at}", "old", f"u{at + 1}@example.edu", keeps=False)
    world.add(f"u{length}", "new")
    async with plane_of(world) as plane:
        assert bool(await plane.send("u0@example.edu")) is refused
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == ({} if refused else {("new", f"u{length}@example.edu"): 1})


async def test_unknown_target_is_accepted_and_told_after_the_grace(world: World) -> None:
    world.add("alice", "old", "gone@example.edu", keeps=True)
    async with plane_of(world) as plane:
        assert await plane.send(ALICE) == []
        await plane.settle(lambda: taken(plane) == {("old", ALICE): 1} and not len(plane.claims))
        assert plane.spool.reports == []
        plane.advance(GRACE + 1)
        await plane.settle(lambda: not plane.spool.rows)
        assert [report.content for report in plane.spool.reports] == [b"gone@example.edu"]


async def test_target_that_cannot_be_looked_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("alice", "old", BOB, keeps=False)
    async with plane_of(world) as plane:
        classify = plane.classifier.classify
        down = True

        async def failing(address: Address) -> Classification:
            if down and address.key == BOB:
                raise LookupFailed("down")
            return await classify(address)

        monkeypatch.setattr(plane.classifier, "classify", failing)
        with pytest.raises(LookupFailed):
            await plane.send(ALICE)
        down = False
        plane.senders["new"].refuse_connection = True
        await plane.send(ALICE)
        await plane.settle()
        down = True
        plane.classifier.apply(world.change(BOB))
        for _ in range(3):
            plane.advance(LIFETIME)
            await asyncio.sleep(0.05)
        assert plane.spool.reports == []
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["queued"]
        plane.senders["new"].refuse_connection = down = False
        plane.advance(LIFETIME)
        await plane.settle(lambda: taken(plane) == {("new", BOB): 1})


@pytest.mark.parametrize("more", [{"problem": "two hosts"}, {"home": "nowhere"}])
async def test_data_that_make_no_sense_never_end_anything(world: World, more: dict[str, str]) -> None:
    world.add("alice", "old")
    async with plane_of(world) as plane:
        plane.lanes.pause(frozenset({"old"}))
        await plane.send(ALICE)
        await plane.settle(lambda: not len(plane.claims))
        world.add("alice", more.get("home", "old"), problem=more.get("problem", ""))
        plane.following.apply(world.change(ALICE))
        assert await plane.send(ALICE) == [BAD_ROUTE_DATA]
        for _ in range(5):
            plane.advance(LIFETIME)
            await asyncio.sleep(0.05)
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["queued"]
        assert plane.spool.closed == []
        texts = {text for kind, key, text in plane.notes.alarms if key == ALICE}
        assert texts == {more.get("problem", "its home 'nowhere' is no store of the configuration")}


@pytest.mark.parametrize("home", ["", "nowhere"])
async def test_copy_that_nobody_could_deliver_is_not_accepted(world: World, home: str) -> None:
    world.add("alice", home, BOB, keeps=True)
    world.add("dan", home, BOB, keeps=False)
    async with plane_of(world) as plane:
        assert await plane.send(ALICE) == [BAD_ROUTE_DATA]
        assert alarms(plane) == {("unmapped-home", ALICE)}
        assert await plane.send("dan@example.edu") == []
        await plane.settle(lambda: taken(plane) == {("new", BOB): 1})


async def test_session_does_not_wait_for_the_lookups_of_a_whole_chain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("alice", "old", BOB, keeps=False)
    async with plane_of(world) as plane:
        classify = plane.classifier.classify

        async def silent(address: Address) -> Classification:
            if address.key == BOB:
                await asyncio.Event().wait()
            return await classify(address)

        monkeypatch.setattr(plane.classifier, "classify", silent)
        monkeypatch.setattr("router.pipeline.receive.FOLLOWED", 0.05, raising=False)
        with pytest.raises(LookupFailed):
            async with asyncio.timeout(30):
                await plane.send(ALICE)


@pytest.mark.parametrize("status", [Status.INACTIVE, Status.DISABLED, Status.DELETED])
async def test_status_comes_before_the_forward(world: World, status: Status) -> None:
    world.add("alice", "old", BOB, keeps=True, status=status)
    async with plane_of(world) as plane:
        assert len(await plane.send(ALICE)) == 1


# --- holds ------------------------------------------------------------------------------------------------------------


async def test_held_mailbox_holds_its_forward(world: World) -> None:
    world.add("alice", "old", BOB, OUTSIDE, keeps=True)
    async with plane_of(world) as plane:
        plane.hold(ALICE)
        await plane.send(ALICE)
        await plane.settle()
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["held"]
        plane.release(ALICE, "new")
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("new", ALICE): 1, ("new", BOB): 1, (MX, OUTSIDE): 1}


@pytest.mark.parametrize("stage", ["connect", "mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize("held", [ALICE, BOB])
async def test_hold_of_anybody_on_the_way_cancels_what_was_forwarded(world: World, stage: str, held: str) -> None:
    world.add("alice", "old", BOB, keeps=False)
    async with plane_of(world) as plane:
        store = plane.senders["new"]
        store.pause = stage
        await plane.send(ALICE)
        await store.reached.wait()
        store.pause = ""
        plane.hold(held)
        await plane.settle()
        assert plane.barrier.quiet(held)
        assert taken(plane) == {}
        (row,) = plane.spool.rows.values()
        assert (row.recipient.state.value, row.recipient.mailbox) == ("held", held)
        plane.release(held)
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("new", BOB): 1}


async def test_hold_after_the_dot_of_what_was_forwarded_waits_for_the_reply(world: World) -> None:
    world.add("alice", "old", OUTSIDE, keeps=False)
    async with plane_of(world) as plane:
        store = plane.senders[MX]
        store.pause = "reply"
        await plane.send(ALICE)
        await store.reached.wait()
        plane.hold(ALICE)
        assert not plane.barrier.quiet(ALICE)
        store.resume.set()
        await plane.settle()
        assert plane.barrier.quiet(ALICE)


@pytest.mark.slow
@pytest.mark.parametrize("held", [ALICE, BOB])
async def test_hold_at_any_step_of_a_forward_is_exact(held: str) -> None:
    """Before and after the expansion: once nothing blocks the hold nothing more goes anywhere for the mailbox."""
    took = []
    for step in range(90):
        world = World()
        world.add("bob", "new")
        world.add("alice", "old", BOB, OUTSIDE, keeps=True)
        async with plane_of(world) as plane:
            sending = asyncio.ensure_future(plane.send(ALICE))
            for _ in range(step):
                await asyncio.sleep(0)
            plane.hold(held)
            for _ in range(1000):
                if plane.barrier.quiet(held):
                    break
                await asyncio.sleep(0)

            def concerned(plane: Plane = plane) -> int:
                return sum(one.wire == BOB or held == ALICE for one in plane.arrivals)

            quiet = concerned()
            await sending
            await plane.settle()
            assert concerned() == quiet, f"delivered after quiet, hold at step {step}"
            assert balanced(plane)
            took.append(quiet)
            plane.release(held)
            await plane.settle(lambda: not plane.spool.rows)
            assert taken(plane) == {("old", ALICE): 1, ("new", BOB): 1, (MX, OUTSIDE): 1}, f"hold at step {step}"
    assert min(took) == 0
    assert max(took) == (3 if held == ALICE else 1)


async def test_hold_of_a_mailbox_with_a_name_outside_our_domains_is_seen(world: World) -> None:
    """Its name cannot be looked up; the address by which it was reached can."""
    name = "alice@elsewhere.example"
    world.mailboxes[ALICE] = replace(world.mailboxes[BOB], key=name, forwards=(BOB,), keeps=False)
    async with plane_of(world) as plane:
        plane.lanes.pause(frozenset({"new"}))
        await plane.send(ALICE)
        await plane.settle(lambda: not len(plane.claims) and len(plane.spool.closed) == 1)
        world.mailboxes[ALICE] = replace(world.mailboxes[ALICE], hold=Hold(1, 0.0, 2))
        plane.releases.hold_applied(name)
        plane.classifier.apply(world.change(ALICE))
        plane.lanes.pause(frozenset())
        plane.advance(1)
        await plane.settle(lambda: [row.recipient.mailbox for row in plane.spool.rows.values()] == [name])
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["held"]
        assert taken(plane) == {}


async def test_mailbox_on_the_way_that_is_gone_is_no_obstacle(world: World) -> None:
    world.add("alice", "old", BOB, keeps=False)
    async with plane_of(world) as plane:
        plane.lanes.pause(frozenset({"new"}))
        await plane.send(ALICE)
        await plane.settle(lambda: not len(plane.claims) and len(plane.spool.closed) == 1)
        del world.mailboxes[ALICE]
        world.epoch += 1
        plane.classifier._cache.pop(ALICE, None)
        plane.lanes.pause(frozenset())
        plane.advance(1)
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("new", BOB): 1}


async def test_released_mail_keeps_its_order_through_a_forward(world: World) -> None:
    world.add("alice", "old", OUTSIDE, keeps=True)
    async with plane_of(world) as plane:
        plane.hold(ALICE)
        for _ in range(5):
            await plane.send(ALICE)
        plane.release(ALICE, "new")
        await plane.send(ALICE)
        await plane.settle(lambda: not plane.spool.rows)
        at_home = [arrival.queue_id for arrival in plane.arrivals if arrival.lane == "new"]
        assert at_home == [f"Q{number}" for number in range(1, 7)]


async def test_copy_of_mail_that_another_release_freed_is_not_left_behind(world: World) -> None:
    """It was held for who forwarded it, and is released for that one; its copy is found all the same."""
    world.add("alice", "old", "dan@example.edu", keeps=False)
    world.add("dan", "new", OUTSIDE, keeps=True)
    async with plane_of(world) as plane:
        await plane.send(ALICE)
        plane.classifier.slow = asyncio.Event()
        plane.classifier.apply(world.change("dan@example.edu"))
        await plane.settle(lambda: len(plane.spool.closed) == 1)
        plane.hold(ALICE)
        plane.classifier.slow.set()
        await plane.settle()
        (row,) = plane.spool.rows.values()
        assert (row.recipient.address.key, row.recipient.mailbox) == ("dan@example.edu", ALICE)
        offer = plane.lanes.offer

        def no_room(name: str, work: Work) -> bool:
            return not any(one.draining for one in work.recipients) and offer(name, work)

        plane.lanes.offer = no_room  # type: ignore[method-assign]
        plane.release(ALICE)
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("new", "dan@example.edu"): 1, (MX, OUTSIDE): 1}


async def test_lookup_of_who_forwarded_it_must_not_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who forwarded it may be on hold by now: nobody can say."""
    world.add("alice", "old", BOB, keeps=False)
    async with plane_of(world) as plane:
        plane.lanes.pause(frozenset({"new"}))
        await plane.send(ALICE)
        await plane.settle(lambda: not len(plane.claims) and len(plane.spool.closed) == 1)
        classify = plane.classifier.classify

        async def failing(address: Address) -> Classification:
            if address.key == ALICE:
                raise LookupFailed("down")
            return await classify(address)

        plane.classifier.apply(world.change(ALICE))
        monkeypatch.setattr(plane.classifier, "classify", failing)
        plane.lanes.pause(frozenset())
        for _ in range(3):
            plane.advance(LIFETIME)
            await asyncio.sleep(0.05)
        assert taken(plane) == {}
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["queued"]
        monkeypatch.setattr(plane.classifier, "classify", classify)
        plane.advance(LIFETIME)
        await plane.settle(lambda: taken(plane) == {("new", BOB): 1})


async def test_target_that_makes_no_sense_is_delivered_as_soon_as_it_does(world: World) -> None:
    world.add("alice", "old", BOB, keeps=False)
    world.add("bob", "new", problem="two hosts")
    async with plane_of(world) as plane:
        assert await plane.send(ALICE) == []
        await plane.settle(lambda: not len(plane.claims) and ("bad-route-data", BOB) in alarms(plane))
        (row,) = plane.spool.rows.values()
        assert row.recipient.mailbox == BOB
        world.add("bob", "new")
        world.epoch += 1
        plane.following.apply(world.change(BOB))
        await plane.settle(lambda: taken(plane) == {("new", BOB): 1})


async def test_signer_is_told_by_whose_forwards_a_message_goes_on(world: World) -> None:
    world.add("alice", "old", "dan@example.edu", keeps=True)
    world.add("dan", "new", OUTSIDE, keeps=False)
    told: dict[str, tuple[str, ...]] = {}

    class Signer(PlainSigner):
        def received_field(
            self,
            message: QueuedMessage,
            lane: str,
            recipients: Sequence[tuple[str, str]],
            forwarded: Sequence[str] = (),
        ) -> bytes:
            told[lane] = tuple(forwarded)
            return super().received_field(message, lane, recipients, forwarded)

    async with plane_of(world) as plane:
        plane.dispatcher._signer = Signer()
        await plane.send(ALICE, CAROL)
        await plane.settle(lambda: not plane.spool.rows)
    assert told == {"old": (ALICE,), MX: (ALICE, "dan@example.edu"), "lists": ()}


async def test_mark_of_a_forward_is_not_on_what_others_get(world: World) -> None:
    """A list that has the forwarder as a member would send it back with the mark, and it would be parked as a loop."""
    world.add("dan", "lists")
    world.add("erin", "lists")
    world.add("alice", "old", "dan@example.edu", keeps=False)
    told: list[tuple[list[str], tuple[str, ...]]] = []

    class Signer(PlainSigner):
        def received_field(
            self,
            message: QueuedMessage,
            lane: str,
            recipients: Sequence[tuple[str, str]],
            forwarded: Sequence[str] = (),
        ) -> bytes:
            told.append((sorted(wire for _, wire in recipients), tuple(forwarded)))
            return super().received_field(message, lane, recipients, forwarded)

    async with plane_of(world) as plane:
        plane.dispatcher._signer = Signer()
        plane.lanes.pause(frozenset({"lists"}))
        await plane.send(ALICE, CAROL, "erin@example.edu")
        await plane.settle(lambda: not len(plane.claims) and len(plane.spool.rows) == 3)
        plane.lanes.pause(frozenset())
        plane.advance(1000)
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("lists", one): 1 for one in (CAROL, "dan@example.edu", "erin@example.edu")}
    assert sorted(told) == [([CAROL, "erin@example.edu"], ()), (["dan@example.edu"], (ALICE,))]


# --- refusals and failures --------------------------------------------------------------------------------------------


async def test_refusal_is_not_returned_while_anybody_on_the_way_is_protected(world: World) -> None:
    world.add("alice", "old", OUTSIDE, keeps=False)
    async with plane_of(world) as plane:
        plane.senders[MX].answer = lambda _wire: HopReply(550, "5.1.1", "no")
        plane.hold(ALICE)
        plane.release(ALICE)
        await plane.send(ALICE)
        await plane.settle()
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["parked"]
        assert plane.spool.reports == []
        plane.advance(PROTECT + 1)
        await plane.send(ALICE)
        await plane.settle(lambda: not plane.spool.rows)
        assert [report.content for report in plane.spool.reports] == [OUTSIDE.encode()] * 2


async def test_refusal_read_after_a_hold_of_the_forwarder_ends_nothing(world: World) -> None:
    world.add("alice", "old", OUTSIDE, keeps=False)
    async with plane_of(world) as plane:
        store = plane.senders[MX]
        store.answer = lambda _wire: HopReply(550, "5.1.1", "no")
        store.pause = "reply"
        await plane.send(ALICE)
        await store.reached.wait()
        plane.hold(ALICE)
        store.pause = ""
        store.resume.set()
        await plane.settle()
        plane.advance(1000)
        await plane.settle(lambda: [r.recipient.state.value for r in plane.spool.rows.values()] == ["held"])
        assert plane.spool.reports == []


async def test_commit_that_was_there_all_the_same_opens_nothing_twice(world: World) -> None:
    world.add("alice", "old", BOB, OUTSIDE, keeps=True)
    async with plane_of(world) as plane:
        settle, calls = plane.spool.settle, 0

        async def unknown(*args: object, **more: object) -> Settled:
            nonlocal calls
            calls += 1
            done = await settle(*args, **more)  # type: ignore[arg-type]
            if calls == 1:
                raise SpoolUnavailable("the commit failed")
            return done

        plane.spool.settle = unknown  # type: ignore[method-assign]
        await plane.send(ALICE)
        await plane.settle(lambda: not plane.spool.rows)
        assert taken(plane) == {("old", ALICE): 1, ("new", BOB): 1, (MX, OUTSIDE): 1}
        assert balanced(plane)
