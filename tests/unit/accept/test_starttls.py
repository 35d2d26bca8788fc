"""STARTTLS on both event loops, and what may not be smuggled through it."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from support.smtp_site import Site, Wire, close_site, open_site

from router.accept.services import Endpoint
from router.accept.tls import TlsHolder, TlsUnusable
from router.settings.schema import TlsServer

Scenario = Callable[[Site], Coroutine[Any, Any, None]]
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


def play(factory: Callable[[], asyncio.AbstractEventLoop], scenario: Scenario, **options: Any) -> None:
    async def whole() -> None:
        site = await open_site(**options)
        try:
            await asyncio.wait_for(scenario(site), 90)
        finally:
            await close_site(site)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(whole())


async def secured(site: Site, trust: ssl.SSLContext) -> Wire:
    """A client that has said EHLO and finished the handshake, and nothing after it."""
    wire = await site.dial()
    assert "250-STARTTLS" in (await wire.hello()).replace("250 STARTTLS", "250-STARTTLS")
    assert (await wire.ask("STARTTLS")).startswith("220 2.0.0")
    await wire.writer.start_tls(trust, server_hostname="127.0.0.1")
    return wire


@pytest.mark.parametrize("factory", LOOPS)
def test_prc20_mail_over_tls(
    factory: Callable[[], asyncio.AbstractEventLoop], holder: TlsHolder, trust: ssl.SSLContext
) -> None:
    async def scenario(site: Site) -> None:
        wire = await secured(site, trust)
        assert (await wire.ask("MAIL FROM:<a@b.c>")).startswith("503 ")
        assert "STARTTLS" not in await wire.hello()
        assert (await wire.ask("STARTTLS")).startswith("554 5.5.1")
        await wire.to_data()
        big = b"x" * 998 + b"\r\n"
        await wire.send(big * 700 + b".\r\nQUIT\r\n")
        assert (await wire.reply()).startswith("250 ")
        assert (await wire.reply()).startswith("221 ")
        (kept,) = site.house.messages
        assert kept.content == big * 700
        assert kept.envelope.client.protocol == "ESMTPS"
        assert kept.envelope.client.tls.startswith("TLSv1.3 TLS_")
        await asyncio.wait_for(site.observer.gone.wait(), 60)

    play(factory, scenario, endpoint=Endpoint(tls=holder))


@pytest.mark.parametrize("factory", LOOPS)
def test_inv_60_commands_behind_starttls_are_never_executed(
    factory: Callable[[], asyncio.AbstractEventLoop], holder: TlsHolder, trust: ssl.SSLContext
) -> None:
    async def scenario(site: Site) -> None:
        wire = await site.dial()
        await wire.hello()
        assert (await wire.ask("STARTTLS\r\nMAIL FROM:<injected@x.y>")).startswith("554 5.5.0")
        assert await wire.rest() == b""
        wire = await site.dial()
        await wire.hello()
        await wire.ask("MAIL FROM:<before@b.c>")
        await wire.ask("STARTTLS")
        await wire.writer.start_tls(trust, server_hostname="127.0.0.1")
        await wire.hello()
        assert (await wire.ask("RCPT TO:<u@example.edu>")).startswith("503 ")

    play(factory, scenario, endpoint=Endpoint(tls=holder))


@pytest.mark.parametrize("factory", LOOPS)
def test_inv_60_plain_text_instead_of_a_handshake_closes(
    factory: Callable[[], asyncio.AbstractEventLoop], holder: TlsHolder
) -> None:
    async def scenario(site: Site) -> None:
        wire = await site.dial()
        await wire.hello()
        await wire.ask("STARTTLS")
        await wire.send("MAIL FROM:<injected@x.y>\r\n" * 20)
        assert b"250" not in await wire.rest()
        await asyncio.wait_for(site.observer.gone.wait(), 60)

    play(factory, scenario, endpoint=Endpoint(tls=holder))


@pytest.mark.parametrize("factory", LOOPS)
def test_a_client_that_leaves_in_the_handshake_leaves_nothing(
    factory: Callable[[], asyncio.AbstractEventLoop], holder: TlsHolder
) -> None:
    async def scenario(site: Site) -> None:
        wire = await site.dial()
        await wire.ask("STARTTLS")
        wire.reset()
        await asyncio.wait_for(site.observer.gone.wait(), 60)

    play(factory, scenario, endpoint=Endpoint(tls=holder))


@pytest.mark.parametrize("factory", LOOPS)
def test_a_stalled_handshake_does_not_hold_up_the_end_of_service(
    factory: Callable[[], asyncio.AbstractEventLoop], holder: TlsHolder
) -> None:
    async def scenario(site: Site) -> None:
        wire = await site.dial()
        await wire.ask("STARTTLS")
        assert await site.listeners.drain(0.05) is False
        while site.listeners.roster.sessions:
            await wire.turn()

    play(factory, scenario, endpoint=Endpoint(tls=holder))


@pytest.mark.parametrize("factory", LOOPS)
def test_inv_10_shutdown_over_tls(
    factory: Callable[[], asyncio.AbstractEventLoop], holder: TlsHolder, trust: ssl.SSLContext
) -> None:
    async def scenario(site: Site) -> None:
        wire = await secured(site, trust)
        await wire.hello()
        draining = asyncio.create_task(site.listeners.drain(60))
        assert (await wire.reply()).startswith("421 4.3.2")
        wire.close()
        assert await draining

    play(factory, scenario, endpoint=Endpoint(tls=holder))


def test_inv_61_tls_required(holder: TlsHolder, trust: ssl.SSLContext) -> None:
    async def scenario(site: Site) -> None:
        wire = await site.dial()
        for command in ("HELO x", "MAIL FROM:<a@b.c>", "VRFY x", "WIZ"):
            assert (await wire.ask(command)).startswith("530 5.7.0")
        assert (await wire.ask("NOOP")).startswith("250 ")
        wire = await secured(site, trust)
        await wire.to_data()

    play(asyncio.new_event_loop, scenario, endpoint=Endpoint(tls=holder, require_tls=True))


def test_inv_61_tls_without_a_certificate_is_down(tmp_path: Path) -> None:
    unloaded = TlsHolder(TlsServer(certificate=tmp_path / "none", key=tmp_path / "none"))

    async def scenario(site: Site) -> None:
        wire = await site.dial()
        await wire.hello()
        assert (await wire.ask("STARTTLS")).startswith("454 4.7.0")

    play(asyncio.new_event_loop, scenario, endpoint=Endpoint(tls=unloaded))


def test_inv_62_tls_1_1_is_too_old(holder: TlsHolder) -> None:
    assert holder.context is not None
    assert holder.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_inv_55_a_new_certificate_is_used_for_new_connections(authority: trustme.CA, tmp_path: Path) -> None:
    server = TlsServer(certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")
    holder = TlsHolder(server)

    def issue(name: str) -> None:
        issued = authority.issue_cert("127.0.0.1", name)
        issued.cert_chain_pems[0].write_to_path(server.certificate)
        issued.private_key_pem.write_to_path(server.key)

    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    async def names(site: Site) -> set[str]:
        wire = await secured(site, trust)
        found = wire.writer.get_extra_info("peercert")["subjectAltName"]
        return {value for _, value in found}

    async def scenario(site: Site) -> None:
        assert "one.example" in await names(site)
        issue("two.example")
        holder.load()
        assert "two.example" in await names(site)
        server.key.write_text("rubbish")
        with pytest.raises(TlsUnusable):
            holder.load()
        assert "two.example" in await names(site)

    issue("one.example")
    holder.load()
    play(asyncio.new_event_loop, scenario, endpoint=Endpoint(tls=holder))


def test_an_encrypted_key_is_an_error_and_no_question(holder: TlsHolder, tmp_path: Path) -> None:
    key = load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "key.pem").write_bytes(locked)
    former = holder.context
    with pytest.raises(TlsUnusable, match="encrypted"):
        holder.load()
    assert holder.context is former
