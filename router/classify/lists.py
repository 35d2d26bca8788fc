"""
Which list an address belongs to: posting addresses, their families, and the list managers' own addresses.

Guarantees: all addresses of one list lead to one store. A lookup costs one dictionary access for each hyphen of the
local part, however many lists there are. A list that two managers know (during a conversion) has the addresses of
both. With several candidates the list with the longest name wins, so that a list really named `news-digest` keeps its
own `news-digest-request`.

On failure: `ListConflict` at construction, for a list that is on two stores.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from router.classify.families import OWNER, Family, families
from router.errors import BadRouteData


class ListConflict(ValueError):
    """A list is given to two stores; the text names the list and both places."""


@dataclass(frozen=True, slots=True)
class MailingList:
    """One list as configured. `key` is its folded posting address, `origin` where that was written."""

    key: str
    store: str
    manager: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class ListMatch:
    """
    An address of a list. `base` is the key of the posting address, or '' for an address of a manager itself.

    `legacy` says that only one of several managers of this list has the form: it dies with that manager.
    """

    base: str
    store: str
    managers: tuple[str, ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    store: str
    families: tuple[Family, ...]
    origin: str


class ListTable:
    """All lists of the site; immutable, replaced as a whole on reload."""

    def __init__(self, lists: Iterable[MailingList] = ()) -> None:
        """Raises `ListConflict`."""
        self._entries: dict[str, _Entry] = {}
        self._site: dict[str, tuple[str, ...]] = {}
        for one in lists:
            self._add(one)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        """The posting addresses."""
        return iter(self._entries)

    def posting(self, key: str) -> ListMatch | None:
        """The list with exactly this address."""
        entry = self._entries.get(key)
        return None if entry is None else _match(key, entry, entry.families)

    def family(self, local: str, domain: str) -> ListMatch | None:
        """The list that the local part is a form of; its own posting address is not meant."""
        for prefix, rest in _without_owner(local):
            at = len(rest) if prefix else rest.rfind("-")
            while at > 0:
                base = f"{rest[:at]}@{domain}"
                entry = self._entries.get(base)
                knowing = _knowing(entry, prefix, rest[at:]) if entry is not None else ()
                if entry is not None and knowing:
                    return _match(base, entry, knowing)
                at = rest.rfind("-", 0, at)
        return None

    def site(self, local: str, domain: str) -> ListMatch | None:
        """
        The store of an address of a list manager itself, such as `majordomo`.

        Raises `BadRouteData` where list hosts of two stores claim it: a service entry for the address decides then.
        """
        key = f"{local}@{domain}"
        stores = self._site.get(key)
        if stores is None:
            return None
        if len(stores) > 1:
            raise BadRouteData(f"{key} belongs to list managers on {', '.join(stores)}: name it under services")
        return ListMatch("", stores[0], ())

    def _add(self, one: MailingList) -> None:
        family = families(one.manager)
        entry = self._entries.get(one.key)
        if entry is None:
            self._entries[one.key] = _Entry(one.store, (family,), one.origin)
        elif entry.store != one.store:
            places = f"{entry.store} ({entry.origin or '?'}) and {one.store} ({one.origin or '?'})"
            raise ListConflict(f"list {one.key} is on two stores: {places}")
        elif family not in entry.families:
            self._entries[one.key] = _Entry(entry.store, (*entry.families, family), entry.origin)
        domain = one.key.rpartition("@")[2]
        for local in family.site:
            key = f"{local}@{domain}"
            stores = self._site.get(key, ())
            if one.store not in stores:
                self._site[key] = (*stores, one.store)


def _without_owner(local: str) -> Iterator[tuple[str, str]]:
    yield "", local
    if local.startswith(OWNER) and local != OWNER:
        yield OWNER, local[len(OWNER) :]


def _knowing(entry: _Entry, prefix: str, suffix: str) -> tuple[Family, ...]:
    return tuple(family for family in entry.families if family.has(prefix, suffix))


def _match(base: str, entry: _Entry, knowing: tuple[Family, ...]) -> ListMatch:
    managers = tuple(family.manager for family in knowing)
    return ListMatch(base, entry.store, managers, legacy=len(knowing) < len(entry.families))
