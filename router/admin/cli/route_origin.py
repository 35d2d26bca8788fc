"""
What the mirror has of a person of a directory, and how old that is, for `sluice route`.

Guarantees: one read transaction a person; nothing is changed. Ages are those by which a worker decides
(`control.freshness`), reckoned by the wall clock, which is all that a command has.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from router.admin.cli.directory_age import Age, age_of, unnamed
from router.admin.cli.status_view import any_alive
from router.control import entries, following, losses, mailboxes, members
from router.control.database import ControlDatabase
from router.control.schema import DATABASE
from router.model.directory import DirectoryState, Entry
from router.model.mailbox import Mailbox
from router.settings.directory import Ldap


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a mailbox comes from. `live`: the directory was asked just now, and the mirror does not have it."""

    source: str
    dn: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    age: Age | None = None
    live: bool = False
    doubt: str = ""

    def fields(self) -> list[tuple[str, object]]:
        """What is shown of it."""
        pairs: list[tuple[str, object]] = [("entry", self.dn)] if self.dn else []
        pairs += [(f"  {name}", value) for name, value in self.attributes]
        pairs += [("doubt", self.doubt)] if self.doubt else []
        if self.live:
            return [*pairs, ("data", "not in the mirror yet; the directory says so, asked just now")]
        return [*pairs, ("data", self.age.text())] if self.age is not None else pairs

    def named(self) -> dict[str, list[str]]:
        """The attributes' values by name."""
        found: dict[str, list[str]] = {}
        for name, value in self.attributes:
            found.setdefault(name, []).append(value)
        return found


def shown(source: str, entry: Entry, age: Age | None, *, live: bool = False) -> Origin:
    """The origin that an entry is."""
    return Origin(source, entry.dn, entry.shown, age, live, entry.doubt)


class Origins:
    """`sources` are the directories of the configuration by name."""

    def __init__(self, database: ControlDatabase, sources: Mapping[str, Ldap]) -> None:
        self._database = database
        self._sources = sources

    async def of(self, mailbox: Mailbox) -> Origin:
        """Where it comes from. Raises `ControlUnavailable`."""
        if mailbox.source == DATABASE:
            return Origin(DATABASE)
        return await asyncio.to_thread(self._database.run_read, partial(self._of, mailbox=mailbox))

    async def of_keys(self, keys: Sequence[str]) -> tuple[Mailbox, Origin] | None:
        """The first mailbox that has any of the address keys, in dispute or not. Raises `ControlUnavailable`."""
        known = await asyncio.to_thread(self._database.run_read, partial(mailboxes.find, keys=keys))
        found = [known.mailboxes[key] for key in keys if key in known.mailboxes]
        return (found[0], await self.of(found[0])) if found else None

    async def lost(self, keys: Sequence[str]) -> str:
        """Why the keys are not to be called unknown; '' when nothing speaks against it. Raises `ControlUnavailable`."""
        told = await asyncio.to_thread(self._database.run_read, partial(losses.doubtful, keys=keys))
        return next(iter(told.values()), "")

    def _of(self, connection: Connection, mailbox: Mailbox) -> Origin:
        known = entries.of_keys(connection, [mailbox.key]).get(mailbox.key, [])
        mine = [one.entry for one in known if one.source == mailbox.source]
        age = self._age(connection, mailbox.source)
        return shown(mailbox.source, mine[0], age) if mine else Origin(mailbox.source, age=age)

    def _age(self, connection: Connection, source: str) -> Age:
        state = next((one for one in following.states(connection) if one.source == source), DirectoryState(source))
        settings, running = self._sources.get(source), any_alive(members.all_members(connection))
        if settings is None:
            return unnamed(state, running=running)
        return age_of(state, settings, running=running, now=time.time())
