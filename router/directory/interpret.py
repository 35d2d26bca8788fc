"""
What an entry of a directory means: from attributes and octets to a person, a group or a domain.

Guarantees: pure and total: whatever a server sends, there is an item, or `Unplaced`, or None for an entry that has
nothing to do with mail; never an exception. What is doubtful makes mail wait (`problem`, or the standing inactive) and
is told with the entry's name and the value, printable. No value of a home attribute is ever a host to send to.
"""

from collections.abc import Mapping

from router.directory.addresses import Addresses, addresses
from router.directory.filters import DC, attributes
from router.directory.forwarding import Way, Ways
from router.directory.homes import HomeTable
from router.directory.presets import map_of
from router.directory.printable import printable, quoted
from router.directory.reading import Reading
from router.directory.status import meaning, standing
from router.directory.versions import change_attributes, version_of
from router.model.address import AddressSyntaxError, parse_domain
from router.model.directory import DirectoryItem, DomainEntry, Entry, RawEntry, Role, Standing, Unplaced
from router.model.dn import DnSyntaxError, parse_dn
from router.model.ldap_filter import Filter, matches, parse_filter
from router.settings.directory import Ldap
from router.settings.schema import Store


class Interpreter:
    """Reads the entries of one directory. `stores` are those of the configuration, `hostname` is our own."""

    def __init__(self, source: Ldap, stores: Mapping[str, Store], hostname: str) -> None:
        self.map = map_of(source)
        self._source = source
        self._people, self._groups, self._domains = map(_parsed, (self.map.people, self.map.groups, self.map.domains))
        self._homes = HomeTable(source, self.map, stores, hostname)
        chosen = self.map.forwarding if source.forwarding == "schema" else source.forwarding
        self._ways = Ways(self.map, self._homes, home_forwards=chosen == "home")
        self._versions = change_attributes(source.change_attribute)
        self._shown = tuple(name for name in attributes(self.map) if name.lower() != "objectclass")

    def item(self, raw: RawEntry) -> DirectoryItem | Unplaced | None:
        """What the entry is; None when it is none of a mail system's. Never raises."""
        reading = Reading(raw)
        person, group, domain = (_judged(one, raw) for one in (self._people, self._groups, self._domains))
        if domain:
            return self._domain(reading, alone=person is False and group is False)
        found = addresses(reading, self.map)
        if not found.claimed and domain is False:
            return None
        if not found.key:
            reading.problem("has no usable address")
            return Unplaced(raw.dn, _both(reading))
        if person is not True and group is not True:
            reading.problem("is neither a person nor a group by its attributes: can objectClass be read?")
        elif person is not False and group is not False:
            reading.problem("is a person and a group at once")
        return self._entry(reading, found, Role.GROUP if group is True and person is False else Role.PERSON)

    @property
    def status_attribute(self) -> str:
        """The attribute that says hold; '' where the directory knows none."""
        return self.map.write_status

    @property
    def home_attribute(self) -> str:
        """The attribute that is written when somebody moves; '' where homes are not written."""
        return self.map.home if self.map.write_home else ""

    @property
    def hold_value(self) -> str:
        """The value of the status attribute that means hold."""
        return self.map.write_hold

    def host_of(self, store: str) -> str:
        """The value of the home attribute that is written for a store. Raises `NotFound`."""
        return self._homes.host_of(store)

    def store_of(self, host: str | None) -> str:
        """The store that a value of the home attribute means; '' for none."""
        return self._homes.place(host).store if host else ""

    def standing_of(self, status: str | None) -> Standing:
        """What a value of the status attribute means; None is a missing one."""
        wanted = self.map.write_status.lower()
        known = next((one for one in self.map.statuses if one.attribute.lower() == wanted), None)
        return meaning(known, status) if known is not None else Standing.ACTIVE

    def _entry(self, reading: Reading, found: Addresses, role: Role) -> Entry:
        if role is Role.GROUP:
            way, own = self._group_way(reading), self._group_standing(reading)
        else:
            way, own = self._ways.of(reading, found.key), standing(reading, self.map.statuses)
        return Entry(
            dn=reading.raw.dn,
            role=role,
            key=found.key,
            addresses=found.keys,
            version=version_of(reading.raw.attributes, self._versions),
            home=way.home,
            host=printable(way.host),
            standing=own,
            forwards=way.forwards,
            keeps=way.keeps,
            route=way.route,
            shown=reading.shown(self._shown),
            problem=reading.problems,
            doubt=reading.doubts,
        )

    def _group_way(self, reading: Reading) -> Way:
        """A group goes to its own host, or else to the list store."""
        host, place = self._ways.home(reading)
        if place.problem:
            reading.problem(place.problem)
        elif not host and not self._source.lists:
            reading.problem("is a group without a host, and `lists` names no store for such groups")
        return Way(place.store if host else self._source.lists, host)

    def _group_standing(self, reading: Reading) -> Standing:
        own = standing(reading, self.map.group_statuses)
        if own is not Standing.HOLD:
            return own
        reading.doubt("is a group on hold: groups cannot be held here, its mail waits at the senders")
        return Standing.INACTIVE

    def _domain(self, reading: Reading, *, alone: bool) -> DomainEntry | Unplaced:
        names = self._domain_names(reading)
        if not names or not alone:
            reading.problem("is a domain " + ("without a usable name" if alone else "and a person or group at once"))
            return Unplaced(reading.raw.dn, _both(reading))
        smart_host = reading.single(self.map.domain_home)
        place = self._homes.place(smart_host) if smart_host is not None else None
        if place is not None and place.problem:
            reading.problem(f"{self.map.domain_home} {place.problem}")
        return DomainEntry(
            dn=reading.raw.dn,
            domain=names[0],
            version=version_of(reading.raw.attributes, self._versions),
            standing=standing(reading, self.map.domain_statuses),
            home=place.store if place is not None else "",
            shown=reading.shown(self._shown),
            problem=reading.problems,
            doubt=reading.doubts,
            also=tuple(sorted(set(names[1:]) - {names[0]})),
            catch_all=", ".join(map(printable, reading.values(self.map.domain_catch_all))),
        )

    def _domain_names(self, reading: Reading) -> list[str]:
        """The first attribute with a value has the domain's name; all others, and its further values, are aliases."""
        found: list[str] = []
        for attribute in self.map.domain_name:
            if attribute.lower() != DC:
                values = reading.distinct(attribute)
            else:
                values = () if found else (_dc_of(reading.raw.dn),)
            for value in sorted(filter(None, values)):
                try:
                    found.append(parse_domain(value))
                except AddressSyntaxError:
                    reading.doubt(f"{attribute} {quoted(value)} is no mail domain")
        return found


def _parsed(text: str) -> Filter | None:
    return parse_filter(text) if text else None


def _judged(wanted: Filter | None, raw: RawEntry) -> bool | None:
    return matches(wanted, raw.attributes) if wanted is not None else False


def _both(reading: Reading) -> str:
    """Everything that is wrong with an entry of which nothing else remains."""
    return "; ".join(filter(None, (reading.problems, reading.doubts)))


def _dc_of(dn: str) -> str:
    """`a.b` for `dc=a,dc=b,o=internet`; '' for a DN that does not begin with dc."""
    try:
        parts = parse_dn(dn)
    except DnSyntaxError:
        return ""
    labels: list[str] = []
    for part in parts:
        if len(part) != 1 or part[0][0] != "dc":
            break
        labels.append(part[0][1])
    return ".".join(labels)
