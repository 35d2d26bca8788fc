"""
Whether all mail for our domains comes here, and nowhere else.

A hold is only exact for mail that passes this relay: an MX record that leads to an old host, or to anything that is
not us, is a way around it. Filter gateways and backup MXs are no way around if they are named in `relays`.

On failure: a lookup that fails is a finding of its own; nothing raises.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from router.admin.cli.check_finding import Finding, error, ok, warning
from router.deliver.names import Exchanger, NameFault, literal
from router.settings.schema import Settings

_AREA = "dns"
_CLOSE = "remove the record; until then its mail passes us by and holds are not exact"


class Resolver(Protocol):
    """As `deliver.names.Dns`."""

    async def exchangers(self, domain: str) -> tuple[Exchanger, ...] | None: ...
    async def addresses(self, host: str) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class _Places:
    """Addresses by what they are."""

    ours: frozenset[str]
    stores: dict[str, str]
    """Address or host name to the store's name."""


async def check_dns(settings: Settings, dns: Resolver) -> list[Finding]:
    """Our own name, then the MX records of every domain, then the names of old hosts as mail domains."""
    found: list[Finding] = []
    places = await _places(settings, dns, found)
    for domain in settings.domains:
        found += await _check_domain(settings, dns, domain, places)
    for name, store in settings.stores.items():
        if store.role == "old":
            for host in store.hosts:
                found += await _check_old_host(settings, dns, name, host.host)
    return found


async def _places(settings: Settings, dns: Resolver, found: list[Finding]) -> _Places:
    ours = {entry.address for entry in settings.listen if entry.address not in {"::", "0.0.0.0"}}  # noqa: S104 - to skip them
    try:
        ours.update(await dns.addresses(settings.hostname))
    except NameFault as fault:
        remedy = "give the name of `hostname` an A or AAAA record"
        found.append(error(_AREA, settings.hostname, f"our own name has no address: {fault}", remedy))
    stores = {}
    for name, store in settings.stores.items():
        for host in store.hosts:
            stores[host.host.lower()] = name
            try:
                stores.update(dict.fromkeys(await dns.addresses(host.host), name))
            except NameFault:
                continue  # the store's own check says so
    return _Places(frozenset(ours), stores)


async def _check_domain(settings: Settings, dns: Resolver, domain: str, places: _Places) -> list[Finding]:
    try:
        records = await dns.exchangers(domain)
    except NameFault as fault:
        remedy = f"give it an MX record that leads to {settings.hostname}"
        return [error(_AREA, domain, str(fault), remedy if fault.absent else "look at the name servers")]
    if records is None:
        records = (Exchanger(0, domain),)
    if any(one.host == "." for one in records):
        return [error(_AREA, domain, "declares that it takes no mail (null MX)", f"let it lead to {settings.hostname}")]
    found: list[Finding] = []
    here = False
    for exchanger in sorted(records, key=lambda one: one.preference):
        ours, finding = await _judge(settings, dns, domain, exchanger, places)
        here = here or ours
        found += [] if finding is None else [finding]
    if not here:
        remedy = f"add an MX record that leads to {settings.hostname}, when you are ready for its mail"
        found.append(error(_AREA, domain, "no MX record leads here", remedy))
    elif not found:
        found.append(ok(_AREA, domain, "all MX records lead here"))
    return found


async def _judge(
    settings: Settings, dns: Resolver, domain: str, exchanger: Exchanger, places: _Places
) -> tuple[bool, Finding | None]:
    """Whether it is us, and what is to be said of it."""
    host = exchanger.host.lower()
    record = f"MX {exchanger.preference} {host}"
    try:
        addresses = await dns.addresses(host)
    except NameFault as fault:
        return False, warning(_AREA, domain, f"{record}: {fault}", "remove the record, or mend the name")
    if host == settings.hostname or places.ours.issuperset(addresses):
        return True, None
    store = places.stores.get(host) or next((places.stores[one] for one in addresses if one in places.stores), "")
    if store:
        return False, error(_AREA, domain, f"{record} leads to store {store}, around us", _CLOSE)
    if _all_relays(settings, addresses):
        return False, ok(_AREA, domain, f"{record} is named in relays")
    remedy = f"{_CLOSE}; a gateway in front of us belongs into `relays`"
    return False, error(_AREA, domain, f"{record} ({', '.join(addresses)}) is not us", remedy)


async def _check_old_host(settings: Settings, dns: Resolver, store: str, host: str) -> list[Finding]:
    """Mail to user@old-host: it goes to that host directly unless its name has an MX that leads here."""
    name = host.lower().rstrip(".")
    if literal(name) is not None or name in settings.domains:
        return []
    try:
        records = await dns.exchangers(name)
    except NameFault:
        return []
    if records is not None and all(one.host.lower() in {settings.hostname, "."} for one in records):
        return []
    text = f"mail to addresses @{name} goes to store {store} directly, around us"
    remedy = "close its port 25 to everybody but us, or let an MX record of that name lead here"
    return [warning(_AREA, name, text, remedy)]


def _all_relays(settings: Settings, addresses: Sequence[str]) -> bool:
    return bool(addresses) and all(any(ip_address(one) in network for network in settings.relays) for one in addresses)
