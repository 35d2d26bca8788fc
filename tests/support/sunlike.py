"""
`SunLike`: a small `Meaning` for directories as `people_ldif.py` writes them for Sun, without presets and home mapping.

The home is the host as spelled. Everything else, from the order of statuses to forwards, is somebody else's to test.
"""

from collections.abc import Sequence

from router.directory.versions import CHANGE_ATTRIBUTES, version_of
from router.errors import NotFound
from router.model.directory import DirectoryItem, DomainEntry, Entry, RawEntry, Role, Standing, Unplaced

_ADDRESSES = ("mail", "mailAlternateAddress", "mailEquivalentAddress")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.@-_")


class SunLike:
    """A `Meaning`. `version` chooses the attribute that tells an entry's version."""

    write_status = "mailUserStatus"
    write_hold = "hold"
    write_home = "mailHost"

    def __init__(self, version: tuple[str, ...] = CHANGE_ATTRIBUTES) -> None:
        self._version = version

    def attributes(self) -> Sequence[str]:
        return (
            "objectClass",
            *_ADDRESSES,
            "mailHost",
            "mailUserStatus",
            "sunPreferredDomain",
            "mailDomainStatus",
            *self._version,
        )

    def item(self, raw: RawEntry) -> DirectoryItem | Unplaced | None:
        classes = {value.decode("ascii", "replace").lower() for value in raw.attributes.get("objectclass", ())}
        version = version_of(raw.attributes, self._version)
        if "inetdomain" in classes:
            standing = _standing(_first(raw, "mailDomainStatus"))
            return DomainEntry(raw.dn, _first(raw, "sunPreferredDomain").lower(), version, standing)
        if not classes & {"inetmailuser", "inetmailgroup"}:
            return None
        key = _first(raw, "mail").lower()
        if not key:
            return Unplaced(raw.dn, "has no address")
        addresses = {_text(value).lower() for name in _ADDRESSES for value in raw.attributes.get(name.lower(), ())}
        role = Role.GROUP if "inetmailgroup" in classes else Role.PERSON
        host = _first(raw, "mailHost")
        standing = _standing(_first(raw, "mailUserStatus"))
        return Entry(raw.dn, role, key, tuple(sorted(addresses)), version, host, host, standing)

    def filter_for(self, keys: Sequence[str]) -> str:
        terms = "".join(f"({name}={escape(key)})" for key in keys for name in _ADDRESSES)
        return f"(&(|(objectClass=inetMailUser)(objectClass=inetMailGroup))(|{terms}))"

    def domain_filter_for(self, domains: Sequence[str]) -> str:
        terms = "".join(f"(sunPreferredDomain={escape(domain)})" for domain in domains)
        return f"(&(objectClass=inetDomain)(|{terms}))"

    def all_filter(self) -> str:
        return "(|(objectClass=inetMailUser)(objectClass=inetMailGroup)(objectClass=inetDomain))"

    def carries(self, item: DirectoryItem, key: str) -> bool:
        if isinstance(item, DomainEntry):
            return item.domain == key.rpartition("@")[2]
        return key in item.addresses

    def host_of(self, store: str) -> str:
        if store == "nowhere":
            raise NotFound(f"no host is known for {store}")
        return f"{store}.example.edu"


def escape(text: str) -> str:
    """Any text as a literal of a filter (RFC 4515)."""
    return "".join(chr(one) if one in _PLAIN else f"\\{one:02x}" for one in text.encode())


def _standing(text: str) -> Standing:
    """Missing is active, illegal is inactive."""
    known = {one.value: one for one in Standing}
    return known.get(text.lower(), Standing.INACTIVE) if text else Standing.ACTIVE


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _first(raw: RawEntry, name: str) -> str:
    values = raw.attributes.get(name.lower(), ())
    return _text(values[0]) if values else ""
