"""
A worker's end of the directories: how old what it knows of each is, and whom to ask for those it does not know.

Guarantees: a reload swaps the directories in one synchronous step; questions under way to the former ones end as
temporary failures. On failure: see `beyond` and `directory_ages`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from router.control.database import ControlDatabase
from router.control.directory_alarms import DOWN
from router.control.mirrors import mirror_of
from router.daemon.beyond import Everywhere, Fetcher
from router.daemon.directory_ages import DirectoryAges
from router.model.directory import DirectoryState
from router.ports import Clock
from router.settings.directory import Ldap
from router.settings.schema import Settings


class Directories:
    """
    Event-loop thread only. `woken`: mail that waited for a directory may go on; `doubted`: what one did not know is
    no answer any more. `alarm` takes kind, key and text.
    """

    def __init__(
        self,
        database: ControlDatabase,
        clock: Clock,
        *,
        woken: Callable[[], None],
        doubted: Callable[[], None],
        alarm: Callable[[str, str, str], None],
    ) -> None:
        self._database = database
        self._doubted = doubted
        self.ages = DirectoryAges(clock, woken=woken, doubted=doubted, alarm=partial(alarm, DOWN))
        self.beyond = Everywhere()

    def use(self, settings: Settings) -> Callable[[], Awaitable[None]]:
        """Ask the directories of this configuration from now on; the caller awaits what lets go of the former ones."""
        self.ages.use(settings)
        former = self.beyond.use([self._fetcher(settings, ldap) for ldap in settings.ldaps.values()])

        async def let_go() -> None:
            await asyncio.gather(*(fetcher.close() for fetcher in former))

        return let_go

    def saw(self, states: Sequence[DirectoryState]) -> None:
        """The control database says how the directories are followed."""
        self.ages.saw(states)

    async def silence(self) -> None:
        """Ask nobody any more: who waits for an answer gets none, which is a temporary failure."""
        await self.beyond.silence()

    async def close(self) -> None:
        """End what is under way."""
        await self.beyond.close()

    def _fetcher(self, settings: Settings, ldap: Ldap) -> Fetcher:
        # Where nobody comes from LDAP, a worker needs no library for it: it costs a fifth of a second and memory.
        from router.directory.lookups import LdapLookups  # noqa: PLC0415 - see above
        from router.directory.schema_meaning import SchemaMeaning  # noqa: PLC0415 - see above

        meaning = SchemaMeaning(ldap, settings.stores, settings.hostname)
        mirror = partial(mirror_of, self._database, settings, ldap.name)
        return Fetcher(ldap.name, LdapLookups(ldap, meaning), mirror, self._doubted)
