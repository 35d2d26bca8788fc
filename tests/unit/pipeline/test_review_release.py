"""Releases that could leave a recipient behind for ever: each test names the way in which that could happen."""

from dataclasses import replace

import pytest
from support.memory import World
from support.plane import Plane

from router.model.change import Change, ChangeKind, ChangeSet
from router.model.envelope import RecipientState, Work
from router.model.mailbox import Hold
from router.model.reply import HopReply


@pytest.fixture
def world() -> World:
    world = World()
    for local in ("alice", "bob", "carol"):
        world.add(local, "old")
    return world


def resync(world: World, paused: frozenset[str] = frozenset()) -> ChangeSet:
    holds: dict[str, Hold | None] = {key: box.hold for key, box in world.mailboxes.items() if box.hold is not None}
    return ChangeSet(world.epoch, (Change(world.epoch, ChangeKind.RESYNC, ""),), holds, paused)


async def test_a_resynchronisation_releases_what_is_not_held_any_more(world: World) -> None:
    """Defect: a RESYNC names only open holds; the end of a hold that it stood for was never seen."""
    async with Plane(world) as plane:
        plane.hold("alice@example.edu")
        plane.hold("bob@example.edu")
        await plane.send("alice@example.edu", "bob@example.edu")
        await plane.settle()
        world.release("alice@example.edu", "new")
        plane.classifier._cache.clear()
        plane.following.apply(resync(world))
        await plane.settle(lambda: plane.at("new") == ["alice@example.edu"])
        assert [row.recipient.mailbox for row in plane.spool.rows.values()] == ["bob@example.edu"]
        assert plane.spool.rows[1001].recipient.state is RecipientState.HELD


async def test_a_resynchronisation_may_hide_another_configuration(world: World) -> None:
    """Defect: the CONFIGURATION change that a RESYNC stands for was not followed, and no hold became quiet again."""
    async with Plane(world) as plane:
        asked: list[bool] = []
        plane.following._configured = lambda: asked.append(True)
        plane.following.apply(resync(world))
        assert asked == [True]


async def test_a_resynchronisation_frees_mail_from_the_lane_of_a_paused_store(world: World) -> None:
    """Defect: mail of a mailbox whose move was hidden in a RESYNC waited in the paused lane of its former home."""
    async with Plane(world) as plane:
        plane.following.apply(replace(resync(world), paused=frozenset({"old"})))
        await plane.send("alice@example.edu")
        world.mailboxes["alice@example.edu"] = replace(world.mailboxes["alice@example.edu"], home="new")
        world.epoch += 1
        plane.classifier._cache.clear()
        plane.following.apply(resync(world, frozenset({"old"})))
        await plane.settle(lambda: plane.at("new") == ["alice@example.edu"])
        assert plane.at("old") == []


async def test_a_stale_hold_at_rcpt_does_not_keep_mail_for_ever(world: World) -> None:
    """
    Defect: the lookup of RCPT said hold, the hold's end was applied before its caller went on, and the caller noted
    the mailbox as held again: nothing would ever have released that mail.
    """
    async with Plane(world) as plane:
        world.hold("alice@example.edu")
        classify = plane.classifier.classify

        async def overtaken(address: object) -> object:
            found = await classify(address)  # type: ignore[arg-type]
            plane.classifier.classify = classify  # type: ignore[method-assign]
            plane.release("alice@example.edu", "new")
            return found

        plane.classifier.classify = overtaken  # type: ignore[assignment, method-assign]
        await plane.send("alice@example.edu")
        await plane.settle(lambda: plane.at("new") == ["alice@example.edu"])


async def test_mailboxes_of_a_paused_store_do_not_keep_others_from_draining(world: World) -> None:
    """Defect: as many mailboxes as drain at once, all towards a paused store, stopped every other release."""
    async with Plane(world) as plane:
        plane.drain._width = 2
        for local in ("alice", "bob", "carol"):
            plane.hold(f"{local}@example.edu")
            await plane.send(f"{local}@example.edu")
        paused = frozenset({"new"})
        for local, home in (("alice", "new"), ("bob", "new"), ("carol", "old")):
            world.release(f"{local}@example.edu", home)
            changes = world.change(f"{local}@example.edu")
            plane.following.apply(replace(changes, paused=paused))
        await plane.settle(lambda: plane.at("old") == ["carol@example.edu"])
        assert plane.at("new") == []
        plane.lanes.pause(frozenset())
        await plane.settle()
        assert sorted(plane.at("new")) == ["alice@example.edu", "bob@example.edu"]


async def test_a_long_drain_remembers_nothing_of_the_deliveries_beside_it(world: World) -> None:
    """Defect: the read of a page of released mail stayed open while the page was delivered, and memory grew."""
    async with Plane(world) as plane:
        plane.hold("alice@example.edu")
        await plane.send("alice@example.edu")
        store = plane.senders["new"]
        store.pause = "reply"
        plane.release("alice@example.edu", "new")
        await store.reached.wait()
        for _ in range(20):
            await plane.send("bob@example.edu")
        await plane.settle(lambda: len(plane.at("old")) == 20)
        await plane.settle(lambda: len(plane.claims._returned) < 20)
        store.resume.set()
        await plane.settle()


