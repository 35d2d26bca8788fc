"""The factory: a sender of each kind, end to end to a scripted hop."""

import asyncio
from typing import Any

import pytest
import uvloop

from router.deliver.connection import ConnectFailed, Connector, Endpoint
from router.deliver.extensions import Extensions, announced_name, parse_extensions
from router.deliver.names import Dns, SystemNames
from router.deliver.site import Senders
from router.deliver.tls import tls_policy
from router.settings.schema import HostPort, Outbound, Store


def quiet(kind: str, key: str, text: str) -> None:
    raise AssertionError((kind, key, text))


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
async def test_a_store(protocol: Any, make_hop: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop(lmtp=protocol == "lmtp")
    senders = Senders("mx.example.edu", Outbound(), alarm=quiet, dns=Dns(("127.0.0.1",)), share=4)
    store = Store(role="old", hosts=(HostPort(host="127.0.0.1", port=hop.port),), protocol=protocol)
    sender = senders.store(store)
    verdicts = await sender.send(make_parcel("a@b.c", "b@b.c"), permit())
    assert [v.reply.code for v in verdicts] == [250, 250]
    await sender.close()
    senders.close()


async def test_the_smarthost_and_an_outside_domain(make_hop: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop()
    smarthost = HostPort(host="127.0.0.1", port=hop.port)
    senders = Senders(
        "mx.example.edu",
        Outbound(smarthost=smarthost),
        alarm=quiet,
        names=SystemNames(),
        dns=Dns(("127.0.0.1",)),
        mx_port=hop.port,
        allow_private_mx=True,
    )
    for lane in ("smarthost", "mx:[127.0.0.1]"):
        sender = senders.outbound(lane)
        (verdict,) = await sender.send(make_parcel(), permit())
        assert verdict.reply.positive
        await sender.close()
    with pytest.raises(ValueError, match="no outbound lane"):
        senders.outbound("cliff")
    senders.close()


def test_extensions() -> None:
    text = b"host hello\nPIPELINING\nsize 1000\n8bitmime\nDSN\nSMTPUTF8\nSTARTTLS\nX-ODD \xff"
    assert parse_extensions(text) == Extensions(
        pipelining=True, eight_bit=True, smtputf8=True, dsn=True, starttls=True, size=True, size_limit=1000
    )
    assert parse_extensions(b"SIZE 5\nSIZE lots") == Extensions(size=True)
    assert parse_extensions(b"PIPELINING") == Extensions()
    assert parse_extensions(b"x\nSIZE " + b"9" * 5000).size_limit == 0


def test_announced_name() -> None:
    assert announced_name(b"MX.Example.edu. ESMTP") == "mx.example.edu"
    assert announced_name(b"") == ""


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_refused_connection_is_told_in_the_words_of_the_system(factory: Any, no_host: Endpoint) -> None:
    async def dial() -> str:
        with pytest.raises(ConnectFailed) as failed:
            await Connector("mx.example.edu", tls_policy("off")).open(no_host, lambda _stage: None)
        return failed.value.reply.text

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(dial()) == f"connect to {no_host}: Connection refused"
