"""
Two operators who want opposite things of one message at one moment, and an operator against a delivery.

What must hold: the later order has the last word, each is told what its own order did, and no message is both removed
and delivered.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio
from support.lives import Lives, minutes
from support.operator import Operator, Ran

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.load import Submission

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

ANN = "ann@example.edu"
LATER = Behaviour(replies={Stage.RCPT: "451 4.3.0 later"})
SLOW = Behaviour(delays=dict.fromkeys((Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT), 0.12))
WHY = ("--reason", "test")
PAIRS = [
    (("park", "requeue"), (1, 1), ["queued"]),
    (("requeue", "park"), (1, 1), ["parked"]),
    (("delete", "requeue"), (1, 0), []),
    (("requeue", "delete"), (1, 1), []),
    (("park", "delete"), (1, 1), []),
]
"""The verbs in their order, how many recipients each is told of, and the state in the end."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lives(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lives]:
    async with Lives(tmp_path_factory.mktemp("contradicting"), [ANN]) as found:
        await found.live()
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def operator(lives: Lives) -> Operator:
    return Operator(lives)


def order(verb: str, said: Submission) -> tuple[str, ...]:
    return ("queue", verb, said.queue_id, *WHY, *(["--yes"] if verb == "delete" else []))


@pytest.mark.parametrize(("verbs", "counts", "after"), PAIRS, ids=["-".join(one[0]) for one in PAIRS])
async def test_the_later_order_has_the_last_word(
    lives: Lives, operator: Operator, verbs: tuple[str, str], counts: tuple[int, int], after: list[str]
) -> None:
    """Both find the worker stopped, and it sees both at once."""
    lives.old.behaviour = LATER
    said = await lives.keep(ANN, 800)
    stopped = await both_known(operator, lives, *(order(verb, said) for verb in verbs))
    first, second = stopped
    assert (first.status, second.status) == (0, 0), lives.nursery.said()
    assert (first.document["changed"], second.document["changed"]) == counts
    assert operator.states(said.tag) == after
    lives.old.behaviour = Behaviour()
    if after == ["parked"]:
        await operator.run("queue", "unpark", said.queue_id)
    await lives.judge()
    assert lives.stores_of(said.tag) == ([] if "delete" in verbs else ["old"])


async def both_known(operator: Operator, lives: Lives, one: tuple[str, ...], other: tuple[str, ...]) -> list[Ran]:
    """Two commands whose requests a worker finds together, in this order; how they ended."""
    await operator.freeze(lives.worker)
    born = [await operator.stopped(*words, at=4) for words in (one, other)]
    os.kill(lives.worker.pid, signal.SIGCONT)
    found = []
    for child, words in zip(born, (one, other), strict=True):
        assert child is not None
        child.go()
        found.append(await operator.end(child, words))
    numbers = [one.number for one in operator.requests()]
    assert all(former < later for former, later in pairwise(numbers))
    return found


async def test_removed_or_delivered_and_never_both(lives: Lives, operator: Operator) -> None:
    """A removal at any moment of a delivery: the journal and the store agree, and so does the command."""
    fates: set[str] = set()
    for number in range(200 if minutes() else 10):
        lives.old.behaviour = SLOW
        said = await lives.keep(ANN, 800)
        await asyncio.sleep(random.uniform(0, 0.4))
        ran = await operator.run(*order("delete", said))
        assert await lives.site.drained(60) == 0
        removed = operator.journalled(said.queue_id, "removed")
        delivered = operator.journalled(said.queue_id, "delivered")
        assert (removed, delivered) in {(0, 1), (1, 0)}
        assert lives.stores_of(said.tag) == ["old"] * delivered, f"message {number}: removed, and delivered"
        told = 0 if ran.status == 0 and not ran.output.strip() else ran.document["changed"]
        assert told == removed
        fates.add("removed" if removed else "delivered")
    await lives.judge()
    print(fates)  # noqa: T201 - both, when the machine is not overloaded