async def test_released_mail_that_nobody_drains_is_found(world: World) -> None:
    """Defect: a recipient that became draining without its drain (a commit thought failed) waited for a restart."""
    plane = Plane(world)
    plane.releases._sweep = 0.02
    async with plane:
        plane.lanes.pause(frozenset({"old"}))
        await plane.send("alice@example.edu")
        await plane.settle()
        for row in plane.spool.rows.values():
            row.recipient = replace(row.recipient, draining=True, mailbox="alice@example.edu")
        plane.lanes.pause(frozenset())
        await plane.settle(lambda: plane.at("old") == ["alice@example.edu"])


async def test_mail_held_for_a_mailbox_without_a_hold_is_found(world: World) -> None:
    """Defect: a held recipient whose mailbox is not on hold had no way out but a restart."""
    plane = Plane(world)
    plane.releases._sweep = 0.02
    async with plane:
        plane.hold("alice@example.edu")
        await plane.send("alice@example.edu")
        await plane.settle()
        world.release("alice@example.edu", "new")
        plane.classifier.apply(world.change("alice@example.edu"))
        plane.releases._held.discard("alice@example.edu")
        await plane.settle(lambda: plane.at("new") == ["alice@example.edu"])


@pytest.mark.parametrize("what", ["draining", "lanes"])
async def test_an_unforeseen_error_of_a_read_ends_neither_drain_nor_feeder(world: World, what: str) -> None:
    """Defect: any error but SluiceError ended the task, and its mail waited for ever without a word."""
    async with Plane(world) as plane:
        real, calls = getattr(plane.spool, what), []

        async def broken(*args: object) -> object:
            calls.append(args)
            if len(calls) == 1:
                raise RuntimeError("out of threads")
            return await real(*args)

        plane.hold("alice@example.edu")
        await plane.send("alice@example.edu")
        setattr(plane.spool, what, broken)
        plane.release("alice@example.edu", "new")
        await plane.settle(lambda: plane.at("new") == ["alice@example.edu"] and len(calls) > 1)
        assert plane.feeder._task is not None
        assert not plane.feeder._task.done()


async def test_an_unforeseen_error_of_a_release_is_not_the_end_of_it(world: World) -> None:
    """Defect: the release was given up for any error but SluiceError; the mail stayed held."""
    plane = Plane(world)
    plane.releases._retry = 0.01
    async with plane:
        plane.hold("alice@example.edu")
        await plane.send("alice@example.edu")
        await plane.settle()
        real, calls = plane.spool.release, []

        async def broken(*args: object) -> int:
            calls.append(args)
            if len(calls) == 1:
                raise RuntimeError("out of threads")
            return await real(*args)  # type: ignore[arg-type]

        plane.spool.release = broken  # type: ignore[method-assign]
        plane.release("alice@example.edu", "new")
        await plane.settle(lambda: plane.at("new") == ["alice@example.edu"])


async def test_rows_handed_over_to_a_slow_lane_do_not_hide_the_rest(world: World) -> None:
    """Defect: recipients without a lane that wait for a slow store in memory filled every read of their lane."""
    async with Plane(world, limit=1) as plane:
        plane.feeder._batch = 3
        plane.senders["old"].pause = "connect"
        world.mailboxes["bob@example.edu"] = replace(world.mailboxes["bob@example.edu"], home="new")
        plane.dispatcher.offer = lambda work: _leave(plane, work)  # type: ignore[method-assign]
        plane.receiver._offer = plane.dispatcher.offer
        for _ in range(8):
            await plane.send("alice@example.edu")
        await plane.send("bob@example.edu")
        for row in plane.spool.rows.values():
            row.recipient = replace(row.recipient, lane="")
        await plane.settle(lambda: plane.at("new") == ["bob@example.edu"])
        plane.senders["old"].pause = ""
        plane.senders["old"].resume.set()
        await plane.settle(lambda: not plane.spool.rows)


def _leave(plane: Plane, work: Work) -> None:
    """In the spool, for the feeder to find."""
    plane.claims.give_back([r.number for r in work.recipients], tried=False)


async def test_a_reply_that_comes_after_the_mailbox_has_moved_is_routed_anew(world: World) -> None:
    """Defect: the deferral of a delivery under way wrote the lane of the former home back; paused, it kept the mail."""
    async with Plane(world) as plane:
        store = plane.senders["old"]
        store.pause = "reply"
        store.answer = lambda _wire: HopReply(451, "4.2.0", "busy", "store")
        await plane.send("alice@example.edu")
        await store.reached.wait()
        world.mailboxes["alice@example.edu"] = replace(world.mailboxes["alice@example.edu"], home="new")
        world.epoch += 1
        plane.following.apply(replace(world.change("alice@example.edu"), paused=frozenset({"old"})))
        store.resume.set()
        await plane.settle()
        [row] = plane.spool.rows.values()
        assert row.recipient.lane == ""
        plane.advance(3600.0)
        await plane.settle(lambda: plane.at("new") == ["alice@example.edu"])


async def test_mail_that_named_no_mailbox_names_it_once_it_is_routed(world: World) -> None:
    """Defect: a notice of ours for a mailbox here waited in a paused lane under no name, and no move could find it."""
    async with Plane(world) as plane:
        plane.lanes.pause(frozenset({"old"}))
        await plane.send("alice@example.edu")
        for row in plane.spool.rows.values():
            row.recipient = replace(row.recipient, lane="", mailbox="")
        await plane.settle(lambda: all(row.recipient.lane == "old" for row in plane.spool.rows.values()))
        assert {row.recipient.mailbox for row in plane.spool.rows.values()} == {"alice@example.edu"}
