"""PROXY and XCLIENT, from those who may and those who may not; and who is trusted."""

import asyncio
import struct
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.smtp_site import LOOPBACK, Site, Start, Wire

from router.accept.admission import Admission
from router.accept.origin import Origin, apply_xclient
from router.accept.policy import AccessPolicy
from router.accept.replies import Refused
from router.accept.services import Endpoint
from router.settings.schema import Limits

STORE = ip_network("192.0.2.10/32")


async def deliver(wire: Wire, site: Site) -> object:
    await wire.to_data()
    await wire.send("x\r\n.\r\n")
    assert (await wire.reply()).startswith("250 ")
    return site.house.messages[-1].envelope.client


async def relay_verdict(wire: Wire) -> str:
    await wire.hello()
    await wire.ask("MAIL FROM:<a@b.c>")
    return (await wire.ask("RCPT TO:<u@other.org>"))[:9]


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("192.0.2.10", True),
        ("::ffff:192.0.2.10", True),
        ("192.0.2.11", False),
        ("2001:db8::1", True),
        ("2001:db8::1%eth0", True),
        ("198.51.100.7", True),
        ("::ffff:198.51.100.7", True),
        ("", False),
        ("unknown", False),
    ],
)
def test_inv_70_mapped_addresses_are_their_ipv4_addresses(host: str, trusted: bool) -> None:
    policy = AccessPolicy([STORE, ip_network("2001:db8::/32"), ip_network("::ffff:198.51.100.0/120")])
    for _ in range(2):
        assert policy.peer(host).trusted is trusted


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "::ffff:0:0/96"])
def test_inv_70_a_network_of_everybody_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match="open relay"):
        AccessPolicy(trusted=[ip_network(network)])
    with pytest.raises(ValueError, match="open relay"):
        AccessPolicy(relays=[ip_network(network)])


def test_the_policy_forgets_rather_than_grows() -> None:
    policy = AccessPolicy([STORE])
    for number in range(10_000):
        policy.peer(f"10.1.{number // 256}.{number % 256}")
    assert len(policy._known) <= 4096
    assert policy.peer("192.0.2.10").trusted


def test_one_ipv6_network_is_one_client() -> None:
    policy = AccessPolicy()
    admission = Admission(Limits(connections_per_client=2))
    peers = [policy.peer(f"2001:db8::{number}") for number in range(3)]
    assert [admission.enter(peer) is None for peer in peers] == [True, True, False]
    assert admission.enter(policy.peer("2001:db8:0:1::1")) is None


def test_strangers_cannot_take_the_places_of_trusted_hosts() -> None:
    policy = AccessPolicy([STORE])
    admission = Admission(Limits(connections=20, connections_per_client=100))
    stranger, store = policy.peer("198.51.100.1"), policy.peer("192.0.2.10")
    assert [admission.enter(stranger) is None for _ in range(25)].count(True) == 20
    assert [admission.enter(store) is None for _ in range(15)].count(True) == 10
    for _ in range(20):
        admission.leave(stranger)
    for _ in range(10):
        admission.leave(store)
    assert (admission.total, admission._clients) == (0, {})


def test_inv_50_without_descriptors_strangers_are_sent_away_before_those_we_know() -> None:
    policy = AccessPolicy([STORE])
    admission = Admission(Limits(), room=lambda number, *, favoured: number < (8 if favoured else 6))
    stranger, store = policy.peer("198.51.100.1"), policy.peer("192.0.2.10")
    assert [admission.enter(stranger, number) is None for number in (5, 6)] == [True, False]
    assert [admission.enter(store, number) is None for number in (7, 8)] == [True, False]
    assert admission.total == 2


def test_inv_51_under_stress_strangers_get_less_time() -> None:
    policy = AccessPolicy([STORE])
    admission = Admission(Limits(connections=10, connections_per_client=100))
    stranger, store = policy.peer("198.51.100.1"), policy.peer("192.0.2.10")
    assert admission.command_timeout(stranger) == 300
    for _ in range(9):
        admission.enter(stranger)
    assert admission.command_timeout(stranger) == 10
    assert admission.command_timeout(store) == 300


def test_limits_are_shared_between_workers() -> None:
    admission = Admission(Limits(connections=5), workers=2)
    stranger = AccessPolicy().peer("198.51.100.1")
    assert [admission.enter(stranger) is None for _ in range(4)].count(True) == 3


