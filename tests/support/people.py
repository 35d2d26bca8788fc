"""
A directory in memory: people with raw attributes, a change number for each change, and a writer to its master.

The entries that it gives out are what a reader would make of them; `lagging` readers are copies taken earlier.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from router.errors import Conflict, LookupFailed, NotFound
from router.model.directory import KEEP, DirectoryItem, DomainEntry, Entry, Keep, Role, Standing, Standpoint, Wanted

HOSTS = {"cliff.example.edu": "cliff", "zimbra1.example.edu": "zimbra", "sunray.example.edu": "sunray"}
STORE_HOSTS = {store: host for host, store in HOSTS.items()}


@dataclass
class Person:
    """One entry with its raw attributes."""

    dn: str
    key: str
    addresses: tuple[str, ...]
    host: str | None
    status: str | None
    version: str = ""
    role: Role = Role.PERSON
    forwards: tuple[str, ...] = ()


def csn(number: int) -> str:
    """A change sequence number as OpenLDAP writes it."""
    return f"20240101{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}.000000Z#000000#001#000000"


@dataclass
class People:
    """The directory. `version_of` makes a version out of the number of a change."""

    people: dict[str, Person] = field(default_factory=dict)
    domains: dict[str, DomainEntry] = field(default_factory=dict)
    changes: int = 0
    version_of: Callable[[int], str] = csn

    def add(self, name: str, host: str | None = "cliff.example.edu", *aliases: str, status: str | None = None) -> str:
        """Add a person; their DN."""
        key = name if "@" in name else f"{name}@example.edu"
        dn = f"uid={key.partition('@')[0]},dc={key.partition('@')[2]}"
        self.people[dn] = Person(dn, key, tuple(sorted({key, *aliases})), host, status, self.tick())
        return dn

    def tick(self) -> str:
        """A new version."""
        self.changes += 1
        return self.version_of(self.changes)

    def modify(self, dn: str, **values: object) -> None:
        """Somebody's `ldapmodify`."""
        for name, value in values.items():
            setattr(self.people[dn], name, value)
        self.people[dn].version = self.tick()

    def rename(self, dn: str, to: str) -> None:
        """Somebody's modrdn."""
        self.people[to] = self.people.pop(dn)
        self.people[to].dn = to
        self.people[to].version = self.tick()

    def domain(self, domain: str, standing: Standing = Standing.ACTIVE, home: str = "") -> None:
        """Set what the directory says of a domain."""
        self.domains[domain] = DomainEntry(f"o={domain}", domain, self.tick(), standing, home)

    def entry(self, dn: str) -> Entry:
        """What a reader makes of it."""
        one = self.people[dn]
        home, problem = "", ""
        if one.host is not None:
            home = HOSTS.get(one.host, "")
            problem = "" if home else f"mailHost {one.host} is no store"
        try:
            standing, doubt = Standing((one.status or "active").lower()), ""
        except ValueError:
            standing, doubt = Standing.INACTIVE, f"mailUserStatus {one.status} is illegal"
        return Entry(
            one.dn,
            one.role,
            one.key,
            one.addresses,
            one.version,
            home,
            one.host or "",
            standing,
            one.forwards,
            shown=(("mailHost", one.host or ""), ("mailUserStatus", one.status or "")),
            problem=problem,
            doubt=doubt,
        )

    def items(self, dns: Iterable[str] | None = None) -> list[DirectoryItem]:
        """Everything there is, or these entries."""
        if dns is not None:
            return [self.entry(dn) for dn in dns]
        return [*self.domains.values(), *(self.entry(dn) for dn in self.people)]

    def copy(self) -> "People":
        """A replica that follows no more."""
        return copy.deepcopy(self)


class Writer:
    """A `DirectoryWriter` on the master. `down` makes it fail; `step` is called with a name at each step."""

    hold_value = "hold"

    def __init__(
        self, people: People, source: str = "ldap", *, writes_status: bool = True, writes_home: bool = True
    ) -> None:
        self.people = people
        self.source = source
        self.writes_status = writes_status
        self.writes_home = writes_home
        self.down = False
        self.step: Callable[[str], None] = lambda _name: None
        self.modifies: list[tuple[str, Wanted]] = []

    def read(self, dn: str) -> Standpoint:
        self._reach("read")
        if dn not in self.people.people:
            raise NotFound(f"there is no entry {dn}")
        one = self.people.people[dn]
        found = Standpoint(dn, one.version, one.status, one.host, self.people.entry(dn).standing)
        self.step("after read")
        return found

    def write(self, before: Standpoint, wanted: Wanted) -> Standpoint:
        self._reach("write")
        one = self.people.people[before.dn]
        status = before.status if isinstance(wanted.status, Keep) else wanted.status
        host = before.host if isinstance(wanted.host, Keep) else wanted.host
        if (status, host) != (before.status, before.host):
            touched = [(one.status, before.status)] if status != before.status else []
            touched += [(one.host, before.host)] if host != before.host else []
            if any(now != then for now, then in touched):
                raise Conflict("the entry is not as it was read")
            if status != before.status:
                one.status = status
            if host != before.host:
                one.host = host
            one.version = self.people.tick()
            self.modifies.append((before.dn, wanted))
        self.step("after write")
        return Standpoint(before.dn, one.version, one.status, one.host, self.people.entry(before.dn).standing)

    def ldif(self, before: Standpoint, wanted: Wanted) -> str:
        lines = [f"dn: {before.dn}", "changetype: modify"]
        for name, old, new in (
            ("mailUserStatus", before.status, wanted.status),
            ("mailHost", before.host, wanted.host),
        ):
            if new is not KEEP and new != old:
                lines += [f"delete: {name}", f"{name}: {old}", "-"] if old is not None else []
                lines += [f"add: {name}", f"{name}: {new}", "-"] if new is not None else []
        return "\n".join(lines) + "\n"

    def host_of(self, store: str) -> str:
        if store not in STORE_HOSTS:
            raise NotFound(f"no host means {store}")
        return STORE_HOSTS[store]

    def close(self) -> None:
        return None

    def _reach(self, name: str) -> None:
        self.step(f"before {name}")
        if self.down:
            raise LookupFailed("the directory is down")
