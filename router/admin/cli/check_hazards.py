"""
What a configuration without errors may still do to its owner: asked by every `sluice check`, without the network.

Guarantees: warnings only, never an error; nothing is changed. What the control database would have to tell is left
out when it cannot be read: before the first start there is none, and `--live` speaks of its faults.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from router.admin.cli.check_finding import Finding, warning
from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed
from router.admin.cli.user_selection import postmaster_mailbox
from router.errors import SluiceError
from router.settings.schema import Network, Settings

_AREA = "configuration"
_MAPPED = IPv6Network("::ffff:0:0/96")


def check_hazards(context: Context) -> list[Finding]:
    """All of them. Never raises for a database that is missing, shut or damaged."""
    return [*check_gateways(context.settings()), *check_postmaster(context)]


def check_gateways(settings: Settings) -> list[Finding]:
    """A gateway's clients are strangers, and without XCLIENT or PROXY only the gateway's own address is seen."""
    text = "is in `relays` and in `trusted_networks`: a gateway there relays strangers' mail as trusted"
    remedy = "take it out of one of them, or see that the gateway sends XCLIENT or PROXY with each connection"
    hosts = dict.fromkeys(str(one) for one in _in_both(settings))
    return [warning(_AREA, one, f"{text} unless it uses XCLIENT or PROXY", remedy) for one in hosts]


def check_postmaster(context: Context) -> list[Finding]:
    """The postmaster's mail is never held, so the mailbox it goes to cannot be moved with a copy."""
    try:
        key = postmaster_mailbox(context)
    except (CommandFailed, SluiceError):
        return []
    if key is None:
        return []
    remedy = "before it is moved, name another address in `postmaster:` and reload"
    return [warning(_AREA, "postmaster", f"{key} is a mailbox, so it can never be held", remedy)]


def _in_both(settings: Settings) -> Iterator[Network]:
    """What a relay's network and a trusted one have in common: of two that overlap, the narrower."""
    for relay in map(_folded, settings.relays):
        for trusted in map(_folded, settings.trusted_networks):
            if relay.version == trusted.version and relay.overlaps(trusted):
                yield max(relay, trusted, key=_prefix)


def _prefix(network: Network) -> int:
    return network.prefixlen


def _folded(network: Network) -> Network:
    """IPv4 written as IPv6 is IPv4: so are the clients that connect."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network
