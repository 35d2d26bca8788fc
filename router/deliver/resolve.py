"""
Where a lane's mail goes: host lists of the configuration in their order, or MX records (RFC 5321 5.1).

Guarantees: a host of the configuration that cannot be found is a configuration error and never bounces mail. For
mail that leaves the site only two answers are final: the domain does not exist (5.1.2), or it declares that it takes
no mail (null MX, RFC 7505, 5.1.10). An MX that leads to ourselves, to loopback or to private space is never
connected to: a loop or an attack, temporary, with an alarm.

On failure `ResolveFailed` with the reply.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from router.deliver.connection import Alarm, Endpoint
from router.deliver.names import MAX_ADDRESSES, Dns, Exchanger, NameFault, SystemNames, literal
from router.deliver.replies import own_reply
from router.model.reply import HopReply
from router.settings.schema import HostPort


class ResolveFailed(Exception):
    """There is nowhere to connect to; `reply` says why and for how long."""

    def __init__(self, reply: HopReply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class HostSource(Protocol):
    """The addresses to try, best first; asked whenever a new session is needed."""

    async def endpoints(self) -> Sequence[Endpoint]:
        """Never empty. Raises `ResolveFailed`."""


@dataclass(frozen=True, slots=True)
class Ourselves:
    """Our host names (lower case) and addresses, by which an MX that leads back to us is known."""

    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()


class StaticHosts:
    """
    The hosts of a store or a smarthost, in their order (`rotate`: beginning one further each time).

    One that cannot be resolved is left out with an alarm; only when none is left, `ResolveFailed`.
    """

    def __init__(self, hosts: Sequence[HostPort], names: SystemNames, alarm: Alarm, *, rotate: bool = False) -> None:
        self._hosts = tuple(hosts)
        self._names = names
        self._alarm = alarm
        self._rotate = rotate
        self._turn = 0

    async def endpoints(self) -> Sequence[Endpoint]:
        found: list[Endpoint] = []
        why = "no host is configured"
        for host in self._in_order():
            try:
                addresses = await self._names.addresses(host.host)
            except NameFault as fault:
                why = str(fault)
                if fault.absent:
                    self._alarm("host-not-found", host.host, why)
            else:
                found += [Endpoint(host.host, address, host.port) for address in addresses]
        if not found:
            raise ResolveFailed(own_reply("4.4.3", why))
        return found[:MAX_ADDRESSES]

    def _in_order(self) -> tuple[HostPort, ...]:
        if not self._rotate:
            return self._hosts
        self._turn = (self._turn + 1) % len(self._hosts)
        return self._hosts[self._turn :] + self._hosts[: self._turn]


class MxHosts:
    """
    The exchangers of one outside domain. `allow_private` is for tests and closed networks. `shuffle` mixes a list in
    place (equal preferences share the load).
    """

    def __init__(
        self,
        domain: str,
        dns: Dns,
        ours: Ourselves,
        alarm: Alarm,
        *,
        port: int = 25,
        allow_private: bool = False,
        shuffle: Callable[[list[Exchanger]], None] = random.shuffle,
    ) -> None:
        self._domain = domain
        self._dns = dns
        self._ours = ours
        self._alarm = alarm
        self._port = port
        self._allow_private = allow_private
        self._shuffle = shuffle

    async def endpoints(self) -> Sequence[Endpoint]:
        exchangers = await self._exchangers()
        found: list[Endpoint] = []
        faults: list[NameFault] = []
        avoided = ""
        for exchanger in exchangers:
            if len(found) >= MAX_ADDRESSES:
                break
            try:
                addresses = await self._dns.addresses(exchanger.host)
            except NameFault as fault:
                faults.append(fault)
                continue
            if self._is_us(exchanger.host, addresses):
                # Whatever is not better than ourselves leads back to us in the end (RFC 5321 5.1).
                avoided = f"{exchanger.host} is this host"
                break
            usable = [one for one in addresses if self._allow_private or public(one)]
            if len(usable) < len(addresses):
                avoided = f"{exchanger.host} has an address in loopback or private space"
            found += [Endpoint(exchanger.host, address, self._port) for address in usable]
        if not found:
            raise self._nowhere(avoided, faults)
        return found[:MAX_ADDRESSES]

    async def _exchangers(self) -> Sequence[Exchanger]:
        if literal(self._domain) is not None:
            return (Exchanger(0, self._domain),)
        try:
            records = await self._dns.exchangers(self._domain)
        except NameFault as fault:
            if fault.absent:
                reply = own_reply("5.1.2", f"domain {self._domain} does not exist", code=550)
                raise ResolveFailed(reply) from fault
            raise ResolveFailed(own_reply("4.4.3", str(fault))) from fault
        if records is None:
            return (Exchanger(0, self._domain),)
        hosts = [one for one in records if one.host != "."]
        if not hosts:
            raise ResolveFailed(own_reply("5.1.10", f"domain {self._domain} takes no mail (null MX)", code=556))
        self._shuffle(hosts)
        return self._before_us(sorted(hosts, key=lambda one: one.preference))

    def _before_us(self, hosts: list[Exchanger]) -> list[Exchanger]:
        """Within one preference, ourselves first, so that equals of ours are not tried either."""
        return sorted(hosts, key=lambda one: (one.preference, one.host.lower() not in self._ours.names))

    def _is_us(self, host: str, addresses: Sequence[str]) -> bool:
        return host.lower() in self._ours.names or any(address in self._ours.addresses for address in addresses)

    def _nowhere(self, avoided: str, faults: list[NameFault]) -> ResolveFailed:
        if avoided:
            text = f"mail for {self._domain} would not leave: {avoided}"
            self._alarm("next-hop-is-us", self._domain, text)
            return ResolveFailed(own_reply("4.4.6", text))
        if faults and all(fault.absent for fault in faults):
            # The domain exists, its exchangers do not: somebody's mistake, which may be mended within the lifetime.
            return ResolveFailed(own_reply("4.4.4", f"no mail host of {self._domain} has an address"))
        return ResolveFailed(own_reply("4.4.3", str(faults[0]) if faults else f"no mail host for {self._domain}"))


def public(address: str) -> bool:
    """Whether the address lies on the public internet (IPv4 inside IPv6 is judged as IPv4)."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast
