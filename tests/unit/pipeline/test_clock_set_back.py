"""A clock set back by a year keeps no mail in the queue for a year (inv_56)."""

from support.memory import World
from support.plane import Plane

from router.deliver.feeder import FARTHEST, LOOK_AHEAD

YEAR = 365 * 86400.0
ALICE = "alice@example.edu"


async def test_inv_56_deferred_mail_is_tried_though_the_clock_was_set_back() -> None:
    world = World()
    world.add("alice", "old")
    async with Plane(world) as plane:
        plane.senders["old"].refuse_connection = True
        await plane.send(ALICE)
        await plane.settle()
        [row] = plane.spool.rows.values()
        assert row.recipient.attempts == 1
        plane.senders["old"].refuse_connection = False
        plane.clock.set_by = -YEAR
        plane.advance(LOOK_AHEAD)
        await plane.settle(lambda: row.recipient.due <= plane.clock.wall() + FARTHEST)
        plane.advance(FARTHEST)
        await plane.settle(lambda: plane.at("old") == [ALICE])
