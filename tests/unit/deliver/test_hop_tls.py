"""TLS towards next hops by policy (inv 60, 62)."""

import asyncio
import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from router.deliver.connection import Endpoint, Timeouts
from router.deliver.tls import tls_policy

NOW = dt.datetime.now(dt.UTC)


def serving(authority: trustme.CA, name: str = "localhost", **dates: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **dates).configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.mark.parametrize("mode", ["opportunistic", "require", "verify"])
async def test_tls_where_it_is_offered(
    mode: Any, authority: trustme.CA, ca_file: Path, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(context=serving(authority))
    gate = permit()
    (verdict,) = await make_sender(hop, tls=tls_policy(mode, ca_file)).send(make_parcel(), gate)
    assert verdict.reply.positive
    assert hop.commands[:3] == [b"EHLO mx.example.edu", b"STARTTLS", b"EHLO mx.example.edu"]
    assert "tls" in gate.stages


@pytest.mark.parametrize("mode", ["off", "opportunistic"])
async def test_plaintext_where_tls_is_not_offered(
    mode: Any, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop()
    (verdict,) = await make_sender(hop, tls=tls_policy(mode)).send(make_parcel(), permit())
    assert verdict.reply.positive


@pytest.mark.parametrize("mode", ["require", "verify"])
async def test_inv_62_a_stripped_starttls_defers(
    mode: Any, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop()
    (verdict,) = await make_sender(hop, tls=tls_policy(mode)).send(make_parcel(), permit())
    assert (verdict.reply.code, verdict.reply.enhanced, verdict.unreachable) == (451, "4.7.4", True)
    assert not any(c.startswith(b"MAIL") for c in hop.commands)


@pytest.mark.parametrize("fault", ["expired", "self-signed", "wrong name"])
async def test_inv_62_verify_defers_and_never_speaks_in_the_clear(
    fault: str, authority: trustme.CA, ca_file: Path, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    context = {
        "expired": lambda: serving(authority, not_before=NOW - dt.timedelta(9), not_after=NOW - dt.timedelta(2)),
        "self-signed": lambda: serving(trustme.CA()),
        "wrong name": lambda: serving(authority, "other.example"),
    }[fault]()
    hop = await make_hop(context=context)
    (verdict,) = await make_sender(hop, tls=tls_policy("verify", ca_file)).send(make_parcel(), permit())
    assert (verdict.reply.code, verdict.reply.enhanced, verdict.reply.said_by_hop) == (451, "4.7.5", False)
    assert "certificate not trusted" in verdict.reply.text
    assert not any(c.startswith(b"MAIL") for c in hop.commands)
    assert hop.connections == 1


async def test_require_takes_any_certificate(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop(context=serving(trustme.CA(), "other.example"))
    (verdict,) = await make_sender(hop, tls=tls_policy("require")).send(make_parcel(), permit())
    assert verdict.reply.positive


@pytest.mark.parametrize("starttls", ["220 go\r\n220 again", "CLOSE", "RST", "HANG", "220 go\r\n\x15\x03\x01"])
@pytest.mark.parametrize("mode", ["opportunistic", "require"])
@pytest.mark.slow
async def test_a_failing_handshake(
    starttls: str, mode: Any, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any, authority: trustme.CA
) -> None:
    """Opportunistic goes on in the clear on a fresh connection and says so; require defers."""
    alarms: list[tuple[str, str, str]] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate no handshake succeeds
    hop = await make_hop(context=context, starttls=starttls)
    timeouts = Timeouts(starttls=1.0 if starttls == "HANG" else 60.0)
    sender = make_sender(hop, tls=tls_policy(mode), timeouts=timeouts, alarm=lambda *words: alarms.append(words))
    (verdict,) = await sender.send(make_parcel(), permit())
    if mode == "require":
        assert (verdict.reply.enhanced, verdict.unreachable) == ("4.7.5", True)
        assert hop.messages == []
        return
    assert verdict.reply.positive
    assert hop.connections == 2
    assert [kind for kind, _, _ in alarms] == ["tls-fallback"]


async def test_opportunistic_goes_on_in_the_clear_when_starttls_is_declined(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any, authority: trustme.CA
) -> None:
    hop = await make_hop(context=serving(authority), starttls="454 4.7.0 not now")
    (verdict,) = await make_sender(hop, tls=tls_policy("opportunistic")).send(make_parcel(), permit())
    assert verdict.reply.positive
    assert hop.connections == 1
    (refused,) = await make_sender(hop, tls=tls_policy("require")).send(make_parcel(), permit())
    assert (refused.reply.code, refused.reply.enhanced) == (451, "4.7.5")


@pytest.mark.slow
async def test_inv_60_a_reply_injected_behind_starttls_is_discarded(
    authority: trustme.CA, ca_file: Path, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    """The injected reply would make the hop's refusal look like an acceptance."""
    context = serving(authority)

    async def hop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go\r\n250-injected\r\n250 PIPELINING\r\n250 par")
        await writer.start_tls(context)
        await reader.readline()
        writer.write(b"250 x\r\n")
        await reader.readline()
        writer.write(b"550 5.7.1 refused inside\r\n")
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(hop, "127.0.0.1", 0)
    endpoint = Endpoint("localhost", "127.0.0.1", server.sockets[0].getsockname()[1])
    sender = make_sender(endpoint, tls=tls_policy("verify", ca_file), timeouts=Timeouts(rset=1.0, quit=1.0))
    (verdict,) = await sender.send(make_parcel(), permit())
    server.close()
    assert (verdict.reply.code, verdict.reply.text) == (550, "refused inside")


def test_tls_1_2_or_newer() -> None:
    policy = tls_policy("opportunistic")
    assert policy.context is not None
    assert policy.context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_ca_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        tls_policy("verify", tmp_path / "none.pem")
