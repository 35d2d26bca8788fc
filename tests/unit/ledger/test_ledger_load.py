"""The load generator against a recording store: what it counts as acknowledged is exactly what was."""

import asyncio
from itertools import islice

import pytest

from router.ledger.behaviour import Behaviour, Refusal, Stage
from router.ledger.book import Ledger
from router.ledger.load import Fate, Load, Submission, stuffed
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan, compose, message_id, messages, tag_of

PEOPLE = tuple(f"user{n}@example.edu" for n in range(20))


def plan(**changes: object) -> Plan:
    values = {"senders": ("s@example.net", ""), "recipients": PEOPLE, "connections": 2, **changes}
    return Plan(**values)  # type: ignore[arg-type]


def fates(submissions: list[Submission]) -> set[Fate]:
    return {fate for submission in submissions for fate in submission.fates}


@pytest.mark.parametrize("pipelining", [True, False])
async def test_everything_acknowledged_is_at_the_store(pipelining: bool) -> None:
    async with RecordingStore("old", behaviour=Behaviour(pipelining=pipelining)) as store:
        load = Load("127.0.0.1", store.port, plan(messages_per_connection=7))
        submissions = await load.run(40)
    assert len(submissions) == 40
    assert fates(submissions) == {Fate.ACKNOWLEDGED}
    sent = {(s.tag, r, s.digest) for s in submissions for r in s.recipients}
    assert {(a.tag, r, a.digest) for a in store.arrivals for r, _ in a.recipients} == sent


@pytest.mark.parametrize("pipelining", [True, False])
async def test_refused_recipients_are_told_apart(pipelining: bool) -> None:
    behaviour = Behaviour(refusals=(Refusal("user1@*", "550 5.1.1 no"),), pipelining=pipelining)
    async with RecordingStore("old", behaviour=behaviour) as store:
        submissions = await Load("127.0.0.1", store.port, plan(recipients=PEOPLE[:3])).run(30)
    for submission in submissions:
        for recipient, fate, code in zip(submission.recipients, submission.fates, submission.codes, strict=True):
            refused = recipient.startswith("user1@")
            assert (fate, code) == ((Fate.REFUSED, 550) if refused else (Fate.ACKNOWLEDGED, 250))


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (Behaviour(drop_after_dot=-1), Fate.UNANSWERED),
        (Behaviour(drop_before_dot=-1), Fate.NOT_SENT),
        (Behaviour(replies={Stage.DOT: "451 4.3.0 later"}), Fate.DECLINED),
        (Behaviour(replies={Stage.DOT: "554 5.6.0 never"}), Fate.REFUSED),
        (Behaviour(replies={Stage.DATA: "451 4.3.0 later"}), Fate.REFUSED),
        (Behaviour(replies={Stage.MAIL: "452 4.3.1 full"}), Fate.REFUSED),
    ],
)
async def test_what_is_not_acknowledged_is_named(behaviour: Behaviour, expected: Fate) -> None:
    async with RecordingStore("old", behaviour=behaviour) as store:
        submissions = await Load("127.0.0.1", store.port, plan()).run(6)
    assert fates(submissions) == {expected}


async def test_a_run_survives_a_restart() -> None:
    store = RecordingStore("old")
    port = await store.start()
    load = Load("127.0.0.1", port, plan(rate=400.0))
    running = asyncio.create_task(load.run())
    await store.arrived(10)
    await store.stop()
    await store.start(port)
    await store.arrived(len(store.arrivals) + 10)
    load.stop()
    submissions = await running
    await store.stop()
    ledger = Ledger()
    ledger.submitted(submissions)
    ledger.arrived(store.arrivals)
    verdict = ledger.check()
    acknowledged = {
        (s.tag, r) for s in submissions for r, f in zip(s.recipients, s.fates, strict=True) if f == "acknowledged"
    }
    assert len(acknowledged) == verdict.balance.delivered == verdict.balance.accepted
    assert verdict.balance.lost == 0


async def test_the_rate_is_kept() -> None:
    async with RecordingStore("old") as store:
        began = asyncio.get_running_loop().time()
        await Load("127.0.0.1", store.port, plan(rate=100.0)).run(20)
        assert asyncio.get_running_loop().time() - began >= 0.18


async def test_nobody_there_is_no_error() -> None:
    store = RecordingStore("old")
    port = await store.start()
    await store.stop()
    load = Load("127.0.0.1", port, plan())
    running = asyncio.create_task(load.run(5))
    done, _ = await asyncio.wait([running], timeout=0.15)
    assert not done
    load.stop()
    assert await running == []


def test_messages_repeat_with_the_seed_and_differ_in_their_tags() -> None:
    first = list(islice(messages(plan(run="r")), 50))
    again = list(islice(messages(plan(run="r")), 50))
    assert [(m.tag, m.sender, m.recipients) for m in first] == [(m.tag, m.sender, m.recipients) for m in again]
    assert len({m.tag for m in first}) == 50
    assert all(len(set(m.recipients)) == len(m.recipients) for m in first)


@pytest.mark.parametrize("size", [0, 800, 100_000])
def test_composed_messages_are_canonical(size: int) -> None:
    content = compose("t-1", "", PEOPLE[:2], size)
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert content.endswith(b"\r\n")
    assert len(content) <= max(size, 500)
    assert b"\r\n.\r\n" in content
    assert stuffed(content).count(b"\r\n.\r\n") == 1


def test_tags_come_back_from_message_ids() -> None:
    assert tag_of(message_id("run-7")) == "run-7"
    assert tag_of("<x@elsewhere.example>") == ""
    assert tag_of("") == ""