async def test_xclient_is_announced_to_relays_and_speaks_for_others(start: Start) -> None:
    site = await start(relays=LOOPBACK, trusted=[STORE])
    wire = await site.dial()
    assert "XCLIENT NAME ADDR" in await wire.hello()
    answer = await wire.ask("XCLIENT ADDR=198.51.100.9 NAME=spike+2Dx.example PORT=4711 HELO=Ev+28il PROTO=SMTP")
    assert answer == "220 mx.example.edu ESMTP Sluice"
    client = await deliver(wire, site)
    assert (client.address, client.name, client.port, client.helo, client.protocol, client.trusted) == (  # type: ignore[attr-defined]
        "198.51.100.9",
        "spike-x.example",
        4711,
        "Ev?il",
        "SMTP",
        False,
    )
    assert (await wire.ask("XCLIENT ADDR=IPv6:::ffff:192.0.2.10 NAME=[UNAVAILABLE]")).startswith("220 ")
    assert (await wire.ask("MAIL FROM:<a@b.c>")).startswith("503 ")
    assert await relay_verdict(wire) == "250 2.1.5"
    assert (await wire.ask("XCLIENT ADDR=192.0.2.1")).startswith("503 5.5.1")
    await wire.ask("RSET")
    assert (await wire.ask("XCLIENT ADDR=[UNAVAILABLE]")).startswith("220 ")
    assert await relay_verdict(wire) == "554 5.7.1"


async def test_inv_70_xclient_from_anybody_else_is_refused(start: Start) -> None:
    site = await start(trusted=[STORE])
    wire = await site.dial()
    assert "XCLIENT" not in await wire.hello()
    assert (await wire.ask("XCLIENT ADDR=192.0.2.10")).startswith("550 5.7.0")
    assert await relay_verdict(wire) == "554 5.7.1"


@pytest.mark.parametrize(
    "argument", ["", "ADDR", "ADDR=x", "ADDR=1.2.3.4 PORT=99999", "PROTO=HTTP", "FOO=x", "NAME=a+zz", "ADDR=é"]
)
async def test_malformed_xclient_changes_nothing(start: Start, argument: str) -> None:
    site = await start(relays=LOOPBACK)
    wire = await site.dial()
    assert (await wire.ask(f"XCLIENT {argument}")).startswith("501 5.5.4")
    assert (await deliver(wire, site)).address == "127.0.0.1"  # type: ignore[attr-defined]


@given(st.binary(max_size=80))
def test_any_xclient_is_an_origin_or_refused(argument: bytes) -> None:
    try:
        origin = apply_xclient(b"ADDR=" + argument, Origin("192.0.2.1"))
    except Refused:
        return
    assert AccessPolicy().peer(origin.address).address == origin.address


def v2(command: int, family: int, payload: bytes) -> bytes:
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x20 | command, family, len(payload)) + payload


INET = bytes([192, 0, 2, 10, 10, 0, 0, 1]) + struct.pack("!HH", 4711, 25)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 192.0.2.10 10.0.0.1 4711 25\r\n", "192.0.2.10"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 25\r\n", "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.10 ::1 4711 25\r\n", "192.0.2.10"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (v2(1, 0x11, INET), "192.0.2.10"),
        (v2(0, 0x00, b""), "127.0.0.1"),
    ],
)
async def test_proxy_headers_name_the_client(start: Start, header: bytes, address: str) -> None:
    site = await start(relays=LOOPBACK, trusted=[STORE], endpoint=Endpoint(proxy_protocol=True))
    wire = await site.dial(greeted=False)
    await wire.send(header)
    assert (await wire.reply()).startswith("220 ")
    client = await deliver(wire, site)
    assert client.address == address  # type: ignore[attr-defined]
    assert client.trusted is (address == "192.0.2.10")  # type: ignore[attr-defined]
    assert site.observer.named("connected")[0][1].address == address


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO x\r\n",
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY TCP4 192.0.2.10 10.0.0.1 4711\r\n",
        b"PROXY " + b"x" * 9000,
        v2(1, 0x11, b"xx"),
        v2(1, 0x31, b"x" * 216),
    ],
)
async def test_a_bad_proxy_header_closes_the_connection(start: Start, header: bytes) -> None:
    site = await start(relays=LOOPBACK, endpoint=Endpoint(proxy_protocol=True))
    wire = await site.dial(greeted=False)
    await wire.send(header)
    assert await wire.rest() == b""


async def test_inv_70_proxy_from_anybody_else_is_refused(start: Start) -> None:
    site = await start(trusted=LOOPBACK, endpoint=Endpoint(proxy_protocol=True))
    wire = await site.dial(greeted=False)
    assert (await wire.reply()).startswith("550 5.7.0")


async def test_limits_count_the_client_behind_the_proxy(start: Start) -> None:
    site = await start(relays=LOOPBACK, endpoint=Endpoint(proxy_protocol=True), limits=Limits(connections_per_client=1))
    answers = []
    for host in ("198.51.100.1", "198.51.100.1", "198.51.100.2"):
        wire = await site.dial(greeted=False)
        await wire.send(f"PROXY TCP4 {host} 10.0.0.1 4711 25\r\n")
        answers.append((await wire.reply())[:9])
    assert answers == ["220 mx.ex", "421 4.7.0", "220 mx.ex"]


async def test_a_proxy_that_says_nothing_is_not_waited_for_for_ever(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.accept.session.PROXY_TIMEOUT", 0.05)
    site = await start(relays=LOOPBACK, endpoint=Endpoint(proxy_protocol=True))
    wire = await site.dial(greeted=False)
    assert (await wire.reply()).startswith("421 4.4.2")
    await asyncio.wait_for(site.observer.gone.wait(), 60)
