"""The end of service, shortage of descriptors, and clients that do not read."""

import asyncio
import itertools
import os
import resource
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from aiosmtpd.smtp import SMTP
from support.smtp_site import House, Site, Start, Wire, bind, close_site, open_site

from router.accept import connection
from router.accept.connection import MAX_UNSENT
from router.accept.listener import BoundListener, ListenerSet
from router.accept.services import Endpoint
from router.accept.session import _COMMANDS, SmtpSession
from router.settings.schema import Limits


async def test_inv_10_idle_clients_hear_421_and_nobody_else_gets_in(start: Start) -> None:
    site = await start()
    greeted, in_transaction = await site.dial(), await site.dial()
    await in_transaction.hello()
    await in_transaction.ask("MAIL FROM:<a@b.c>")
    assert await site.listeners.drain(60) is True
    for wire in (greeted, in_transaction):
        assert (await wire.reply()).startswith("421 4.3.2")
        assert await wire.rest() == b""
    with pytest.raises(ConnectionError):
        await site.dial()


async def test_inv_10_a_message_that_is_arriving_is_finished(start: Start) -> None:
    site = await start()
    wire = await site.dial()
    await wire.to_data()
    await wire.send("first half, ")
    while not site.house.bodies[0].size:
        await wire.turn()
    draining = asyncio.create_task(site.listeners.drain(60))
    for _ in range(5):
        await wire.turn()
    await wire.send("second half\r\n.\r\n")
    assert (await wire.reply()).startswith("250 2.0.0")
    assert (await wire.reply()).startswith("421 4.3.2")
    assert await draining is True
    assert site.house.messages[0].content == b"first half, second half\r\n"


async def test_inv_10_a_commit_is_waited_for_past_the_grace_and_answered(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await start(house=House(gate=asyncio.Event()))
    wire = await site.dial()
    await wire.to_data()
    await wire.send("x\r\n.\r\n")
    await asyncio.wait_for(site.house.committing.wait(), 60)
    cut = asyncio.Event()
    (session,) = site.listeners.roster.sessions
    assert isinstance(session, SmtpSession)

    def cut_and_tell() -> None:
        SmtpSession.cut(session)
        cut.set()

    monkeypatch.setattr(session, "cut", cut_and_tell)
    draining = asyncio.create_task(site.listeners.drain(0.02))
    await asyncio.wait_for(cut.wait(), 60)
    assert site.house.gate is not None
    site.house.gate.set()
    assert (await wire.reply()).startswith("250 2.0.0")
    assert (await wire.reply()).startswith("421 4.3.2")
    assert await draining is False


async def test_inv_10_a_message_that_does_not_end_is_cut_after_the_grace(start: Start) -> None:
    site = await start()
    wire = await site.dial()
    await wire.to_data()
    await wire.send("half")
    assert await site.listeners.drain(0.05) is False
    assert (await wire.reply()).startswith("421 4.3.2")
    assert site.house.bodies[0].discarded
    while site.listeners.roster.sessions:
        await wire.turn()
    assert await site.listeners.drain(0) is True


async def deaf(site: Site) -> Wire:
    """A client that floods the server with commands and reads no reply, until the server cannot write any more."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, site.address)
    wire = Wire(*await asyncio.open_connection(sock=sock))
    site.wires.append(wire)
    await wire.reply()
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads too
    (session,) = site.listeners.roster.sessions
    assert isinstance(session, SmtpSession)
    wire.writer.write(b"HELP\r\n" * 500_000)
    while session._choked is None:
        await wire.turn()
    return wire


NO_LIMITS = Limits(errors=10**9, junk_commands=10**9)


async def test_inv_51_a_client_that_reads_nothing_is_aborted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT", 0.05)
    site = await start(limits=NO_LIMITS)
    wire = await deaf(site)
    await asyncio.wait_for(site.observer.gone.wait(), 60)
    wire.reset()


@pytest.mark.slow
async def test_a_client_that_reads_nothing_and_goes_leaves_nothing(start: Start) -> None:
    site = await start(limits=NO_LIMITS)
    wire = await deaf(site)
    wire.reset()
    await asyncio.wait_for(site.observer.gone.wait(), 60)


async def test_prc22_a_flood_of_commands_lets_others_have_their_turn(start: Start) -> None:
    """Counted in turns of the event loop: no turn answers more than some fifty commands."""
    site = await start(limits=NO_LIMITS)
    flood = await site.dial()
    seen = [0]
    replies = asyncio.ensure_future(flood.replies(10_000))  # or the relay would wait for the client to read
    await flood.send("VRFY\r\n" * 10_000)  # each is a refusal, and each refusal is told to the observer
    while seen[-1] < 10_000:
        await flood.turn()
        seen.append(len(site.observer.named("rejected")))
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 2 * MAX_UNSENT <= 100
    await replies


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.slow
def test_inv_50_the_listener_survives_a_shortage_of_descriptors(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def whole() -> None:
        loop = asyncio.get_running_loop()
        reports: list[Any] = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        site = await open_site()
        clients = [socket.socket() for _ in range(3)]
        await site.dial()  # a first connection may import modules, and that needs descriptors too
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            for client in clients:
                client.connect(site.address)
            await asyncio.sleep(0.05)  # accept runs into EMFILE
            assert len(site.listeners.roster.sessions) - 1 < len(clients)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in clients:
                client.close()
        async with asyncio.timeout(60):
            wire = await site.dial()
        assert (await wire.ask("NOOP")).startswith("250 ")
        await close_site(site)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(whole())


async def test_a_socket_that_cannot_be_listened_on_is_an_error_and_leaves_nothing(site: Site) -> None:
    listeners = ListenerSet(site.services)
    good, bad = bind(), bind()
    bad.close()
    with pytest.raises((OSError, ValueError)):
        await listeners.open([BoundListener(good, Endpoint()), BoundListener(bad, Endpoint())])
    assert good.fileno() == -1


async def test_inv_55_a_reload_is_for_new_connections(start: Start) -> None:
    site = await start()
    before = await site.dial()
    site.listeners.reconfigure(replace(site.services, message_size_limit=5))
    after = await site.dial()
    assert "SIZE 1000000" in await before.hello()
    assert "SIZE 5\n" in await after.hello()


def test_rx6_no_command_of_the_base_class_can_be_reached() -> None:
    """The base class finds commands and hooks by name; ours is a table, so a misspelt name is no command at all."""
    assert not any(getattr(SMTP, name, None) in _COMMANDS.values() for name in dir(SMTP))
    for name in ("_handle_client", "connection_made", "connection_lost", "eof_received", "data_received"):
        assert getattr(SmtpSession, name) is not getattr(SMTP, name)


async def test_inv_10_a_session_whose_lookup_was_cancelled_says_421(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks is cancelled when a worker ends: the client hears that it should come again."""
    site = await start()
    wire = await site.dial()

    async def cancelled(*_: object) -> object:
        raise asyncio.CancelledError

    monkeypatch.setattr(site.house, "recipient", cancelled)
    await wire.hello()
    await wire.ask("MAIL FROM:<sender@example.com>")
    assert (await wire.ask("RCPT TO:<user@example.edu>")).startswith("421 4.3.2")
    await asyncio.wait_for(site.observer.gone.wait(), 60)
    assert site.observer.named("disconnected") == [("disconnected", "cancelled")]
