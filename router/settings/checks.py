"""
The checks of values that the schema cannot judge alone: identity, listeners, networks, stores, times.

Guarantees: pure (no file, no network); each check says everything it finds; none raises.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from router.model.address import AddressSyntaxError, parse_domain
from router.model.route import SMARTHOST_LANE
from router.settings.address_checks import check_addresses, check_domains, check_references, mail_address
from router.settings.directory_checks import check_directory
from router.settings.draft import Draft, Entry
from router.settings.findings import Findings
from router.settings.schema import Retry, Store
from router.settings.schema_checks import check_meanings
from router.settings.values import BadValue, parse_network, shown
from router.settings.yaml_loader import Value

_STORE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DELIMITERS = "+-_=#~%"
_MAPPED = IPv6Network("::ffff:0:0/96")


def check_identity(draft: Draft, findings: Findings) -> None:
    """`hostname` is a full name (RFC 5321 2.3.5); `postmaster` an address with a domain; `user` is no number."""
    hostname = draft.text("hostname")
    if hostname is not None and not _is_full_name(hostname):
        findings.add(("hostname",), f"{shown(hostname)} is no full host name", "write for instance mx.example.edu")
    postmaster = draft.text("postmaster")
    if postmaster is not None:
        mail_address(("postmaster",), postmaster, findings)


def check_state(draft: Draft, findings: Findings) -> None:
    """`database` is `sqlite`, or the URL of an SQLite file with an absolute path."""
    database = draft.text("database")
    if database is None or database == "sqlite":
        return
    remedy = "write sqlite, or sqlite:////PATH with four slashes"
    try:
        url = make_url(database)
    except (ArgumentError, ValueError):  # the text itself may hold a password, so it is not repeated
        findings.add(("database",), "is neither sqlite nor a database URL", remedy)
        return
    if url.get_backend_name() in {"postgresql", "postgres"}:
        findings.add(("database",), "PostgreSQL is not supported yet: use sqlite", remedy)
    elif url.drivername not in {"sqlite", "sqlite+pysqlite"}:
        findings.add(("database",), f"databases of kind {shown(url.drivername)} are not supported", remedy)
    elif not url.database:
        findings.add(("database",), "the URL names no database", remedy)
    elif not url.database.startswith("/"):
        findings.add(("database",), "the file must have an absolute path", remedy)
    elif url.host or url.username or url.password:
        findings.add(("database",), "a file has neither host nor account", remedy)


def check_listeners(draft: Draft, findings: Findings) -> None:
    """Addresses are IP addresses, each address and port once; what a listener asks for, it can do."""
    if draft.raw.get("listen") == []:
        findings.add(("listen",), "is empty: nothing would be accepted", 'write - {address: "::", port: 25}')
    seen: list[tuple[str, int]] = []
    for entry in draft.listeners:
        listener = entry.value
        try:
            address = str(ip_address(listener.address))
        except ValueError:
            findings.add((*entry.path, "address"), f"{shown(listener.address)} is no IP address", "write :: for all")
            continue
        if any(port == listener.port != 0 and _overlap(address, other) for other, port in seen):
            findings.add(entry.path, f"listens on {address} port {listener.port} a second time", "remove one of them")
        seen.append((address, listener.port))
        if listener.require_tls and listener.tls is None and "tls" not in entry.faulty:
            findings.add((*entry.path, "require_tls"), "needs a certificate", "add tls: {certificate: …, key: …}")
        if listener.proxy_protocol and not draft.raw.get("relays"):
            findings.add((*entry.path, "proxy_protocol"), "is accepted from `relays` only, and there are none")


def _overlap(one: str, other: str) -> bool:
    """Whether two listeners on one port would contend for connections; `::` takes IPv4 as well."""
    pair = {one, other}
    if len(pair) == 1 or "::" in pair:
        return True
    return "0.0.0.0" in pair and ":" not in f"{one}{other}"  # noqa: S104 - compared, not bound


def check_networks(draft: Draft, findings: Findings) -> None:
    """
    Trusted hosts and relays are a few hosts of one's own.

    A network as wide as a continent would make an open relay of us: a trusted host may send anywhere, and a relay
    may claim by XCLIENT or PROXY to be a trusted host.
    """
    for key in ("trusted_networks", "relays"):
        for number, network in _networks(draft.raw.get(key)):
            if _too_wide(network):
                message = f"{network} is far wider than your own hosts: this would be an open relay"
                findings.add((key, number), message, "list the stores and gateways, one by one or by their networks")


def _networks(value: Value) -> Iterator[tuple[int, IPv4Network | IPv6Network]]:
    for number, item in enumerate(value if isinstance(value, list) else ()):
        with suppress(BadValue):  # reported by the schema
            yield number, parse_network(item)


def check_stores(draft: Draft, findings: Findings) -> None:
    """Names fit in a queue's lane; each store has hosts, each host once, and none of them is this relay itself."""
    if draft.raw.get("stores") == {}:
        findings.add(("stores",), "is empty: there is nowhere to deliver to", "name the old and the new stores")
    for name in sorted(draft.store_names):
        if not _STORE_NAME.fullmatch(name) or name == SMARTHOST_LANE:
            message = "is reserved" if name == SMARTHOST_LANE else "is no name for a store"
            findings.add(("stores", name), message, "use letters, digits, dots, dashes and underscores", of_key=True)
    for entry in draft.stores:
        _check_hosts(entry, draft, findings)
        if entry.value.ca_file is not None and entry.value.tls != "verify" and "tls" not in entry.faulty:
            findings.add((*entry.path, "ca_file"), f"has no use with tls: {entry.value.tls}", "write tls: verify")


