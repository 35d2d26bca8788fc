"""
Each verb that changes the queue, with the command or the worker stopped or killed at one exact moment.

What must hold: a command is carried out whole or not at all, once, and the same again does no harm; its exit status and
output say what is so; what was removed or parked is not delivered all the same.
"""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import pytest
import pytest_asyncio
from support.lives import Lives, minutes
from support.operator import Operator

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.load import Submission

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

ANN = "ann@example.edu"
LATER = Behaviour(replies={Stage.RCPT: "451 4.3.0 later"})
WHY = ("--reason", "test")
VERBS = {
    "flush": ("queued", ()),
    "requeue": ("queued", ()),
    "park": ("parked", WHY),
    "unpark": ("queued", ()),
    "delete": ("", (*WHY, "--yes")),
}
"""What the mail is afterwards, and what the verb wants to be told."""
SOME = list(VERBS) if minutes() else ["unpark", "delete"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everybody(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lives]:
    async with Lives(tmp_path_factory.mktemp("exact"), [ANN]) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def lives(everybody: Lives) -> AsyncIterator[Lives]:
    """No worker, and stores that take everything."""
    yield everybody
    everybody.old.behaviour = Behaviour()
    await everybody.end()


@pytest_asyncio.fixture(loop_scope="module")
async def operator(lives: Lives) -> Operator:
    return Operator(lives)


async def waiting(lives: Lives, operator: Operator, verb: str) -> tuple[Submission, tuple[str, ...]]:
    """A message that the verb can change, and the words of the command."""
    lives.old.behaviour = LATER
    said = await lives.keep(ANN, 800)
    if verb == "unpark":
        assert (await operator.run("queue", "park", said.queue_id, *WHY)).document["changed"] == 1
    return said, ("queue", verb, said.queue_id, *VERBS[verb][1])


async def settled(lives: Lives, operator: Operator, verb: str, said: Submission) -> None:
    """The verb is carried out, once; the rest of the mail arrives, and everything balances."""
    after = VERBS[verb][0]
    assert operator.states(said.tag) == ([after] if after else [])
    assert operator.journalled(said.queue_id, "removed") == (verb == "delete")
    assert operator.journalled(said.queue_id, "parked") == (verb in {"park", "unpark"})
    lives.old.behaviour = Behaviour()
    if verb == "park":
        assert (await operator.run("queue", "unpark", said.queue_id)).document["changed"] == 1
    await lives.judge()
    assert lives.stores_of(said.tag) == ([] if verb == "delete" else ["old"])


@pytest.mark.parametrize("verb", SOME)
async def test_the_command_killed_at_each_step(lives: Lives, operator: Operator, verb: str) -> None:
    await lives.live()
    step = 1
    while True:
        said, words = await waiting(lives, operator, verb)
        before, known = operator.states(said.tag), len(operator.known(verb))
        audited = operator.audited(verb)
        born = await operator.stopped(*words, at=step)
        if born is None:
            break
        born.kill()
        await operator.end(born)
        asked = len(operator.known(verb)) - known
        assert operator.audited(verb) - audited == (asked > 0), "the audit has what was asked for, and nothing else"
        assert asked or operator.states(said.tag) == before, "nothing was asked for"
        again = await operator.run(*words)
        assert again.status == 0, lives.nursery.said()
        await settled(lives, operator, verb, said)
        step += 1
    assert step > 3, "a transaction with the audit, and the request"
    await settled(lives, operator, verb, said)


@pytest.mark.parametrize("verb", SOME)
async def test_the_command_killed_when_the_worker_has_answered(lives: Lives, operator: Operator, verb: str) -> None:
    await lives.live()
    said, words = await waiting(lives, operator, verb)
    born = await operator.stopped(*words, at=last_step(operator))
    assert born is not None
    await operator.until(lambda: all(one.state != "new" for one in operator.requests()))
    born.kill()
    await operator.end(born)
    again = await operator.run(*words)
    assert again.status == 0
    assert verb in {"flush", "requeue"} or again.document["changed"] == 0, "it was done"
    await settled(lives, operator, verb, said)


def last_step(_operator: Operator) -> int:
    """The end of the transaction that makes the requests known."""
    return 4


@pytest.mark.parametrize("verb", SOME)
async def test_the_worker_killed_between_its_change_and_its_answer(lives: Lives, operator: Operator, verb: str) -> None:
    """The successor finds the request: it answers what was done, and does not do it again."""
    worker = await lives.live()
    said, words = await waiting(lives, operator, verb)
    await operator.freeze(worker)
    born = await operator.stopped(*words, at=last_step(operator))
    assert born is not None
    with closing(operator.control()) as blocked:
        # Whoever has this lock lets the others read: the worker can change its spool, and cannot answer.
        blocked.execute("BEGIN IMMEDIATE")
        os.kill(worker.pid, signal.SIGCONT)
        await operator.until(lambda: changed(lives, operator, verb, said))
        await lives.kill(worker)
    lives.old.behaviour = LATER
    await lives.live()
    born.go()
    ran = await operator.end(born, words)
    assert ran.status == 0
    assert verb == "flush" or ran.document["changed"] == 1, "what the first owner did"
    await settled(lives, operator, verb, said)


def changed(lives: Lives, operator: Operator, verb: str, said: Submission) -> bool:
    """The worker has carried the verb out."""
    if verb in {"flush", "requeue"}:
        # Seen from outside only by what follows: it is tried now.
        return lives.old.attempts.count(ANN) > 3
    return operator.states(said.tag) == ([VERBS[verb][0]] if VERBS[verb][0] else [])


@pytest.mark.parametrize("verb", SOME)
async def test_the_worker_stopped(lives: Lives, operator: Operator, verb: str) -> None:
    """The command ends at its timeout, says that the change will come, and it does."""
    worker = await lives.live()
    said, words = await waiting(lives, operator, verb)
    before = operator.states(said.tag)
    await operator.freeze(worker)
    ran = await operator.run(*words, "--timeout", "0.5")
    assert ran.status == 75, lives.nursery.said()
    assert 0.5 <= ran.seconds < 45
    assert [one["spool"] for one in ran.document["pending"]] == [1]
    assert operator.states(said.tag) == before
    os.kill(worker.pid, signal.SIGCONT)
    await operator.until(lambda: all(one.state != "new" for one in operator.requests()))
    await settled(lives, operator, verb, said)


async def test_a_worker_stopped_with_the_control_database_in_its_hands(lives: Lives, operator: Operator) -> None:
    """The command ends soon, says why, and has asked for nothing."""
    await lives.live()
    said, words = await waiting(lives, operator, "park")
    asked = len(operator.requests())
    with closing(operator.control()) as blocked:
        while not blocked.in_transaction:
            with suppress(sqlite3.OperationalError):
                blocked.execute("BEGIN EXCLUSIVE")
        ran = await operator.run(*words, "--timeout", "0.5")
    assert (ran.status, ran.output) == (69, "")
    assert "somebody keeps it locked" in lives.nursery.said()
    assert ran.seconds < 60
    assert len(operator.requests()) == asked
    assert (await operator.run(*words)).status == 0
    await settled(lives, operator, "park", said)


@pytest.mark.parametrize("verb", SOME)
async def test_no_worker(lives: Lives, operator: Operator, verb: str) -> None:
    """The command is the owner, and does it itself."""
    worker = await lives.live()
    said, words = await waiting(lives, operator, verb)
    await lives.kill(worker)
    ran = await operator.run(*words)
    assert (ran.status, ran.document["as_owner"]) == (0, [1])
    after = VERBS[verb][0]
    assert operator.states(said.tag) == ([after] if after else [])
    await lives.live()
    await settled(lives, operator, verb, said)


@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.DOT])
@pytest.mark.parametrize("verb", ["delete", "park"])
async def test_a_delivery_under_way(
    lives: Lives, operator: Operator, verb: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the final dot it is called back; after it the mail is left alone, and the command says so."""
    await lives.live()
    dots: list[Stage] = []
    take = lives.old.take_drop

    def noted(at: Stage) -> bool:
        dots.append(at)
        return take(at)

    monkeypatch.setattr(lives.old, "take_drop", noted)
    lives.old.attempts.clear()
    lives.old.behaviour = Behaviour(hang=frozenset({stage}))
    said = await lives.keep(ANN, 800)
    await operator.until(lambda: Stage.DOT in dots if stage is Stage.DOT else ANN in lives.old.attempts)
    ran = await operator.run("queue", verb, said.queue_id, *VERBS[verb][1], "--timeout", "20")
    lives.old.behaviour = Behaviour()
    if stage is Stage.DOT:
        assert (ran.status, ran.document["changed"], ran.document["under_way"]) == (75, 0, 1)
        await lives.judge()
        assert lives.stores_of(said.tag) == ["old"]
        assert operator.journalled(said.queue_id, "removed") == 0
        return
    assert (ran.status, ran.document["changed"], ran.document["under_way"]) == (0, 1, 0)
    await settled(lives, operator, verb, said)


async def test_mail_that_waits_in_memory_for_a_busy_store(lives: Lives, operator: Operator) -> None:
    """It was read from the spool before it was removed."""
    await lives.live()
    lives.old.behaviour = Behaviour(hang=frozenset({Stage.MAIL, Stage.CONNECT}))
    many = [await lives.keep(ANN, 800) for _ in range(40)]
    ids = [one.queue_id for one in many]
    ran = await operator.run("queue", "delete", *ids, *WHY, "--yes", "--timeout", "60")
    assert (ran.status, ran.document["changed"]) == (0, 40)
    lives.old.behaviour = Behaviour()
    await asyncio.sleep(0.5)
    await lives.judge()
    assert [one.tag for one in many if lives.stores_of(one.tag)] == []
