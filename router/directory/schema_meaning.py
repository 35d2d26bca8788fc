"""
The `Meaning` of a configured directory: its interpreter, and the filters of its attribute map.

Guarantees: pure, and safe for several threads. Questions that the map has no words for are not asked at all (a
catch-all where no attribute holds one): an empty filter, never one that matches nothing.
"""

from collections.abc import Mapping, Sequence

from router.directory import filters
from router.directory.interpret import Interpreter
from router.model.directory import DirectoryItem, RawEntry, Unplaced
from router.settings.directory import Ldap
from router.settings.schema import Store


class SchemaMeaning:
    """A `Meaning` for one source. `stores` are those of the configuration, `hostname` is our own."""

    def __init__(self, source: Ldap, stores: Mapping[str, Store], hostname: str) -> None:
        self._interpreter = Interpreter(source, stores, hostname)
        self._map = self._interpreter.map
        self._attributes = filters.attributes(self._map)
        self._all = filters.all_filter(self._map)
        self.write_status = self._interpreter.status_attribute
        self.write_hold = self._interpreter.hold_value
        self.write_home = self._interpreter.home_attribute

    def item(self, raw: RawEntry) -> DirectoryItem | Unplaced | None:
        return self._interpreter.item(raw)

    def attributes(self) -> Sequence[str]:
        return self._attributes

    def filter_for(self, keys: Sequence[str]) -> str:
        return filters.filter_for(self._map, keys)

    def domain_filter_for(self, domains: Sequence[str]) -> str:
        return filters.domain_filter_for(self._map, domains)

    def all_filter(self) -> str:
        return self._all

    def carries(self, item: DirectoryItem, key: str) -> bool:
        return filters.carries(item, key)

    def host_of(self, store: str) -> str:
        return self._interpreter.host_of(store)