def _check_hosts(entry: Entry[Store], draft: Draft, findings: Findings) -> None:
    path, hosts = (*entry.path, "hosts"), entry.value.hosts
    if not hosts and "hosts" not in entry.faulty:
        findings.add(path, "is empty", 'write for instance ["mail.example.edu:25"]')
    for number, host in enumerate(hosts):
        if host in hosts[:number]:
            findings.add((*path, number), f"{host} stands here twice", "remove one of them")
        if _is_ourselves(host.host, host.port, draft):
            findings.add((*path, number), f"{host} is this relay itself: mail would loop", "name the store's own host")
        if entry.value.protocol == "lmtp" and host.port == 25:  # RFC 2033 5
            findings.add((*path, number), "LMTP must not be spoken on port 25", "use another port")


def check_times(draft: Draft, findings: Findings) -> None:
    """The retry schedule goes forward, and its end lies after its beginning."""
    retry = draft.valid("retry")
    if not isinstance(retry, Retry):
        return
    if not retry.first > 0:
        findings.add(("retry", "first"), "must be longer than 0", "write for instance 4m")
    if retry.first > retry.longest:
        findings.add(("retry", "longest"), "must not be shorter than `first`", f"write at least {retry.first:g}s")
    if retry.lifetime < retry.longest:
        findings.add(("retry", "lifetime"), "must not be shorter than `longest`", "write for instance 5d")


def check_rest(draft: Draft, findings: Findings) -> None:
    """Delimiter, size limit and name servers."""
    delimiter = draft.text("recipient_delimiter")
    if delimiter and (len(delimiter) != 1 or delimiter not in _DELIMITERS):
        remedy = f'write one of {" ".join(_DELIMITERS)}, or "" for no sub-addresses'
        findings.add(("recipient_delimiter",), f"{shown(delimiter)} is no delimiter", remedy)
    size = draft.valid("message_size_limit")
    if size == 0:
        findings.add(("message_size_limit",), "must be more than 0", "write for instance 100 MiB")
    outbound = draft.valid("outbound")
    for number, server in enumerate(outbound.nameservers if outbound is not None else ()):
        try:
            ip_address(server)
        except ValueError:
            findings.add(("outbound", "nameservers", number), f"{shown(server)} is no IP address")


ALL_CHECKS: tuple[Callable[[Draft, Findings], None], ...] = (
    check_identity,
    check_state,
    check_listeners,
    check_networks,
    check_stores,
    check_domains,
    check_references,
    check_addresses,
    check_times,
    check_directory,
    check_meanings,
    check_rest,
)


def _is_full_name(text: str) -> bool:
    try:
        labels = parse_domain(text).split(".")
    except AddressSyntaxError:
        return False
    return len(text) <= 253 and len(labels) > 1 and not labels[-1].isdigit() and all(map(_HOST_LABEL.fullmatch, labels))


def _too_wide(network: IPv4Network | IPv6Network) -> bool:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return network.prefixlen < 96 + 8
    if network.is_private:
        return False
    return network.prefixlen < (8 if network.version == 4 else 16)


def _is_ourselves(host: str, port: int, draft: Draft) -> bool:
    for entry in draft.listeners:
        listener = entry.value
        if port != listener.port:
            continue
        if host in {listener.address, (draft.text("hostname") or "").lower()}:
            return True
        if listener.address in {"::", "0.0.0.0"} and host in {"localhost", "127.0.0.1", "::1"}:  # noqa: S104 - compared
            return True
    return False
