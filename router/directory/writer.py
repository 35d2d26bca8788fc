"""
Status and home written into a directory, as one compare-and-set that the server itself does.

Guarantees: a write is a single modify that deletes the old value and adds the new one, so it fails as a whole when
somebody else was there first (RFC 4511, 4.6). Where there was no value, the server is asked to assert that there is
still none (RFC 4528), which matters for attributes that may have several. What came of it is read back over the same
connection. Nothing but the two attributes is touched.

On failure: `Conflict` when the entry is not as told, before or after; `LookupFailed` when the directory cannot be
reached or refuses. When the connection ends during the modify, the entry is read anew: as wanted, the write is done;
otherwise `LookupFailed`, and it may still happen later. The same write repeated then finds what is true.
"""

import time
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from router.directory.connection import LdapConnection
from router.directory.faults import (
    ASSERTION_FAILED,
    ATTRIBUTE_OR_VALUE_EXISTS,
    NO_SUCH_ATTRIBUTE,
    NO_SUCH_OBJECT,
    Fault,
    Lost,
    Troubled,
)
from router.directory.ldif import Modification, Verb, record
from router.directory.meaning import Meaning
from router.directory.printable import printable
from router.directory.search_message import Control, Question
from router.directory.versions import CHANGE_ATTRIBUTES, version_of
from router.errors import Conflict, NotFound
from router.model.directory import KEEP, Entry, RawEntry, Standpoint, Unplaced, Wanted
from router.settings.directory import Ldap

_ASSERTION = "1.3.6.1.1.12"
_CONTRADICTED = frozenset({NO_SUCH_ATTRIBUTE, ATTRIBUTE_OR_VALUE_EXISTS, NO_SUCH_OBJECT, ASSERTION_FAILED})
T = TypeVar("T")


