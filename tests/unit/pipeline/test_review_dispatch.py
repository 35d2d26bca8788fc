"""Dispatches that end badly, or while the world changes: nothing doubled, nothing returned in error, no early quiet."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.memory import World
from support.plane import SETTLE, Plane

from router.deliver.inflight import EVERYBODY, InFlight
from router.errors import BodyDamaged, LookupFailed, SpoolUnavailable
from router.model.change import Ended
from router.model.mailbox import Hold
from router.model.parcel import Parcel, Verdict
from router.model.reply import HopReply
from router.ports import Gate

DAY = 86400.0
REFUSED = HopReply(550, "5.1.1", "no such user", "store")


@pytest.fixture
def world() -> World:
    world = World()
    for local in ("alice", "bob"):
        world.add(local, "old")
    world.add("carol", "new")
    return world


async def test_an_error_after_a_hand_over_leaves_the_other_delivery_alone(world: World) -> None:
    """Defect: the recipients handed to another lane were put off too, given back, and delivered a second time."""
    async with Plane(world) as plane:
        plane.senders["new"].pause = "reply"
        fail = iter([True])

        async def send(parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
            await plane.senders["new"].reached.wait()
            if next(fail, False):
                raise OSError("no such CA file")
            return await real(parcel, gate)

        real = plane.senders["old"].send
        plane.senders["old"].send = send  # type: ignore[method-assign]
        world.mailboxes["carol@example.edu"] = replace(world.mailboxes["carol@example.edu"], home="old")
        plane.lanes.pause(frozenset({"old"}))
        await plane.send("alice@example.edu", "carol@example.edu")
        world.mailboxes["carol@example.edu"] = replace(world.mailboxes["carol@example.edu"], home="new")
        plane.classifier._cache.clear()
        plane.lanes.pause(frozenset())
        await plane.settle(lambda: any(kind == "internal" for kind, _, _ in plane.notes.alarms))
        plane.senders["new"].pause = ""
        plane.advance(DAY)
        await plane.settle(lambda: plane.at("old") == ["alice@example.edu"])
        plane.senders["new"].resume.set()
        await plane.settle()
        assert plane.at("new") == ["carol@example.edu"]


async def test_a_delivery_cut_off_after_its_dot_does_not_unblock_its_hold(world: World) -> None:
    """Defect: at a stop the entry of a cut-off delivery ended, the hold became quiet, and the store had the mail."""
    plane = Plane(world)
    async with plane:
        plane.senders["old"].pause = "reply"
        await plane.send("alice@example.edu")
        await plane.senders["old"].reached.wait()
        plane.hold("alice@example.edu")
    assert not plane.barrier.quiet("alice@example.edu")
    assert plane.dispatcher.interrupted
    assert len(plane.inflight) == 1


async def test_a_delivery_cut_off_before_its_dot_is_a_clean_end(world: World) -> None:
    plane = Plane(world)
    async with plane:
        plane.senders["old"].pause = "data"
        await plane.send("alice@example.edu")
        await plane.senders["old"].reached.wait()
    assert not plane.dispatcher.interrupted
    assert len(plane.inflight) == 0
    assert [row.recipient.attempts for row in plane.spool.rows.values()] == [0]


async def test_an_error_of_ours_after_the_dot_is_a_delivery_in_doubt(world: World) -> None:
    """Defect: the entry ended with the exception, and the retry was not marked as a possible duplicate."""
    async with Plane(world) as plane:

        async def send(parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
            assert gate.pass_dot()
            raise RuntimeError("a fault of ours")

        plane.senders["old"].send = send  # type: ignore[method-assign]
        await plane.send("alice@example.edu")
        await plane.settle()
        plane.hold("alice@example.edu")
        assert not plane.barrier.quiet("alice@example.edu")
        [row] = plane.spool.rows.values()
        assert row.recipient.possible_duplicate
        assert row.recipient.due >= plane.clock.now + SETTLE


@pytest.mark.parametrize("how", ["suspended", "paused"])
async def test_nothing_begins_on_a_lane_that_closed_during_the_lookup(world: World, how: str) -> None:
    """Defect: a dispatch that was looking up when its lane was paused, or the control database lost, went on."""
    async with Plane(world) as plane:
        learn, asking, go = plane.dispatcher._learn, asyncio.Event(), asyncio.Event()

        async def slow(*args: object) -> object:
            asking.set()
            await go.wait()
            return await learn(*args)  # type: ignore[arg-type]

        plane.dispatcher._learn = slow  # type: ignore[assignment, method-assign]
        await plane.send("bob@example.edu")
        await asking.wait()
        if how == "suspended":
            plane.lanes.suspend(suspended=True)
        else:
            plane.lanes.pause(frozenset({"old"}))
        go.set()
        await plane.settle()
        assert plane.at("old") == []
        [row] = plane.spool.rows.values()
        assert row.recipient.attempts == 0
        plane.lanes.suspend(suspended=False)
        plane.lanes.pause(frozenset())
        await plane.settle(lambda: plane.at("old") == ["bob@example.edu"])


async def test_a_refusal_that_comes_after_the_hold_is_no_bounce(world: World) -> None:
    """Defect: it was judged by the mailbox as it was before the hold, and returned to the sender."""
    async with Plane(world) as plane:
        store = plane.senders["old"]
        store.pause, store.answer = "reply", lambda _wire: REFUSED
        await plane.send("alice@example.edu")
        await store.reached.wait()
        plane.hold("alice@example.edu")
        store.resume.set()
        await plane.settle()
        assert plane.spool.reports == []
        plane.advance(3600.0)
        await plane.settle()
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["held"]


@pytest.mark.parametrize("fault", ["lookup", "ours"])
async def test_nothing_is_returned_while_nobody_knows_whether_its_mailbox_is_protected(
    world: World, fault: str
) -> None:
    """Defect: past the retry lifetime a failed lookup, or an error of ours, returned mail of any mailbox."""
    async with Plane(world) as plane:
        plane.senders["old"].answer = lambda _wire: HopReply(451, "4.2.0", "busy", "store")
        await plane.send("alice@example.edu")
        await plane.settle()

        async def failing(*_: object) -> None:
            raise LookupFailed("down") if fault == "lookup" else RuntimeError("a fault of ours")

        plane.classifier._cache.clear()
        if fault == "lookup":
            plane.classifier.classify = failing  # type: ignore[assignment, method-assign]
        else:
            plane.senders["old"].send = failing  # type: ignore[assignment, method-assign]
        plane.advance(30 * DAY)
        await plane.settle(lambda: len(plane.spool.settled) == 2)
        assert plane.spool.reports == []
        assert len(plane.spool.rows) == 1


async def test_a_notice_that_cannot_be_written_loses_no_outcome(world: World) -> None:
    """Defect: an error in the report made a refused or delivered recipient one that is tried again, for ever."""
    async with Plane(world) as plane:

        async def report(*_: object) -> None:
            raise UnicodeError("an odd name")

        plane.concluder._reporter.report = report  # type: ignore[assignment, method-assign]
        plane.senders["old"].answer = lambda _wire: REFUSED
        await plane.send("alice@example.edu")
        await plane.settle()
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["parked"]
        assert [kind for kind, _, _ in plane.notes.alarms] == ["internal"]

        async def send(parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
            gate.pass_dot()
            return [replace(verdict, relayed=True) for verdict in await real(parcel, gate)]

        real = plane.senders["new"].send
        plane.senders["new"].send = send  # type: ignore[method-assign]
        await plane.send("carol@example.edu")
        await plane.settle()
        plane.advance(DAY)
        await plane.settle()
        assert plane.at("new") == ["carol@example.edu"]


async def test_damage_found_while_sending_is_quarantined(world: World) -> None:
    """Defect: damage that showed only while the body was streamed was put off until its lifetime, then returned."""
    async with Plane(world) as plane:

        async def send(parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
            raise BodyDamaged("shorter than it should be")

        plane.senders["old"].send = send  # type: ignore[method-assign]
        await plane.send("alice@example.edu")
        await plane.settle()
        assert [row.recipient.state.value for row in plane.spool.rows.values()] == ["quarantined"]
        assert len(plane.inflight) == 0


async def test_a_message_for_more_recipients_than_fit_goes_out_in_one_go(world: World) -> None:
    """Defect: transactions that carried recipients counted as interruptions, and the rest had to wait for minutes."""
    async with Plane(world) as plane:
        plane.dispatcher._rules = replace(plane.dispatcher._rules, max_recipients=lambda _lane: 1)
        names = [world.add(f"user{number}", "old") for number in range(20)]
        await plane.send(*names)
        await plane.settle()
        assert sorted(plane.at("old")) == sorted(names)


async def test_deliveries_that_fail_together_are_one_failure_of_the_store(world: World) -> None:
    """Defect: each of them made the store's rest longer, so that a short outage under load cost the longest rest."""
    rests: list[int] = []
    async with Plane(world, limit=8) as plane:
        rules = plane.dispatcher._rules
        plane.dispatcher._rules = replace(rules, rest=lambda n: rests.append(n) or 10.0)  # type: ignore[func-returns-value]
        store, together = plane.senders["old"], asyncio.Barrier(5)
        store.refuse_connection, real = True, store.send

        async def send(parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
            await together.wait()
            return await real(parcel, gate)

        store.send = send  # type: ignore[method-assign]
        for _ in range(5):
            await plane.send("alice@example.edu")
        await plane.settle(lambda: not len(plane.inflight) and bool(rests))
        assert rests == [1]


async def test_a_delivery_called_back_says_nothing_about_the_store(world: World) -> None:
    """Defect: a hold that interrupted a delivery to a dead store cleared its alarm and its back-off."""
    async with Plane(world) as plane:
        store = plane.senders["old"]
        store.refuse_connection = True
        await plane.send("bob@example.edu")
        await plane.settle()
        store.refuse_connection, store.pause = False, "connect"
        plane.advance(11.0)
        await plane.send("alice@example.edu")
        await store.reached.wait()
        plane.hold("alice@example.edu")
        await plane.settle(lambda: any(r.recipient.state.value == "held" for r in plane.spool.rows.values()))
        assert plane.dispatcher._reachability._failures == {"old": 1}


async def test_an_outside_domain_that_is_down_is_no_alarm_of_the_site(world: World) -> None:
    """Defect: every dead domain that somebody wrote to opened an alarm that nothing ever cleared."""
    async with Plane(world, ("old", "new", "lists", "mx:dead.example")) as plane:
        plane.senders["mx:dead.example"].refuse_connection = True
        await plane.send("someone@dead.example", trusted=True)
        await plane.settle()
        assert plane.notes.alarms == []
        assert plane.lanes.rests("mx:dead.example")


async def test_a_null_sender_refused_in_steady_state_is_no_protected_refusal(world: World) -> None:
    """Defect: each undeliverable notice raised an alarm about a protected mailbox, one row per message."""
    async with Plane(world) as plane:
        plane.senders["old"].answer = lambda _wire: REFUSED
        await plane.send("bob@example.edu", sender="")
        await plane.settle()
        assert plane.notes.alarms == []


async def test_a_commit_that_fails_is_repeated_with_the_delivery_registered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.pipeline.conclude._COMMIT_RETRY", 0.01)
    async with Plane(world) as plane:
        real, seen = plane.spool.settle, []

        async def settle(*args: object, **more: object) -> object:
            seen.append((len(plane.inflight), len(plane.claims)))
            if len(seen) < 3:
                raise SpoolUnavailable("disk")
            return await real(*args, **more)  # type: ignore[arg-type]

        plane.spool.settle = settle  # type: ignore[method-assign]
        await plane.send("alice@example.edu")
        await plane.settle()
        assert seen == [(1, 1)] * 3
        assert plane.at("old") == ["alice@example.edu"]
        assert not plane.spool.rows


async def test_what_cannot_even_be_put_off_is_given_back_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: an error while putting recipients off left them claimed until a restart."""
    monkeypatch.setattr("router.pipeline.dispatch._SET_ASIDE", 0.02)
    async with Plane(world) as plane:
        real, calls = plane.spool.settle, []

        async def settle(*args: object, **more: object) -> object:
            calls.append(args)
            if len(calls) == 1:
                raise ValueError("a fault of ours")
            return await real(*args, **more)  # type: ignore[arg-type]

        async def send(parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
            if not calls:
                raise RuntimeError("another")
            return await sending(parcel, gate)

        sending = plane.senders["old"].send
        plane.senders["old"].send = send  # type: ignore[method-assign]
        plane.spool.settle = settle  # type: ignore[method-assign]
        await plane.send("alice@example.edu")
        await plane.settle(lambda: plane.at("old") == ["alice@example.edu"])


def test_a_dead_process_s_unnamed_mail_blocks_every_hold() -> None:
    """Defect: after an unclean end, mail that named no mailbox yet (a notice of ours) was not counted as in doubt."""
    ended: list[Ended] = []
    inflight = InFlight(ended.append)
    entry = inflight.register([EVERYBODY, "bob@example.edu"], "", "", "", 0.0)
    entry.passed = True
    assert [row.mailbox for row in inflight.hold("alice@example.edu", Hold(1, 0.0, 1))] == ["alice@example.edu"]
    assert len(inflight.hold("bob@example.edu", Hold(2, 0.0, 1))) == 1
    inflight.end(entry, in_doubt=True)
    assert [one.in_doubt for one in ended] == [True]
