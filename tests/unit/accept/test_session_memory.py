"""What a session holds while its message is being written, and what is left of it when it has ended."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
from support.smtp_site import FakeBody, Site, Wire

from router.accept.session import SmtpSession


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage collector: what goes has to go by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@dataclass
class Disk:
    """Bodies are written to it from their second block on, as soon as it goes on."""

    waited_for: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
async def disk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Disk]:
    made, write = Disk(), FakeBody.write

    async def slow(body: FakeBody, block: bytes) -> None:
        if body.size:
            made.waited_for.set()
            await made.goes_on.wait()
        await write(body, block)

    monkeypatch.setattr(FakeBody, "write", slow)
    yield made
    made.goes_on.set()
    await asyncio.sleep(0)


def only_session(site: Site) -> SmtpSession:
    [session] = site.listeners.roster.sessions
    assert isinstance(session, SmtpSession)
    return session


async def until_gone(session: weakref.ref[SmtpSession]) -> bool:
    for _ in range(3000):
        if session() is None:
            return True
        await asyncio.sleep(0.01)
    return False


async def in_text(site: Site) -> Wire:
    """A client in the middle of a message, and the relay has taken some of it."""
    wire = await site.dial()
    await wire.to_data()
    await wire.send(b"x" * 200_000)
    while not site.house.bodies[-1].size:
        await wire.turn()
    return wire


@pytest.mark.parametrize("within_text", [True, False])
@pytest.mark.parametrize("how", ["reset", "close", "cut"])
async def test_inv_48_a_session_that_ends_leaves_nothing_to_the_collector(
    site: Site, uncollected: None, how: str, within_text: bool
) -> None:
    """Its blocks would stay with it: collections are rare, and a hundred clients can hang up ten times in between."""
    wire = await in_text(site) if within_text else await site.dial()
    session = weakref.ref(only_session(site))
    match how:
        case "reset":
            wire.reset()
        case "close":
            wire.close()
        case _:
            site.listeners.roster.sessions.copy().pop().cut()
            await wire.rest()
    assert await until_gone(session)


async def stuck(site: Site, disk: Disk) -> Wire:
    """A client whose message waits for the disk, and nothing of which is in the inbox."""
    wire = await site.dial()
    await wire.to_data()
    await wire.send(b"first")
    while not site.house.bodies[-1].size:
        await wire.turn()
    await wire.send(b"second")
    await asyncio.wait_for(disk.waited_for.wait(), 60)
    return wire


async def test_inv_48_while_a_block_is_written_no_more_is_read_and_then_all_of_it(site: Site, disk: Disk) -> None:
    wire = await stuck(site, disk)
    await wire.send(b"third\r\n.\r\n")
    await asyncio.sleep(0.1)
    assert not only_session(site)._inbox.pending
    disk.goes_on.set()
    assert (await wire.reply()).startswith("250 2.0.0")
    assert site.house.messages[0].content == b"firstsecondthird\r\n"


async def test_a_client_that_goes_while_a_block_is_written_is_missed_after_that(site: Site, disk: Disk) -> None:
    """Nobody reads from it, so nobody sees it go."""
    wire = await stuck(site, disk)
    session = weakref.ref(only_session(site))
    wire.reset()
    disk.goes_on.set()
    assert await until_gone(session)
    assert site.house.bodies[-1].discarded
