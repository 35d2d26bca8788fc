"""
Twenty large messages at once, in and out, with less memory for the whole relay than two of them would fill (inv 48).

The kernel enforces the limit: beyond it, it kills a process of the relay, which fails the test. The long run
(`./dev crash --minutes N tests/resources`) sends 100 MiB each within 256 MiB.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.large_mail import send_large
from support.lives import minutes
from support.memory_group import MemoryGroup
from support.site import Site, StoreAt

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.book import Ledger
from router.ledger.load import Fate
from router.ledger.stores import StoreProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400 + 600 * bool(minutes()))]

MIB = 1 << 20
AT_ONCE = 20
SIZE = (100 if minutes() else 10) * MIB
MEMORY = (256 if minutes() else 160) * MIB
"""Of supervisor and worker together; idle they hold about 95."""
GROWTH = 48 * MIB
"""What all of them may cost: a few blocks of each, and no more for larger ones."""
PATIENCE = 300.0
TO = "ann@example.edu"
SETTINGS = {
    "message_size_limit": "101 MiB",
    "stores": {"old": {"max_connections": AT_ONCE}},
}


class Watch:
    """The most memory that the group held, looked at all the time."""

    def __init__(self, group: MemoryGroup) -> None:
        self._group = group
        self.most = 0

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        self.most = self._group.resident()
        task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            task.cancel()

    async def _look(self) -> None:
        while True:
            self.most = max(self.most, self._group.resident())
            await asyncio.sleep(0.02)


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with MemoryGroup(MEMORY) as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreProcess]:
    found = StoreProcess("old", tmp_path / "old.jsonl")
    found.start(behaviour=Behaviour(hang=frozenset({Stage.CONNECT})))
    yield found
    found.stop()


@pytest.fixture
def site(tmp_path: Path, group: MemoryGroup, store: StoreProcess) -> Iterator[Site]:
    found = Site(tmp_path, [StoreAt("old", store.port)], users={TO: "old"}, settings=SETTINGS, fresh=True)
    try:
        found.import_users({TO: "old"})
        with group.joined():
            found.start()
        yield found
    finally:
        found.close()


async def test_inv_48_twenty_large_messages_at_once_in_and_out(
    site: Site, store: StoreProcess, group: MemoryGroup
) -> None:
    watch, idle = Watch(group), group.resident()
    async with watch.watching():
        said = await asyncio.gather(*(send_large(site.port, f"large-{n}", TO, SIZE) for n in range(AT_ONCE)))
    most_in = watch.most
    assert [one.fates for one in said] == [(Fate.ACKNOWLEDGED,)] * AT_ONCE, site.relay.tail()
    async with watch.watching():
        store.behave(Behaviour())
        await stall(store)
        assert await site.drained(PATIENCE) == 0
    print(  # noqa: T201 - the figures
        f"{AT_ONCE} x {SIZE // MIB} MiB within {MEMORY // MIB} MiB: idle {idle / MIB:.0f}, in {most_in / MIB:.0f}, "
        f"out {watch.most / MIB:.0f}, after {group.resident() / MIB:.0f} MiB; charged with file cache "
        f"{group.peak() / MIB:.0f}; slowest in {max(one.seconds for one in said):.1f} s"
    )
    assert max(most_in, watch.most) - idle < GROWTH
    assert group.killed() == 0, "the kernel killed a process of the relay"
    ledger = Ledger()
    ledger.submitted(said)
    ledger.arrived(store.arrivals())
    site.tell(ledger)
    verdict = ledger.check()
    assert verdict.ok, verdict.report()
    assert len(store.arrivals()) == AT_ONCE
    site.balance()


async def stall(store: StoreProcess) -> None:
    """The store stops reading in the middle of all of them, for a while: what it does not take must wait on disk."""
    await asyncio.sleep(0.3)
    os.kill(store.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(1.5)
    finally:
        os.kill(store.pid, signal.SIGCONT)
