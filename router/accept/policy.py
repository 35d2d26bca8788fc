"""
Which hosts are trusted, and which may speak for others.

Guarantees: an IPv4 address mapped into IPv6 is the IPv4 address, on both sides of the comparison; an address that
is unknown or makes no sense is never trusted; a network that covers everything is refused at construction, so that
no slip in a configuration opens the relay (promise 8).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")
_MEMORY = 4096
"""Hosts remembered; above it all are forgotten, which costs a little time and nothing else."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A host as the policy sees it. `address` is its canonical text, '' when unknown; `client` groups limits."""

    address: str
    client: str
    trusted: bool = False
    """May address anybody through us."""
    relay: bool = False
    """May say PROXY and XCLIENT."""

    @property
    def exempt(self) -> bool:
        """Not subject to the limits for one client."""
        return self.trusted or self.relay


UNKNOWN = Peer("", "unknown")


class AccessPolicy:
    """Looks up hosts in `trusted` and `relays`. Raises ValueError for a network of prefix length 0."""

    def __init__(self, trusted: Iterable[Network] = (), relays: Iterable[Network] = ()) -> None:
        self._trusted = tuple(_fold_network(network) for network in trusted)
        self._relays = tuple(_fold_network(network) for network in relays)
        self._known: dict[str, Peer] = {}

    def peer(self, host: str) -> Peer:
        """The verdict about one host, given as text; `UNKNOWN` for anything that is no IP address."""
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _MEMORY:
                self._known.clear()
            known = self._known[host] = self._judge(host)
        return known

    def _judge(self, host: str) -> Peer:
        address = fold_address(host)
        if address is None:
            return UNKNOWN
        return Peer(
            address=str(address),
            client=_client_key(address),
            trusted=any(address in network for network in self._trusted),
            relay=any(address in network for network in self._relays),
        )


def fold_address(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address in `host`, without a zone and with a mapped IPv4 address unfolded; None if it is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _fold_network(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        network = IPv4Network((int(mapped or 0), network.prefixlen - 96))
    if network.prefixlen == 0:
        raise ValueError(f"{network} covers every host: it would make this an open relay")
    return network


def _client_key(address: IPv4Address | IPv6Address) -> str:
    """One client for the limits: an IPv4 address, or an IPv6 /64, of which a single host has plenty of addresses."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), 64), strict=False).network_address)
