"""Where mail goes: host lists, MX records, and what a name server may say (inv 41, 42; TX14-16)."""

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from router.deliver.names import Dns, NameFault, SystemNames, literal
from router.deliver.resolve import MxHosts, Ourselves, ResolveFailed, StaticHosts, public
from router.settings.schema import HostPort

OURS = Ourselves(frozenset({"mx.example.edu"}), frozenset({"198.51.100.9"}))
OPEN = "8.8.{}.{}"


class Zone(asyncio.DatagramProtocol):
    """A name server with a table: (name, type) to data, a response code, or None for silence."""

    def __init__(self, table: dict[tuple[str, str], Any]) -> None:
        self.table = table
        self.names = {name for name, _ in table}
        self.asked: list[tuple[str, str]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        known = self.table.get((name, kind), ())
        if known is None:
            return
        if isinstance(known, dns.rcode.Rcode):
            reply.set_rcode(known)
        elif known:
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *known))
        elif name not in self.names:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(reply.to_wire(), addr)


@pytest.fixture
async def zone() -> AsyncIterator[Callable[..., Any]]:
    transports: list[asyncio.DatagramTransport] = []

    async def serve(table: dict[tuple[str, str], Any], deadline: float = 60.0) -> tuple[Zone, Dns]:
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Zone(table), local_addr=("127.0.0.1", 0)
        )
        transports.append(transport)
        port = transport.get_extra_info("sockname")[1]
        return protocol, Dns(("127.0.0.1",), port=port, deadline=deadline)

    yield serve
    for transport in transports:
        transport.close()


class Alarms(list[tuple[str, str, str]]):
    def __call__(self, *words: str) -> None:
        self.append((words[0], words[1], words[2]))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self]


async def hosts_of(domain: str, names: Dns, alarms: Alarms | None = None, **options: Any) -> list[tuple[str, str]]:
    source = MxHosts(domain, names, OURS, Alarms() if alarms is None else alarms, **options)
    return [(one.host, one.address) for one in await source.endpoints()]


async def refusal(domain: str, names: Dns, alarms: Alarms | None = None) -> tuple[int, str]:
    with pytest.raises(ResolveFailed) as failed:
        await hosts_of(domain, names, alarms)
    assert not failed.value.reply.said_by_hop
    return failed.value.reply.code, failed.value.reply.enhanced


async def test_by_preference_then_a_and_aaaa(zone: Any) -> None:
    _, names = await zone(
        {
            ("x.org", "MX"): ["20 second.x.org.", "10 first.x.org."],
            ("first.x.org", "A"): ["8.8.0.1"],
            ("first.x.org", "AAAA"): ["2001:4860::1"],
            ("second.x.org", "A"): ["8.8.0.2"],
        }
    )
    assert await hosts_of("x.org", names) == [
        ("first.x.org", "8.8.0.1"),
        ("first.x.org", "2001:4860::1"),
        ("second.x.org", "8.8.0.2"),
    ]


async def test_equal_preferences_take_turns(zone: Any) -> None:
    table: dict[tuple[str, str], Any] = {(f"m{n}.x.org", "A"): [OPEN.format(0, n)] for n in range(1, 6)}
    table["x.org", "MX"] = [f"10 m{n}.x.org." for n in range(1, 6)]
    _, names = await zone(table)
    chance = random.Random(7)
    orders = {tuple(await hosts_of("x.org", names, shuffle=chance.shuffle)) for _ in range(12)}
    assert len(orders) > 3
    assert all(len(order) == 5 for order in orders)


async def test_implicit_mx(zone: Any) -> None:
    _, names = await zone({("x.org", "A"): ["8.8.0.1"]})
    assert await hosts_of("x.org", names) == [("x.org", "8.8.0.1")]


async def test_address_literal(zone: Any) -> None:
    _, names = await zone({})
    assert await hosts_of("[8.8.0.1]", names) == [("[8.8.0.1]", "8.8.0.1")]
    assert await hosts_of("[ipv6:2001:4860::1]", names) == [("[ipv6:2001:4860::1]", "2001:4860::1")]
    assert await refusal("[127.0.0.1]", names) == (451, "4.4.6")


async def test_inv_41_null_mx_is_permanent(zone: Any) -> None:
    _, names = await zone({("x.org", "MX"): ["0 ."], ("x.org", "A"): ["8.8.0.1"]})
    assert await refusal("x.org", names) == (556, "5.1.10")


async def test_inv_41_no_such_domain_is_permanent(zone: Any) -> None:
    _, names = await zone({})
    assert await refusal("x.org", names) == (550, "5.1.2")


@pytest.mark.parametrize("trouble", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, None])
async def test_inv_41_doubt_is_temporary(trouble: Any, zone: Any) -> None:
    _, names = await zone({("x.org", "MX"): trouble, ("x.org", "A"): ["8.8.0.1"]}, 0.5 if trouble is None else 60.0)
    assert await refusal("x.org", names) == (451, "4.4.3")


async def test_doubt_about_the_exchangers_address_is_temporary(zone: Any) -> None:
    _, names = await zone(
        {
            ("x.org", "MX"): ["10 m.x.org."],
            ("m.x.org", "A"): dns.rcode.SERVFAIL,
            ("m.x.org", "AAAA"): dns.rcode.SERVFAIL,
        }
    )
    assert await refusal("x.org", names) == (451, "4.4.3")
    _, names = await zone({("x.org", "MX"): ["10 gone.x.org."]})
    assert await refusal("x.org", names) == (451, "4.4.4")


async def test_one_exchanger_that_cannot_be_found_is_passed_over(zone: Any) -> None:
    _, names = await zone({("x.org", "MX"): ["10 gone.x.org.", "20 m.x.org."], ("m.x.org", "A"): ["8.8.0.1"]})
    assert await hosts_of("x.org", names) == [("m.x.org", "8.8.0.1")]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0", "224.0.0.1"]
)
async def test_inv_42_an_mx_in_private_space_is_never_used(address: str, zone: Any) -> None:
    _, names = await zone({("x.org", "MX"): ["10 m.x.org."], ("m.x.org", "A"): [address]})
    alarms = Alarms()
    assert await refusal("x.org", names, alarms) == (451, "4.4.6")
    assert alarms.kinds == ["next-hop-is-us"]
    assert await hosts_of("x.org", names, allow_private=True) == [("m.x.org", address)]


