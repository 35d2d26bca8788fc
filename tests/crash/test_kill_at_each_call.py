"""
SIGKILL at every write, sync, rename, unlink and truncation of one accept, one delivery, one hold and one release.

After each: a restart, and the promises are checked: what was acknowledged is delivered, once unless the kill came
between a store's reply and its commit; after a hold's exit 0 nothing comes to a store; the accounts balance.
The short run takes every sync, rename, unlink and truncation that the operation makes and a sample of the writes; the
long run takes every call of every name.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from support.lives import Lives, minutes, states, stride
from support.nursery import Born
from support.strace import Strace

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.load import Fate, Submission

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400 + 60 * minutes()), pytest.mark.asyncio(loop_scope="module")]

ANN = "ann@example.edu"
SMALL, LARGE = 800, 200_000
CALLS = ("fdatasync", "pwrite64", "fsync", "rename", "unlink", "ftruncate", "write", "sendto", "sendmsg")
SAMPLED = frozenset({"pwrite64", "write"})
LIMIT = 120
"""More calls than any operation makes."""
MOMENT = 20
"""Looks at a worker at rest whose operation is over, before it counts as alive."""
RESTLESS = 60.0
"""Seconds after which it counts as alive without ever having come to rest."""
HUNG = Behaviour(hang=frozenset({Stage.CONNECT, Stage.MAIL}))
"""MAIL as well: a worker keeps the connection of its last delivery for the next."""

Case = Callable[[str, int], Awaitable[bool]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everybody(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lives]:
    """One site for all sweeps: a start of a whole relay costs as much as a dozen deaths."""
    async with Lives(tmp_path_factory.mktemp("lives"), [ANN]) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def lives(everybody: Lives) -> AsyncIterator[Lives]:
    """ANN is not on hold, and there is no worker."""
    yield everybody
    everybody.old.behaviour = Behaviour()
    await everybody.end()


async def sweep(calls: tuple[str, ...], case: Case) -> int:
    """Kill at each call of each name until the operation ends by itself; how many died."""
    deaths = 0
    for call in CALLS if minutes() else calls:
        number = 1
        while await case(call, number):
            deaths += 1
            number += stride(9) if call in SAMPLED else 1
            assert number < LIMIT, f"{call} has no end"
    print(f"{deaths} deaths")  # noqa: T201 - what the long run did
    return deaths


def at(call: str, number: int) -> tuple[str, str]:
    return call, f"signal=KILL:when={number}"


async def dead(lives: Lives, worker: Born, done: "asyncio.Task[object]") -> bool:
    """Wait until the worker has died or the operation is done; whether it died, then or within a moment."""
    while lives.alive(worker) and not done.done():
        await asyncio.wait([done], timeout=0.005)
    # Hazard: on a machine with other things to do the call that kills comes late; who waits for a processor, a disk or
    # strace is not at rest.
    rest, end = 0, time.monotonic() + RESTLESS
    while rest < MOMENT and time.monotonic() < end:
        if not lives.alive(worker):
            return True
        rest += set(states(worker.pid)) <= {"S"}
        await asyncio.sleep(0.005)
    return not lives.alive(worker)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_inv_2_kill_at_each_call_of_an_accept(lives: Lives, size: int) -> None:
    worker = await lives.live()
    fates: list[Fate] = []

    async def case(call: str, number: int) -> bool:
        nonlocal worker
        lives.old.behaviour = HUNG
        began = time.monotonic()
        with Strace(worker.pid, *at(call, number)):
            sent = asyncio.create_task(lives.send(ANN, size))
            died = await dead(lives, worker, sent)
        said = await sent
        fates.extend(said.fates if said is not None else ())
        worker = await reborn(lives, worker, began, died=died)
        lives.old.behaviour = Behaviour()
        verdict = await lives.judge()
        assert verdict.balance.extra == 0, "no delivery was under way"
        return died

    calls = ("fdatasync", "pwrite64", "write") if size == SMALL else ("fsync", "rename", "write")
    assert await sweep(calls, case) >= 4
    assert {Fate.ACKNOWLEDGED, Fate.UNANSWERED} <= set(fates)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_inv_7_kill_at_each_call_of_a_delivery(lives: Lives, size: int) -> None:
    worker = await lives.live()

    async def case(call: str, number: int) -> bool:
        nonlocal worker
        lives.old.behaviour = HUNG
        said = await lives.keep(ANN, size)
        began = time.monotonic()
        with Strace(worker.pid, *at(call, number)):
            lives.old.behaviour = Behaviour()
            drained = asyncio.create_task(lives.site.drained(60))
            died = await dead(lives, worker, drained)
        worker = await reborn(lives, worker, began, died=died)
        await drained
        await lives.judge()
        assert 1 <= len(lives.stores_of(said.tag)) <= 2
        return died

    calls = ("fdatasync", "pwrite64", "write") if size == SMALL else ("unlink",)
    assert await sweep(calls, case) >= (4 if size == SMALL else 1)


async def reborn(lives: Lives, worker: Born, began: float, *, died: bool) -> Born:
    """The next worker; one that did not die in its operation is killed now."""
    await (lives.died(worker, began) if died else lives.kill(worker))
    return await lives.live()


async def held_and_released(lives: Lives, opened: float) -> None:
    """ANN is on hold: mail to her is kept and comes to her store once, after a release."""
    said = await lives.keep(ANN, SMALL)
    await asyncio.sleep(0.05)
    assert lives.stores_of(said.tag) == []
    lives.quiet(ANN, opened)
    assert (await lives.site.release(ANN)).released
    await lives.judge()
    assert len(lives.stores_of(said.tag)) == 1


async def test_kill_of_the_worker_at_each_call_of_a_hold(lives: Lives) -> None:
    worker = await lives.live()

    async def case(call: str, number: int) -> bool:
        nonlocal worker
        began = time.monotonic()
        with Strace(worker.pid, *at(call, number)):
            hold = asyncio.create_task(lives.site.hold(ANN, timeout=120))
            died = await dead(lives, worker, hold)
        if died:
            await lives.died(worker, began)
            worker = await lives.live()
        assert (await hold).quiet
        await held_and_released(lives, time.monotonic())
        return died

    assert await sweep(("fdatasync", "pwrite64", "ftruncate"), case) >= 8


async def test_inv_9_kill_of_the_command_at_each_call_of_a_hold(lives: Lives) -> None:
    await lives.live()

    async def case(call: str, number: int) -> bool:
        status = await command(lives, call, number, "hold", ANN, "--reason", "test", "--timeout", "60s")
        assert (await lives.site.hold(ANN)).quiet, "the same verb again joins, or begins"
        await held_and_released(lives, time.monotonic())
        return status < 0

    assert await sweep(("fdatasync", "pwrite64", "ftruncate"), case) >= 6


async def command(lives: Lives, call: str, number: int, *words: str) -> int:
    """Run a command that dies at a call; its status."""
    born = await asyncio.to_thread(lives.nursery.command, *words)
    with Strace(born.pid, *at(call, number)):
        born.go()
        status = await asyncio.to_thread(lives.nursery.wait, born)
    assert status in (0, -9), lives.nursery.said()
    return status


async def kept(lives: Lives) -> tuple[Submission, str]:
    """A message to ANN, who is on hold, and the store that she moves to."""
    assert (await lives.site.hold(ANN)).quiet
    said = await lives.keep(ANN, SMALL)
    [record] = lives.site.office.records([ANN]).values()
    return said, "new" if record.mailbox.home == "old" else "old"


async def test_inv_23_kill_of_the_worker_at_each_call_of_a_release(lives: Lives) -> None:
    worker = await lives.live()

    async def case(call: str, number: int) -> bool:
        nonlocal worker
        said, to = await kept(lives)
        began = time.monotonic()
        with Strace(worker.pid, *at(call, number)):
            release = asyncio.create_task(moved(lives, to))
            died = await dead(lives, worker, release)
        if died:
            await lives.died(worker, began)
            worker = await lives.live()
        await release
        await lives.judge()
        assert lives.stores_of(said.tag) in ([to], [to, to])
        return died

    assert await sweep(("fdatasync", "pwrite64", "write"), case) >= 6


async def moved(lives: Lives, to: str) -> None:
    """The release is in force, be it by this command or by the one before."""
    said = await lives.site.release(ANN, to=to)
    assert said.applied
    assert said.home == to
    assert await lives.site.drained(60) == 0


async def test_inv_23_kill_of_the_command_at_each_call_of_a_release(lives: Lives) -> None:
    await lives.live()

    async def case(call: str, number: int) -> bool:
        said, to = await kept(lives)
        status = await command(lives, call, number, "release", ANN, "--to", to, "--reason", "test")
        await moved(lives, to)
        await lives.judge()
        assert lives.stores_of(said.tag) == [to]
        return status < 0

    assert await sweep(("fdatasync", "pwrite64", "ftruncate"), case) >= 6
