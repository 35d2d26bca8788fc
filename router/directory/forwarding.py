"""
Where a person's mail goes: to the home, to addresses elsewhere, or both; and under which recipient the home sees it.

Guarantees: total; nothing here follows a forward (loops and hops are counted where addresses are looked up again).
A forward that cannot be understood makes the mail wait when it was to go nowhere else.
"""

from dataclasses import dataclass

from router.directory.homes import HomeTable, Place
from router.directory.printable import quoted
from router.directory.reading import Reading
from router.model.address import AddressSyntaxError, parse_address
from router.settings.directory import AttributeMap

_TRUE = frozenset({"true", "yes", "1"})
FORWARD = "forward"


@dataclass(frozen=True, slots=True)
class Way:
    """As the fields of `Entry` with these names."""

    home: str = ""
    host: str = ""
    forwards: tuple[str, ...] = ()
    keeps: bool = True
    route: str = ""


class Ways:
    """Reads the ways of people in one directory."""

    def __init__(self, schema: AttributeMap, homes: HomeTable, *, home_forwards: bool) -> None:
        self._schema, self._homes, self._home_forwards = schema, homes, home_forwards

    def home(self, reading: Reading) -> tuple[str, Place]:
        """
        The home as the entry spells it, and what it means.

        The first attribute that has a value decides; several values in it are a problem and mean nothing.
        """
        for name in filter(None, (self._schema.home, *self._schema.home_also)):
            values = reading.distinct(name)
            if len(values) > 1:
                return values[0], Place(problem=f"{name} has several values, {reading.listed(values)}")
            if values:
                return values[0], self._place(name, values[0])
        return "", Place()

    def of(self, reading: Reading, key: str) -> Way:
        """
        The way of a person whose mailbox is `key`.

        In this order: an address that gets everything instead, the routing address, forwards, the home (semantics
        7.1 and 7.2). A home that means nothing is in the way only when the mail is to go there.
        """
        host, place = self.home(reading)
        instead = self._address(reading, self._schema.redirect)
        through, routing = self._routing(reading)
        if through:
            host, place = self._through(reading, through, host, place)
        if instead or (routing and not through and self._route_forwards(host)):
            way = Way(place.store, host, (instead or routing,), keeps=False)
        else:
            way = self._forwarded(reading, key, place, host, routing)
        if place.problem:
            (reading.problem if way.keeps or not way.forwards else reading.doubt)(place.problem)
        return way

    def _place(self, name: str, value: str) -> Place:
        place = self._homes.place(value)
        return Place(place.store, f"{name} {place.problem}" if place.problem else "")

    def _route_forwards(self, host: str) -> bool:
        """Whether the routing address is looked up again, rather than being what the home sees."""
        return not host or self._schema.route_beats_home or self._homes.is_local(host)

    def _routing(self, reading: Reading) -> tuple[str, str]:
        """The host of a source route (`@host:user@domain`, which Sun writes), or '', and the routing address."""
        value = reading.single(self._schema.route)
        host, colon, rest = value[1:].partition(":") if value is not None and value.startswith("@") else ("", "", "")
        if host and colon and _wire(rest):
            return host, _wire(rest)
        return "", self._usable(reading, self._schema.route, value)

    def _through(self, reading: Reading, through: str, host: str, place: Place) -> tuple[str, Place]:
        """The home that a source route names; another one than the entry's own is a problem."""
        named = self._place(self._schema.route, through)
        if host and named.store != place.store:
            reading.problem(f"{self._schema.route} leads through {quoted(through)} and {quoted(host)} is its home")
        return (host, place) if host else (through, named)

    def _address(self, reading: Reading, name: str) -> str:
        return self._usable(reading, name, reading.single(name))

    def _usable(self, reading: Reading, name: str, value: str | None) -> str:
        """The one address in an attribute, as to be put on the wire; what is none is a problem."""
        if value is None:
            return ""
        prefix = self._schema.address_prefix
        if self._schema.prefixed and value.lower().startswith(prefix.lower()):
            value = value[len(prefix) :]
        wire = _wire(value)
        if not wire:
            reading.problem(f"{name} {quoted(value)} is no address")
        return wire

    def _forwarded(self, reading: Reading, key: str, place: Place, host: str, route: str) -> Way:
        plain = Way(place.store, host, route=route)
        if not self._schema.forward or (self._home_forwards and host):
            return plain
        wanted, keeps = self._wanted(reading)
        if not wanted:
            return plain
        forwards = self._forwards(reading, keeps=keeps)
        if keeps:  # a forward to oneself is the copy that stays
            forwards = tuple(one for one in forwards if parse_address(one).key != key)
        if not forwards:
            if not keeps:
                reading.problem("is to be forwarded and has no address to forward to")
            return plain
        return Way(place.store, host, forwards, keeps, route if keeps else "")

    def _wanted(self, reading: Reading) -> tuple[bool, bool]:
        """Whether forwards are in force, and whether a copy stays."""
        if self._schema.delivery:
            options = {option.lower() for option in reading.values(self._schema.delivery)}
            return FORWARD in options, bool(options - {FORWARD})
        wanted = any(reading.values(name) for name in self._schema.forward)
        return wanted, not any(value.lower() in _TRUE for value in reading.values(self._schema.no_copy))

    def _forwards(self, reading: Reading, *, keeps: bool) -> tuple[str, ...]:
        found: list[str] = []
        for name in self._schema.forward:
            for value in reading.values(name):
                wires = [_wire(value)] if _wire(value) else [_wire(part.strip()) for part in value.split(",")]
                found += filter(None, wires)
                if not all(wires):
                    (reading.doubt if keeps else reading.problem)(f"{name} {quoted(value)} is no address")
        return tuple(dict.fromkeys(found))


def _wire(value: str) -> str:
    """The address as to be put on the wire; '' for what is none, or has no domain."""
    try:
        address = parse_address(value)
    except AddressSyntaxError:
        return ""
    return address.wire if address.domain else ""
