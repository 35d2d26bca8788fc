"""
The LDAP directories of the site, as commands use them: what writes into them, and what looks people up there.

Guarantees: nothing is connected before it is asked for, and everything is closed with the command. A lookup takes into
the mirror only what is a complete answer: besides the addresses asked for, the mailboxes found are asked for by name,
so that an entry which merely does not have that one address is not taken for one that was renamed.

On failure: `LookupFailed`. What the directories that did answer have said is in the mirror then.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from router.control.database import ControlDatabase
from router.control.mirrors import mirror_of
from router.directory.faults import Fault
from router.directory.inquiry import Inquiry
from router.directory.schema_meaning import SchemaMeaning
from router.directory.servers import Servers
from router.directory.writer import LdapWriter
from router.errors import LookupFailed
from router.model.directory import DirectoryItem, Entry
from router.ports import DirectoryWriter
from router.settings.directory import Ldap
from router.settings.schema import Settings

_TOGETHER = 100
"""Keys in one search: servers limit the entries of an answer, and the octets of a question."""


def meaning_of(settings: Settings, source: Ldap) -> SchemaMeaning:
    """What the entries of a directory mean."""
    return SchemaMeaning(source, settings.stores, settings.hostname)


class Directories:
    """For one command, in its thread. The database is opened when people are taken in."""

    def __init__(self, settings: Settings, database: Callable[[], ControlDatabase]) -> None:
        self._settings = settings
        self._database = database
        self._writers: dict[str, LdapWriter] | None = None

    def writers(self) -> Mapping[str, DirectoryWriter]:
        """One for each directory, by its name. They connect when they are used."""
        if self._writers is None:
            self._writers = {
                name: LdapWriter(one, meaning_of(self._settings, one)) for name, one in self._settings.ldaps.items()
            }
        return self._writers

    def fetch(self, keys: Sequence[str]) -> None:
        """Look address keys up in all directories, now, and take what is found into the mirror."""
        if not keys:
            return
        failure: LookupFailed | None = None
        for source in self._settings.ldaps.values():
            try:
                self._fetch(source, keys)
            except LookupFailed as error:
                failure = failure or LookupFailed(f"the directory {source.name}: {error.private}")
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Idempotent."""
        writers, self._writers = self._writers, None
        for writer in (writers or {}).values():
            writer.close()

    def _fetch(self, source: Ldap, keys: Sequence[str]) -> None:
        asked = time.time()
        with closing(Servers(source)) as servers:
            items = _complete(Inquiry(source, meaning_of(self._settings, source), servers), keys, source.deadline)
        if items:
            mirror_of(self._database(), self._settings, source.name).confirm(items, asked)


def _complete(inquiry: Inquiry, keys: Sequence[str], deadline: float) -> list[DirectoryItem]:
    """The entries that have the keys, and all that are the same mailboxes."""
    found = _ask(inquiry, keys, deadline)
    mailboxes = {item.key for item in found.values() if isinstance(item, Entry)}
    found |= _ask(inquiry, sorted(mailboxes.difference(keys)), deadline)
    return list(found.values())


def _ask(inquiry: Inquiry, keys: Sequence[str], deadline: float) -> dict[str, DirectoryItem]:
    found: dict[str, DirectoryItem] = {}
    for start in range(0, len(keys), _TOGETHER):
        told = inquiry.ask(keys[start : start + _TOGETHER], time.monotonic() + deadline)
        for answer in told.answers.values():
            if isinstance(answer, Fault):
                raise answer
            found.update((item.dn, item) for item in answer)
    return found
