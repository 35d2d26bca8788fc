"""
File descriptors used up by clients that only hang on: the listener lives and says 421, mail that was taken goes out,
nothing spins, and everybody is served again when descriptors come back (inv 50).
"""

import asyncio
import contextlib
import os
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.bursts import Bursts
from support.large_mail import send_large
from support.site import Site, StoreAt

from router.ledger.load import Fate, Submission
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PEOPLE = [f"p{number}@example.edu" for number in range(4)]
FILES = 128
CROWD = 3 * FILES
TALKERS = 50
"""Their files alone would be all descriptors that clients leave."""
STORE = {"max_connections": 6}
ON_LOOPBACK = "127.0.0.1"
WAITING = 20
"""Messages that were taken before descriptors are short."""
WATCHED = 2.0
LOOKS = 15
SPARE = 20
"""Descriptors more than before that are no leak: connections kept for the next message."""
BUSY = 0.6
"""
Part of one core that a worker may use while nothing happens but that descriptors are short: one that spins uses all
of it, and looking for changes costs a slow core several times the 8 percent that it costs a fast one.
"""


@pytest.fixture
async def store() -> AsyncIterator[RecordingStore]:
    async with RecordingStore("old") as found:
        yield found


@pytest.fixture
async def site(tmp_path: Path, store: RecordingStore) -> AsyncIterator[Site]:
    users = dict.fromkeys(PEOPLE, "old")
    async with Site(tmp_path, [StoreAt("old", store.port, keys=STORE)], users=users) as found:
        yield found


class Crowd:
    """Clients that connect, and then want nothing; some begin a large message, and never end it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._inside: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.heard: Counter[str] = Counter()

    async def come(self, count: int) -> None:
        """So many more, at once."""
        await asyncio.gather(*(self._come() for _ in range(count)))

    async def _come(self) -> None:
        try:
            reader, writer = await asyncio.open_connection(ON_LOOPBACK, self._port)
            async with asyncio.timeout(60):
                line = await reader.readline()
        except (OSError, TimeoutError):
            self.heard["nothing"] += 1
            return
        self.heard[line[:9].decode().strip()] += 1
        if line.startswith(b"220"):
            self._inside.append((reader, writer))
        else:
            writer.close()

    async def begin(self, count: int) -> None:
        """So many of those inside begin a message that has to be a file here."""
        await asyncio.gather(*(_begin(*one) for one in self._inside[:count]))

    async def go(self) -> None:
        """All at once."""
        for _, writer in self._inside:
            writer.close()
        for _, writer in self._inside:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._inside.clear()


async def _begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for command in ("HELO x", "MAIL FROM:<a@outside.example>", f"RCPT TO:<{PEOPLE[0]}>", "DATA"):
        writer.write(f"{command}\r\n".encode())
        await reader.readline()
    writer.write(b"x" * 64 + b"\r\n")
    writer.write((b"y" * 62 + b"\r\n") * 8192)
    await writer.drain()


async def test_inv_50_descriptors_used_up_by_clients(site: Site, store: RecordingStore) -> None:
    bursts = Bursts(site, [store], PEOPLE)
    pid = site.worker_pids()[0]
    port = store.port
    await store.stop()
    bursts.begin()
    await asyncio.sleep(1.0)
    await bursts.until(lambda _: bursts.acknowledged > WAITING)
    await bursts.end()
    assert bursts.acknowledged > WAITING
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    idle = files(pid)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (FILES, hard))
    crowd = Crowd(site.port)
    await crowd.come(CROWD)
    await crowd.begin(TALKERS)
    print(  # noqa: T201 - the figures
        f"{CROWD} clients heard {dict(crowd.heard)}; idle {idle}, now {files(pid)} of {FILES} descriptors in use"
    )
    assert crowd.heard["220 mx.ex"] > 20
    assert set(crowd.heard) <= {"220 mx.ex", "421 4.3.2", "", "nothing"}
    assert crowd.heard["421 4.3.2"] > 0

    busy = await idle_share(pid)
    print(f"a worker without descriptors uses {busy:.0%} of a core")  # noqa: T201 - the figures
    assert busy < BUSY

    await store.start(port)
    assert await site.drained(60) == 0, "mail that was taken does not go out\n" + site.relay.tail()

    await crowd.go()
    bursts.submissions += await served_again(site)
    await bursts.judge()
    end = time.monotonic() + 60
    while (now := files(pid)) >= idle + SPARE:
        assert time.monotonic() < end, f"{now} descriptors, {idle} before"
        await asyncio.sleep(0.1)
    assert site.worker_pids() == [pid], "the worker was not to be restarted"
    assert len(site.relay.tail()) < 50_000


async def idle_share(pid: int) -> float:
    """Part of a core that is used in a while, the least of some: what is still under way at first comes to its end."""
    shares: list[float] = []
    while len(shares) < LOOKS and min(shares, default=BUSY) >= BUSY:
        before, began = cpu(pid), time.monotonic()
        await asyncio.sleep(WATCHED)
        shares.append((cpu(pid) - before) / (time.monotonic() - began))
    return min(shares)


async def served_again(site: Site) -> list[Submission]:
    """A large message, soon after the crowd has gone; every one that was tried."""
    tried: list[Submission] = []
    end = time.monotonic() + 60
    while time.monotonic() < end:
        tried.append(await send_large(site.port, f"after-{len(tried)}", PEOPLE[0], 1 << 20))
        if tried[-1].fates == (Fate.ACKNOWLEDGED,):
            return tried
        await asyncio.sleep(0.1)
    pytest.fail("nobody is served again\n" + site.relay.tail())


def files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def cpu(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