@pytest.mark.parametrize("address", ["::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::", "ff02::1"])
def test_inv_42_private_ipv6(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize(("host", "address"), [("MX.example.edu", "8.8.0.1"), ("m.x.org", "198.51.100.9")])
async def test_inv_42_an_mx_that_leads_to_us(host: str, address: str, zone: Any) -> None:
    _, names = await zone({("x.org", "MX"): [f"10 {host}."], (host, "A"): [address]})
    alarms = Alarms()
    assert await refusal("x.org", names, alarms) == (451, "4.4.6")
    assert alarms.kinds == ["next-hop-is-us"]


async def test_only_exchangers_better_than_ourselves_are_used(zone: Any) -> None:
    table: dict[tuple[str, str], Any] = {(f"m{n}.x.org", "A"): [OPEN.format(0, n)] for n in (1, 2, 3)}
    table["x.org", "MX"] = ["30 m3.x.org.", "20 mx.example.edu.", "20 m2.x.org.", "10 m1.x.org."]
    table["mx.example.edu", "A"] = ["198.51.100.9"]
    _, names = await zone(table)
    for _ in range(5):
        assert await hosts_of("x.org", names) == [("m1.x.org", "8.8.0.1")]


async def test_inv_41_at_most_fifty_addresses(zone: Any) -> None:
    _, names = await zone(
        {
            ("x.org", "MX"): ["10 a.x.org.", "20 b.x.org."],
            ("a.x.org", "A"): [OPEN.format(1, n) for n in range(1, 21)],
            ("b.x.org", "A"): [OPEN.format(2, n) for n in range(1, 26)],
            ("a.x.org", "AAAA"): [f"2001:4860::{n:x}" for n in range(1, 11)],
        }
    )
    assert len(await hosts_of("x.org", names)) == 50


async def test_answers_are_remembered(zone: Any) -> None:
    server, names = await zone({("x.org", "MX"): ["10 m.x.org."], ("m.x.org", "A"): ["8.8.0.1"]})
    for _ in range(3):
        await hosts_of("x.org", names)
    for one in (("x.org", "MX"), ("m.x.org", "A")):
        assert server.asked.count(one) in {1, 2}, "in a pause of the machine a question is sent once more"


async def test_tx15_a_name_server_of_our_own_and_nobody_else(zone: Any) -> None:
    server, names = await zone({("localhost", "A"): ["8.8.0.1"]})
    assert await names.addresses("localhost") == ("8.8.0.1",)
    assert ("localhost", "A") in server.asked


@pytest.mark.parametrize("name", ["a" * 64 + ".org", "a..b", ".".join(["a" * 60] * 6)])
async def test_a_name_that_cannot_be_asked_for(name: str, zone: Any) -> None:
    _, names = await zone({})
    with pytest.raises(NameFault) as fault:
        await names.exchangers(name)
    assert not fault.value.absent


async def test_hosts_of_the_configuration_in_their_order() -> None:
    names = SystemNames()
    listed = (HostPort(host="127.0.0.2", port=25), HostPort(host="::1", port=24), HostPort(host="127.0.0.1", port=26))
    source = StaticHosts(listed, names, Alarms())
    assert [str(one) for one in await source.endpoints()] == [
        "127.0.0.2[127.0.0.2]:25",
        "::1[::1]:24",
        "127.0.0.1[127.0.0.1]:26",
    ]
    turning = StaticHosts(listed, names, Alarms(), rotate=True)
    assert [(await turning.endpoints())[0].port for _ in range(4)] == [24, 26, 25, 24]
    names.close()


async def test_inv_41_a_configured_host_that_does_not_exist_is_temporary_with_an_alarm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", absent)
    names, alarms = SystemNames(), Alarms()
    source = StaticHosts((HostPort(host="gone.example.edu", port=25),), names, alarms)
    with pytest.raises(ResolveFailed) as failed:
        await source.endpoints()
    assert (failed.value.reply.code, failed.value.reply.enhanced) == (451, "4.4.3")
    assert alarms.kinds == ["host-not-found"]
    mixed = StaticHosts(
        (HostPort(host="gone.example.edu", port=25), HostPort(host="127.0.0.1", port=25)), names, alarms
    )
    assert [one.address for one in await mixed.endpoints()] == ["127.0.0.1"]
    names.close()


async def test_a_known_address_outlives_an_outage_of_the_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [[(0, 0, 0, "", ("192.0.2.1", 0))], socket.gaierror(socket.EAI_AGAIN, "try again")]

    def lookup(*_: Any, **__: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    names = SystemNames(fresh=0.0)
    assert await names.addresses("store.example.edu") == ("192.0.2.1",)
    assert await names.addresses("store.example.edu") == ("192.0.2.1",)
    assert answers == []
    names.close()


async def test_inv_42_a_slow_resolver_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: stuck.wait(60) and [])
    names = SystemNames(deadline=0.05)
    with pytest.raises(NameFault, match="timed out"):
        await asyncio.wait_for(names.addresses("slow.example.edu"), 30)
    stuck.set()
    names.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [("192.0.2.1", "192.0.2.1"), ("[192.0.2.1]", "192.0.2.1"), ("[IPv6:::1]", "::1"), ("::1", "::1"), ("a.b", None)],
)
def test_literals(text: str, address: str | None) -> None:
    assert literal(text) == address
