"""
What a whole directory comes to: counted while it is read, entry by entry, and what in it makes no sense.

Guarantees: pure, and bounded: of each kind of trouble the number is kept and the first `SHOWN` by name; of addresses
eight octets each (`address_book`), so that a million people with three addresses each cost 24 MB; forwards are kept for
the first `MOST_FORWARDERS` people who have any. Everything that is shown is printable.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from router.admin.cli.address_book import AddressBook
from router.model.address import AddressSyntaxError, parse_address
from router.model.directory import (
    DirectoryItem,
    DomainEntry,
    Entry,
    Role,
    Standing,
    Unplaced,
    complaint,
    is_catch_all,
)
from router.model.mailbox import Mailbox
from router.route.forwards import keeps_copy, targets_of

SHOWN = 20
MOST_FORWARDERS = 100_000
MOST_VALUES = 1000
"""Different values of the home attribute, or domains, that are counted by name."""
_OTHERS = "(others)"


@dataclass(slots=True)
class Trouble:
    """One kind of trouble: how often, and the first few of them."""

    total: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.total += 1
        if len(self.named) < SHOWN:
            self.named.append(text)


@dataclass(frozen=True, slots=True)
class Circle:
    """Mailboxes that forward to each other in a circle in which nobody keeps a copy."""

    keys: tuple[str, ...]

    def __str__(self) -> str:
        return " > ".join((*self.keys, self.keys[0]))


class Survey:
    """Give it every item once, then ask. `ours` are the domains of the configuration."""

    def __init__(self, ours: Iterable[str]) -> None:
        self._ours = frozenset(ours)
        self.people = self.groups = self.held = 0
        self.homes: Counter[str] = Counter()
        """People by store; '' for those who only forward."""
        self.unmapped: Counter[str] = Counter()
        """People and groups by a home that means no store."""
        self.elsewhere: Counter[str] = Counter()
        """Entries by a domain that is not in the configuration."""
        self.domains: dict[str, DomainEntry] = {}
        self.problems, self.doubts, self.senseless, self.catch_alls = Trouble(), Trouble(), Trouble(), Trouble()
        self.addresses = AddressBook()
        self.forwarders_left_out = 0
        self._homeless: Counter[str] = Counter()
        """People without any home by domain; whether the domain has one is known at the end."""
        self._first_homeless: dict[str, str] = {}
        self._forwarders: dict[str, tuple[str, ...]] = {}
        """Where the mail of people goes who keep no copy, by mailbox."""
        self._names: dict[str, str] = {}

    def add(self, item: DirectoryItem | Unplaced) -> None:
        """Count one item of the directory."""
        if isinstance(item, Unplaced):
            self.senseless.add(complaint(item.dn, item.problem))
        elif isinstance(item, DomainEntry):
            self._add_domain(item)
        else:
            self._add_entry(item)

    @property
    def homeless(self) -> Trouble:
        """Domains with people for whom neither the entry nor the domain names a home."""
        found = Trouble()
        for domain, count in self._homeless.items():
            known = self.domains.get(domain)
            if known is None or not known.home:
                found.add(f"{domain}: {count}, such as {self._first_homeless[domain]}")
        return found

    def circles(self) -> list[Circle]:
        """Forwards that lead back, without a copy on the way; of circles that share a part, one at least."""
        found: dict[frozenset[str], Circle] = {}
        done: set[str] = set()
        for start in self._forwarders:
            for circle in self._circles_from(start, done):
                found.setdefault(frozenset(circle), Circle(circle))
        return list(found.values())

    def _add_entry(self, item: Entry) -> None:
        for address in item.addresses:
            self.addresses.add(address)
            if is_catch_all(address):
                self.catch_alls.add(f"{address}: {item.dn}")
        domain = item.key.rpartition("@")[2]
        if domain not in self._ours:
            _count(self.elsewhere, domain)
        self.held += item.standing is Standing.HOLD
        unmapped = bool(item.host and not item.home and item.problem)
        if unmapped:
            _count(self.unmapped, item.host)
        elif item.problem:
            self.problems.add(item.problem)
        if item.doubt:
            self.doubts.add(item.doubt)
        if item.role is Role.GROUP:
            self.groups += 1
            return
        self.people += 1
        if not unmapped:
            self._add_home(item, domain)

    def _add_home(self, item: Entry, domain: str) -> None:
        mailbox = Mailbox(item.key, item.home, forwards=item.forwards, keeps=item.keeps, route=item.route)
        targets = targets_of(mailbox)
        if item.home or targets:
            self.homes[item.home] += 1
        elif not item.problem:
            _count(self._homeless, domain)
            self._first_homeless.setdefault(domain, item.dn)
        if not targets or keeps_copy(mailbox):
            return  # a circle with a copy on it ends well
        if len(self._forwarders) >= MOST_FORWARDERS:
            self.forwarders_left_out += 1
            return
        self._forwarders[item.key] = targets
        self._names.update(dict.fromkeys(item.addresses, item.key))

    def _add_domain(self, item: DomainEntry) -> None:
        for name in (item.domain, *item.also):
            if len(self.domains) < MOST_VALUES or name in self._ours:
                self.domains[name] = item
        for text in (item.problem, item.doubt):
            if text:
                self.doubts.add(text)

    def _circles_from(self, start: str, done: set[str]) -> Iterable[tuple[str, ...]]:
        """Depth first, by hand: a chain may be longer than Python's stack."""
        path: list[str] = []
        place: dict[str, int] = {}
        todo: list[tuple[str, bool]] = [(start, False)]
        while todo:
            key, leaving = todo.pop()
            if leaving:
                path.pop()
                del place[key]
                done.add(key)
            elif key in place:
                circle = tuple(path[place[key] :])
                if len(circle) > 1:
                    yield circle
            elif key not in done:
                place[key] = len(path)
                path.append(key)
                todo.append((key, True))
                todo += [(self._names[target], False) for target in self._targets(key) if target in self._names]

    def _targets(self, key: str) -> Iterable[str]:
        for wire in self._forwarders[key]:
            try:
                yield parse_address(wire).key
            except AddressSyntaxError:
                continue


def _count(counter: Counter[str], name: str) -> None:
    counter[name if name in counter or len(counter) < MOST_VALUES else _OTHERS] += 1


def both_sides(found: Mapping[str, Survey]) -> dict[str, list[str]]:
    """Domains whose unknown addresses several directories send on, by name: which ones, and where to."""
    said: dict[str, list[str]] = {}
    for source, survey in found.items():
        for name, domain in survey.domains.items():
            if domain.catch_all:
                said.setdefault(name, []).append(f"{source} to {domain.catch_all}")
    return said
