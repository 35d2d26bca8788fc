"""
Operators use every verb that changes the queue or a hold, several at once, some of them killed, while mail comes in and
workers are killed, stopped, reloaded and restarted: nothing is lost, nothing comes twice but what a store took at a
kill, nobody on hold gets mail, and each command said what is so.
"""

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from support.fire import Fire
from support.lives import minutes
from support.orders import HOLDS, QUEUE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400 + 60 * minutes())]

PEOPLE = [f"p{number}@example.edu" for number in range(6)]


async def test_commands_while_workers_die_stop_and_restart(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    end, rounds = time.monotonic() + 60 * minutes() / 4, 0
    async with Fire(tmp_path, PEOPLE, seed) as fire:
        while not rounds or time.monotonic() < end:
            await fire.storm()
            rounds += 1
        verdict = await fire.judge()
        assert "CRITICAL" not in fire.site.relay.tail()
    given = fire.orders.given
    verbs = Counter(one.verb for one in given)
    ends = Counter(one.status for one in given)
    print(f"{rounds} rounds, {fire.faults} faults, {len(given)} commands {dict(verbs)} {dict(ends)}")  # noqa: T201
    print(verdict.balance)  # noqa: T201 - what the long run did
    assert not minutes() or set(verbs) >= {*QUEUE, *HOLDS}
    assert ends[-9] > 0
    assert ends[0] > 5
    assert verdict.balance.extra == verdict.balance.excused
