"""
Values of the home attribute and stores: which store a value means, and which value is written for a store.

Guarantees: pure and total. A value means a store by `homes`, or because it names a host that exactly one store has;
case, a final dot and brackets do not count. Nothing is guessed: a value that means no store, two stores, or this relay
itself is a problem, never a host to send to. What is written for a store reads as that store.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from router.directory.printable import quoted
from router.errors import NotFound
from router.model.dn import DnSyntaxError, Rdn, parse_dn
from router.settings.directory import AttributeMap, Ldap
from router.settings.schema import Store

_TRANSPORT = re.compile(r"(?P<protocol>smtp|lmtp|relay):(?P<rest>.+)")
_HOST_PORT = re.compile(r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<plain>[^\[\]:]+))(?::(?P<port>[0-9]{1,5}))?")
_SERVERS = "servers"


@dataclass(frozen=True, slots=True)
class Place:
    """What a value means: a store, or why none (then `problem` says so)."""

    store: str = ""
    problem: str = ""


class HomeTable:
    """The homes of one directory."""

    def __init__(self, source: Ldap, schema: AttributeMap, stores: Mapping[str, Store], hostname: str) -> None:
        self._source, self._schema, self._stores = source, schema, stores
        self._homes = {_fold(value): store for value, store in source.homes.items()}
        self._ourselves = frozenset(map(_fold, (hostname, *source.local_hosts)))
        self._hosts: dict[str, set[str]] = {}
        for name, store in stores.items():
            for host in store.hosts:
                self._hosts.setdefault(host.host, set()).add(name)
                self._hosts.setdefault(f"{host.host}:{host.port}", set()).add(name)

    def place(self, value: str) -> Place:
        """The store that a value of the home attribute means."""
        spellings = list(dict.fromkeys(self._spellings(value)))
        store = next((self._homes[one] for one in spellings if one in self._homes), "")
        if store:
            return Place(store) if store in self._stores else Place(problem=f"{quoted(value)} means no store of ours")
        claimed = next((self._hosts[one] for one in spellings if one in self._hosts), set())
        if len(claimed) > 1:
            both = " and ".join(sorted(claimed))
            return Place(problem=f"{quoted(value)} is a host of {both}: say in `homes` which one is meant")
        if claimed:
            return Place(next(iter(claimed)))
        if self.is_local(value):
            return Place(problem=f"{quoted(value)} is this relay itself and no store")
        return Place(problem=f"{quoted(value)} is no host of any store and not in `homes`")

    def is_local(self, value: str) -> bool:
        """Whether a value names this relay."""
        return any(one in self._ourselves for one in self._spellings(value))

    def host_of(self, store: str) -> str:
        """The value that is written for a store. Raises `NotFound` when the configuration does not give exactly one."""
        if not (self._schema.home and self._schema.write_home):
            raise NotFound(f"homes are not written to the directory {self._source.name}")
        if store not in self._stores:
            raise NotFound(f"there is no store {store}")
        value = self._source.write_homes.get(store) or self._only_home(store) or self._own_host(store)
        if not value or self.place(value).store != store:
            raise NotFound(f"no value of {self._schema.home} means {store}: add one to `homes` of {self._source.name}")
        return value

    def _only_home(self, store: str) -> str:
        values = sorted(value for value, name in self._source.homes.items() if name == store)
        if len(values) > 1:
            several = ", ".join(values)
            raise NotFound(f"{several} all mean {store}: say in `write_homes` of {self._source.name} which is written")
        return self._as_written(values[0], store) if values else ""

    def _own_host(self, store: str) -> str:
        hosts = (f"[{host.host}]" if ":" in host.host else host.host for host in self._stores[store].hosts)
        values = (self._as_written(host, store) for host in hosts)
        return next((value for value in values if self.place(value).store == store), "")

    def _as_written(self, value: str, store: str) -> str:
        """A bare host as the attribute wants it."""
        form = self._schema.home_form
        if form == "transport" and not _TRANSPORT.fullmatch(_fold(value)):
            known = self._stores[store]
            ports = {host.host: host.port for host in reversed(known.hosts)}
            port = ports.get(_bare(value), known.hosts[0].port)
            return f"{known.protocol}:{value}:{port}"
        return value

    def _spellings(self, value: str) -> Iterator[str]:
        """The keys to look for, the most exact first."""
        folded = _fold(value)
        yield folded
        form = self._schema.home_form
        if form == "server":
            yield from _server(value)
            return
        transport = _TRANSPORT.fullmatch(folded) if form == "transport" else None
        found = _HOST_PORT.fullmatch(transport["rest"] if transport else folded)
        if found is None:
            return
        host = (found["bracketed"] or found["plain"]).rstrip(".")
        if found["port"]:
            yield f"{host}:{int(found['port'])}"
        yield host


def _fold(value: str) -> str:
    return value.strip().rstrip(".").lower()


def _bare(value: str) -> str:
    return _fold(value).strip("[]")


def _server(value: str) -> Iterator[str]:
    """
    The server in Exchange's ways to name one: `/o=Org/ou=Group/cn=Configuration/cn=Servers/cn=EXCH1` (its last cn), or
    the DN of a mailbox database: the part before `CN=Servers`, or, since databases are of no server, the database.
    """
    if value.startswith("/"):
        name, _, last = value.rpartition("/")[2].partition("=")
        if name.strip().lower() == "cn" and last.strip():
            yield _fold(last)
        return
    try:
        names = [part for part in map(_cn, parse_dn(value)) if part]
    except DnSyntaxError:
        return
    before = names.index(_SERVERS) - 1 if _SERVERS in names else 0
    if names and before >= 0:
        yield names[before]


def _cn(part: Rdn) -> str:
    return next((_fold(value) for name, value in part if name == "cn"), "")
