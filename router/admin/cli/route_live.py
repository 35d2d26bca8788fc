"""
People whom the mirror does not have, asked of the directories themselves, for `sluice route`.

Guarantees: read-only: nothing is written into the mirror, and nothing is connected before somebody is missing. Who is
found is understood as the mirror would, the domain's status and the order of the sources included.

On failure: `LookupFailed`: while a directory does not answer, nobody is called unknown.
"""

import time
from collections.abc import Collection, Mapping, Sequence

from router.control.desired import believed, desire
from router.control.entries import Known
from router.errors import LookupFailed
from router.model.directory import DirectoryItem, DomainEntry, Entry
from router.model.mailbox import Found, Hold, Mailbox, Status
from router.ports import DirectoryReader, MailboxSource


class LiveSource:
    """A `MailboxSource`: the mirror, and behind it the directories. `ranks` are their places in the configuration."""

    def __init__(
        self,
        mirror: MailboxSource,
        readers: Mapping[str, DirectoryReader],
        ranks: Mapping[str, int],
        never_held: Collection[str],
    ) -> None:
        self._mirror = mirror
        self._readers = readers
        self._ranks = ranks
        self._never = never_held
        self.found: dict[str, Known] = {}
        """By mailbox: the entry that was found and believed."""

    async def find(self, keys: Sequence[str]) -> Found:
        """As `MailboxSource.find`. Raises `LookupFailed`."""
        told = await self._mirror.find(keys)
        missing = [key for key in keys if key not in told.mailboxes]
        if not missing:
            return told
        people, domains = await self._ask(missing)
        known = await self._known({one.entry.key for one in people})
        disputed = dict(told.disputed)
        added: dict[str, Mailbox] = {}
        for key in missing:
            owners = sorted({one.entry.key for one in people if key in one.entry.addresses})
            if len(owners) > 1:
                disputed[key] = f"{key} belongs to {' and '.join(owners)}"
            if owners:
                entries = [one for one in people if one.entry.key == owners[0]]
                added[key] = known.get(owners[0]) or self._mailbox(entries, domains)
                if added[key].problem and added[key].hold is None:
                    disputed.setdefault(key, added[key].problem)
        doubtful = {key: why for key, why in told.doubtful.items() if key not in added}
        return Found(told.epoch, {**told.mailboxes, **added}, disputed, doubtful)

    async def populated(self, domain: str) -> bool:
        """As `MailboxSource.populated`."""
        return await self._mirror.populated(domain)

    async def close(self) -> None:
        for reader in self._readers.values():
            await reader.close()

    async def _ask(self, keys: Sequence[str]) -> tuple[list[Known], dict[tuple[str, str], DomainEntry]]:
        people: list[Known] = []
        domains: dict[tuple[str, str], DomainEntry] = {}
        for name, reader in self._readers.items():
            for item in await self._items(name, reader, keys):
                if isinstance(item, Entry):
                    people.append(Known(0, name, item))
                else:
                    domains.update({(name, one): item for one in (item.domain, *item.also)})
        return people, domains

    async def _known(self, mailboxes: set[str]) -> dict[str, Mailbox]:
        """Those of the mailboxes that only lack the address: holds of ours stand there and in no directory."""
        told = await self._mirror.find(sorted(mailboxes)) if mailboxes else None
        return {key: one for key, one in told.mailboxes.items() if one.key == key} if told is not None else {}

    async def _items(self, name: str, reader: DirectoryReader, keys: Sequence[str]) -> Sequence[DirectoryItem]:
        try:
            return await reader.find(keys)
        except LookupFailed as error:
            raise LookupFailed(f"the directory {name}: {error.private}", reply=error.reply) from error

    def _mailbox(self, people: Sequence[Known], domains: Mapping[tuple[str, str], DomainEntry]) -> Mailbox:
        first = believed(people, self._ranks)
        key = first[0].entry.key
        self.found[key] = first[0]
        holdable = set(first[0].entry.addresses).isdisjoint(self._never)
        wanted = desire(first, domains, None, holdable=holdable)
        hold = Hold(0, time.time(), 0, reason=f"status in {wanted.source}", origin="directory")
        return Mailbox(
            key,
            wanted.home,
            wanted.status(Status.ACTIVE),
            hold if wanted.held else None,
            source=wanted.source,
            kind=wanted.kind,
            forwards=wanted.forwards,
            keeps=wanted.keeps,
            route=wanted.route,
            problem=wanted.problem,
        )
