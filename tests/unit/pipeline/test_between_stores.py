"""Two stores at once: one that is stuck is in nobody's way, and a rollback in the middle of a release is followed."""

import asyncio

from support.memory import World
from support.plane import Plane

from router.model.outcome import Disposition
from router.model.reply import HopReply

ALICE, CAROL = "alice@example.edu", "carol@example.edu"


async def test_inv_44_a_store_that_is_stuck_delays_no_other() -> None:
    world = World()
    world.add("alice", "old")
    world.add("carol", "new")
    async with Plane(world, limit=2) as plane:
        plane.senders["old"].pause = "data"
        for number in range(50):
            await plane.send(ALICE, sender=f"a{number}@outside.example")
        await plane.senders["old"].reached.wait()
        for number in range(20):
            await plane.send(CAROL, sender=f"c{number}@outside.example")
        await plane.settle(lambda: len(plane.at("new")) == 20)
        assert plane.at("old") == []
        assert plane.senders["old"].running == 2
        plane.senders["old"].pause = ""
        plane.senders["old"].resume.set()
        await plane.settle(lambda: len(plane.at("old")) == 50)


async def test_inv_25_a_rollback_in_the_middle_of_a_release() -> None:
    """What is still here follows the home of now; what was delivered is in the journal, with the store that has it."""
    world = World()
    world.add("alice", "old")
    async with Plane(world) as plane:
        plane.hold(ALICE)
        sent = [f"s{number}@outside.example" for number in range(6)]
        for sender in sent:
            plane.clock.now += 1
            await plane.send(ALICE, sender=sender)
        new, asked = plane.senders["new"], []

        def stop_at_the_third(wire: str) -> HopReply:
            asked.append(wire)
            new.pause = "data" if len(asked) >= 3 else ""
            return HopReply(250, "2.0.0", "ok", "store")

        new.answer = stop_at_the_third
        plane.release(ALICE, "new")
        await asyncio.wait_for(new.reached.wait(), 60)
        at_new = len(plane.at("new"))
        plane.hold(ALICE)
        await plane.settle(lambda: plane.barrier.quiet(ALICE))
        assert len(plane.at("new")) == at_new < 6
        plane.release(ALICE, "old")
        await plane.settle(lambda: not plane.spool.rows)
        assert (len(plane.at("new")), len(plane.at("old"))) == (at_new, 6 - at_new)
        assert [arrival.queue_id for arrival in plane.arrivals] == [f"Q{number}" for number in range(1, 7)]
        to_copy_back = [one.lane for one in plane.spool.settled if one.disposition is Disposition.DELIVERED]
        assert to_copy_back == ["new"] * at_new + ["old"] * (6 - at_new)
