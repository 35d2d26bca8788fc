"""What a forward opens: the way it came, who hears of it (RFC 3461 6.2.7.3), and that it is begun with once."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.memory import StagedSender, World
from support.plane import Plane

from router.daemon.reporter import DsnReporter
from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient, QueuedMessage, QueuedRecipient
from router.model.outcome import Outcome
from router.model.parcel import Report, Settled
from router.model.route import Expand
from router.pipeline.expansion import described, openings, xtext
from router.report.notice import Origin

ALICE, BOB, CAROL = (f"{name}@example.edu" for name in ("alice", "bob", "carol"))
ONE = QueuedRecipient(65536, parse_address("Alice+x@example.edu"), mailbox=ALICE)


def route(*targets: str, keeps: bool) -> Expand:
    return Expand(ALICE, tuple(map(parse_address, targets)), keeps, (ALICE,))


def test_targets_and_the_copy_know_the_way() -> None:
    bob, copy = openings(replace(ONE, via=("m@x",), kept=("m@x",)), route(BOB, keeps=True))
    assert (bob.via, bob.kept) == (copy.via, copy.kept) == (("m@x", ALICE), ("m@x", ALICE))
    assert (bob.address.wire, bob.mailbox, bob.draining) == (BOB, "", False)
    assert (copy.address, copy.mailbox) == (ONE.address, ALICE)
    assert bob.through == copy.through == ("alice+x@example.edu",)
    (bob,) = openings(ONE, route(BOB, keeps=False))
    assert (bob.via, bob.kept) == ((ALICE,), ())


def test_only_the_copy_of_released_mail_is_released() -> None:
    bob, copy = openings(replace(ONE, draining=True), route(BOB, keeps=True))
    assert (bob.draining, copy.draining) == (False, True)


@pytest.mark.parametrize(("given", "wanted"), [("", "rfc822;Alice+2Bx@example.edu"), ("rfc822;old", "rfc822;old")])
def test_original_recipient_stays_known(given: str, wanted: str) -> None:
    assert [one.orcpt for one in openings(replace(ONE, orcpt=given), route(BOB, keeps=True))] == [wanted] * 2


def test_address_that_is_not_ascii_has_no_orcpt() -> None:
    assert openings(replace(ONE, address=parse_address("ä@example.edu")), route(BOB, keeps=False))[0].orcpt == ""
    assert xtext("a+b=c d") == "a+2Bb+3Dc+20d"


@pytest.mark.parametrize(
    ("notify", "several"),
    [
        ("", ""),
        ("SUCCESS", "NEVER"),
        ("success, failure", "FAILURE"),
        ("SUCCESS,FAILURE,DELAY", "FAILURE,DELAY"),
        ("NEVER", "NEVER"),
        ("FAILURE", "FAILURE"),
    ],
)
def test_success_is_not_asked_for_of_several(notify: str, several: str) -> None:
    recipient = replace(ONE, notify=notify)
    assert {one.notify for one in openings(recipient, route(BOB, CAROL, keeps=False))} == {several}
    assert {one.notify for one in openings(recipient, route(BOB, keeps=True))} == {several}
    assert [one.notify for one in openings(recipient, route(BOB, keeps=False))] == [notify]


def test_forward_is_described() -> None:
    assert described(route(BOB, keeps=False)) == "as bob@example.edu"
    assert described(route(BOB, CAROL, keeps=True)) == "as bob@example.edu, carol@example.edu and its mailbox"
    many = route(*(f"u{at}@x.example" for at in range(100)), keeps=True)
    assert described(many).endswith("u9@x.example, 90 more and its mailbox")
    assert not described(route(keeps=False)).startswith("as ")


# --- over the simulated plane


async def sent(plane: Plane, notify: str) -> None:
    envelope = Envelope("sender@outside.example", Client("127.0.0.1"))
    new = await plane.receiver.recipient(envelope, parse_address(ALICE))
    assert isinstance(new, NewRecipient)
    body = plane.receiver.open_body()
    await body.write(b"Subject: x\r\n\r\nhello\r\n")
    await plane.receiver.message(envelope, [replace(new, notify=notify)], body, HeaderFacts(), plane.clock.wall())


def world_of(*forwards: str, keeps: bool) -> World:
    world = World()
    world.add("alice", "old", *forwards, keeps=keeps)
    world.add("bob", "new")
    world.add("carol", "lists")
    return world


@pytest.mark.parametrize(
    ("forwards", "notify", "reported"),
    [((BOB, CAROL), "SUCCESS,FAILURE", 1), ((BOB, CAROL), "FAILURE", 0), ((BOB, CAROL), "", 0), ((BOB,), "SUCCESS", 0)],
)
async def test_sender_is_told_once_that_one_became_several(
    forwards: tuple[str, ...], notify: str, reported: int
) -> None:
    async with Plane(world_of(*forwards, keeps=False)) as plane:
        plane.concluder._reporter = DsnReporter(plane.spool, Origin("mx.example.edu"), plane.clock, 86400.0)
        await sent(plane, notify)
        await plane.settle(lambda: not plane.spool.rows)
        reports: list[Report] = plane.spool.reports
        assert len(reports) == reported
        for report in reports:
            assert b"Action: expanded" in report.content
            assert b"Final-Recipient: rfc822; alice@example.edu" in report.content
            assert b"Status: 2." in report.content
            assert b"bob" not in report.content
        assert sorted(plane.at("new") + plane.at("lists")) == sorted(forwards)


async def test_what_was_delivered_before_the_commit_returned_is_not_begun_with_again() -> None:
    """The feeder may read the new rows, and a lane deliver them, before the dispatch learns of its commit."""
    async with Plane(world_of(BOB, keeps=False)) as plane:
        settle = plane.spool.settle

        async def late(
            message: QueuedMessage, outcomes: Sequence[Outcome], report: Report | None = None, *, urgent: bool = False
        ) -> Settled:
            done = await settle(message, outcomes, report, urgent=urgent)
            if done.opened is not None:
                plane.advance(1)
                await plane.settle(lambda: plane.at("new") == [BOB] and not plane.spool.rows)
            return done

        plane.spool.settle = late  # type: ignore[method-assign]
        await sent(plane, "")
        await plane.settle(lambda: not plane.spool.rows)
        await asyncio.sleep(0.05)
        assert plane.at("new") == [BOB]


async def test_what_is_opened_waits_in_the_spool_when_there_is_no_room() -> None:
    async with Plane(world_of(BOB, keeps=False)) as plane:
        offer, refused = plane.lanes.offer, 0

        def full(name: str, work: object) -> bool:
            nonlocal refused
            if not refused and any(one.via for one in work.recipients):  # type: ignore[attr-defined]
                refused += 1
                return False
            return offer(name, work)  # type: ignore[arg-type]

        plane.lanes.offer = full  # type: ignore[method-assign]
        await sent(plane, "")
        await plane.settle(lambda: plane.at("new") == [BOB])
        assert refused == 1


async def test_forwards_of_one_address_that_meet_travel_once() -> None:
    world = world_of(BOB, "dan@example.edu", keeps=False)
    world.add("dan", "old", BOB, keeps=False)
    async with Plane(world) as plane:
        plane.senders["old"] = StagedSender("old", world, plane.arrivals)
        plane.lanes.pause(frozenset({"new"}))
        await sent(plane, "")
        await plane.settle(lambda: len(plane.spool.rows) == 2 and not len(plane.claims))
        plane.lanes.pause(frozenset())
        plane.advance(1)
        await plane.settle(lambda: not plane.spool.rows)
        assert plane.at("new") == [BOB]
        merged = [outcome.note for _, outcome in plane.spool.closed if outcome.disposition == "merged"]
        assert len(merged) == 1
