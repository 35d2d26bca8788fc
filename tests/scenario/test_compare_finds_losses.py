"""
The harness of the comparison sees a loss: a real Postfix, killed, loses a queue file before it is started again.

Without that, the same run loses nothing; so a zero in the table is a zero.
"""

import asyncio
from pathlib import Path

import pytest
from compare.bout import HUNG, Bout
from compare.figures import Tally
from compare.postfix_relay import PostfixRelay

from router.ledger.behaviour import Behaviour

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SMALL = (800, 3_000)


class Losing(PostfixRelay):
    """Loses one message of those that were acknowledged, after its death."""

    lost: Path | None = None

    def killed(self) -> None:
        files = self.instance.files()
        if self.lost is None and files:
            self.lost = files[0]
            self.lost.unlink()


async def one_kill(make: type[PostfixRelay]) -> Tally:
    """Load while no next hop answers, SIGKILL, a new start, and everything delivered."""
    async with Bout(make) as bout:
        await bout.start()
        bout.behave(HUNG)
        bout.load(7, SMALL)
        await queued(bout)
        await bout.end_load()
        await bout.kill()
        bout.behave(Behaviour())
        await bout.start()
        return await bout.judge(90)


async def queued(bout: Bout) -> None:
    """Wait until several messages are."""
    for _ in range(3000):
        if await asyncio.to_thread(bout.relay.queued) >= 4:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"nothing is queued: {bout.relay.told()}")


async def test_a_queue_file_that_is_gone_is_a_loss_and_a_kill_alone_is_none() -> None:
    kept, robbed = await one_kill(PostfixRelay), await one_kill(Losing)
    assert (kept.lost, kept.left) == (0, 0)
    assert kept.acknowledged >= 4
    assert robbed.lost >= 1
    assert robbed.left == 0
    assert robbed.acknowledged > robbed.lost