class LdapWriter:
    """A `DirectoryWriter`. `hold_value` is the status that means hold. For one thread."""

    def __init__(self, source: Ldap, meaning: Meaning, clock: Callable[[], float] = time.monotonic) -> None:
        self.source = source.name
        self.writes_status = bool(meaning.write_status)
        self.writes_home = bool(meaning.write_home)
        self.hold_value = meaning.write_hold
        self._settings = source
        self._meaning = meaning
        self._clock = clock
        self._uri = source.write_uri or source.uri[0]
        wanted = (*meaning.attributes(), meaning.write_status, meaning.write_home, *CHANGE_ATTRIBUTES)
        self._attributes = tuple(dict.fromkeys(name for name in wanted if name))
        self._held: LdapConnection | None = None

    def read(self, dn: str) -> Standpoint:
        """As `DirectoryWriter.read`. Raises `LookupFailed`, `NotFound`, `Conflict` (an attribute with two values)."""
        return self._reading(lambda connection: self._read(connection, dn))

    def write(self, before: Standpoint, wanted: Wanted) -> Standpoint:
        """As `DirectoryWriter.write`. Raises `LookupFailed`, `Conflict`."""
        changes = self._changes(before, wanted)
        # Also proves that the connection is alive, so that an old one leaves no doubt about the modify.
        self._present(before.dn)
        if changes:
            self._modify(before, wanted, changes)
        after = self.read(before.dn)
        if not self._as_wanted(after, before, wanted):
            raise Conflict(f"{printable(before.dn)} is not as it was written: somebody else has changed it meanwhile")
        return after

    def ldif(self, before: Standpoint, wanted: Wanted) -> str:
        """As `DirectoryWriter.ldif`."""
        return record(before.dn, self._changes(before, wanted))

    def host_of(self, store: str) -> str:
        """As `DirectoryWriter.host_of`. Raises `NotFound`."""
        return self._meaning.host_of(store)

    def close(self) -> None:
        """Idempotent."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    # --- what is to be changed

    def _changes(self, before: Standpoint, wanted: Wanted) -> list[Modification]:
        changes: list[Modification] = []
        for attribute, old, new in self._pairs(before, wanted):
            if _same(old, new):
                continue
            if not attribute:
                raise Conflict(f"the directory {self.source} has no attribute of ours for that")
            if old is not None:
                changes.append(Modification(Verb.DELETE, attribute, (old.encode(),)))
            if new is not None:
                changes.append(Modification(Verb.ADD, attribute, (new.encode(),)))
        return changes

    def _pairs(self, before: Standpoint, wanted: Wanted) -> list[tuple[str, str | None, str | None]]:
        """Attribute, old value, wanted value of what is to be touched."""
        pairs = []
        if wanted.status is not KEEP:
            pairs.append((self._meaning.write_status, before.status, _text(wanted.status)))
        if wanted.host is not KEEP:
            pairs.append((self._meaning.write_home, before.host, _text(wanted.host)))
        return pairs

    def _as_wanted(self, after: Standpoint, before: Standpoint, wanted: Wanted) -> bool:
        now = {self._meaning.write_status: after.status, self._meaning.write_home: after.host}
        return all(_same(now[attribute], new) for attribute, _, new in self._pairs(before, wanted))

    # --- doing it

    def _present(self, dn: str) -> None:
        try:
            self.read(dn)
        except NotFound as error:
            raise Conflict(error.private) from error

    def _modify(self, before: Standpoint, wanted: Wanted, changes: Sequence[Modification]) -> None:
        connection = self._held
        if connection is None:
            raise Lost("the connection has been closed")
        absent = [attribute for attribute, old, new in self._pairs(before, wanted) if old is None and new is not None]
        try:
            connection.modify(before.dn, changes, self._until(), _assertions(absent))
        except Lost as error:
            self.close()
            if not self._as_wanted(self.read(before.dn), before, wanted):
                raise Lost(f"{printable(before.dn)}: whether it was written is not known: {error.private}") from error
        except Troubled as error:
            self._refused(error, before, wanted)

    def _refused(self, error: Troubled, before: Standpoint, wanted: Wanted) -> NoReturn:
        """A conflict where the entry is not as told; otherwise the server's own reason."""
        now = self.read(before.dn) if error.code not in _CONTRADICTED else None
        pairs = self._pairs(before, wanted)
        own = {self._meaning.write_status: now.status, self._meaning.write_home: now.host} if now else {}
        if now is None or any(not _same(own[attribute], old) for attribute, old, _ in pairs):
            raise Conflict(f"{printable(before.dn)} is not as it was read: {error.private}") from error
        raise error

    def _reading(self, work: Callable[[LdapConnection], T]) -> T:
        """On the connection that is there; a new one where it has ended."""
        held, self._held = self._held, None
        if held is not None:
            try:
                return self._keep(held, work)
            except Lost:
                pass
        return self._keep(LdapConnection(self._settings, self._uri, self._until()), work)

    def _keep(self, connection: LdapConnection, work: Callable[[LdapConnection], T]) -> T:
        try:
            result = work(connection)
        except BaseException as error:
            if isinstance(error, Fault) and not isinstance(error, Troubled):
                connection.close()
            else:
                self._held = connection
            raise
        self._held = connection
        return result

    def _read(self, connection: LdapConnection, dn: str) -> Standpoint:
        question = Question(dn, "(objectClass=*)", self._attributes, whole=False)
        try:
            found = connection.search(question, self._until())
        except Troubled as error:
            if error.code == NO_SUCH_OBJECT:
                raise NotFound(f"there is no entry {printable(dn)} in {self.source}") from error
            raise
        if len(found) != 1:
            raise Troubled(f"{printable(dn)} may not be read")
        raw = found[0]
        status, home = _single(raw, self._meaning.write_status), _single(raw, self._meaning.write_home)
        # Version and standing as the follower will see them.
        item = self._meaning.item(raw)
        version = version_of(raw.attributes) if item is None or isinstance(item, Unplaced) else item.version
        return Standpoint(raw.dn, version, status, home, item.standing if isinstance(item, Entry) else None)

    def _until(self) -> float:
        return self._clock() + self._settings.deadline


def _text(wanted: object) -> str | None:
    return wanted if isinstance(wanted, str) else None


def _same(one: str | None, other: str | None) -> bool:
    """Hosts and statuses are compared without case, by directories as by us."""
    if one is None or other is None:
        return one is other
    return one.casefold() == other.casefold()


def _single(raw: RawEntry, attribute: str) -> str | None:
    values = raw.attributes.get(attribute.lower(), ()) if attribute else ()
    if len(values) > 1:
        raise Conflict(f"{printable(raw.dn)} has {len(values)} values of {attribute}: which one counts cannot be told")
    try:
        return values[0].decode() if values else None
    except UnicodeDecodeError as error:
        raise Conflict(f"{printable(raw.dn)}: the value of {attribute} is no text") from error


def _assertions(absent: Sequence[str]) -> list[Control]:
    """
    The control that has the server assert that attributes have no value: `(&(!(a=*))…)` in BER (RFC 4511, 4.5.1).

    Not critical: a server that does not know it goes by its schema, where these attributes have one value.
    """
    if not absent:
        return []
    terms = [_ber(0xA2, _ber(0x87, attribute.encode("ascii"))) for attribute in absent]
    return [(_ASSERTION, False, _ber(0xA0, b"".join(terms)))]


def _ber(tag: int, content: bytes) -> bytes:
    length = len(content)
    head = bytes([length]) if length < 128 else bytes([0x81, length])
    return bytes([tag]) + head + content
