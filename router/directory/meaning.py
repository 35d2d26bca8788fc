"""
What the client of a directory needs to know of its schema: a protocol, so that it can be tested without any preset.

A meaning turns what was sent into what it is to us, and questions of ours into filters (RFC 4515). It is pure, and
used by several threads at a time.
"""

from collections.abc import Sequence
from typing import Protocol

from router.model.directory import DirectoryItem, RawEntry, Unplaced


class Meaning(Protocol):
    """One attribute map at work."""

    write_status: str
    """Attribute that `hold` and `release` write; '' where the directory knows no hold."""
    write_hold: str
    """Its value that means hold."""
    write_home: str
    """Attribute that `move` writes; '' where it must not be written."""

    def item(self, raw: RawEntry) -> DirectoryItem | Unplaced | None:
        """What the entry is; None: nothing of ours. Never raises, whatever the entry holds."""

    def attributes(self) -> Sequence[str]:
        """The attributes that `item` reads."""

    def filter_for(self, keys: Sequence[str]) -> str:
        """
        People and groups with any of these address keys, their values escaped; '' where the map has no words for
        them (a catch-all, and no attribute that holds one). Never called without a key.
        """

    def domain_filter_for(self, domains: Sequence[str]) -> str:
        """
        The entries of these domains; '' where the map has no domains.

        Never a filter that matches nothing: servers walk through all entries for a `(!…)`.
        """

    def all_filter(self) -> str:
        """All people, groups and domains."""

    def carries(self, item: DirectoryItem, key: str) -> bool:
        """Whether the entry has that address key, or is the key's domain: the cross-check of what a server returned."""

    def host_of(self, store: str) -> str:
        """The value of the home attribute that means this store. Raises `NotFound`."""
