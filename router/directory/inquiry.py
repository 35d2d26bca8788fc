"""
One search for many address keys, and what it means for each of them. Blocking.

Guarantees: an entry counts for a key only when it carries that key, whatever the server's own rules of comparison say.
An entry that matches and carries none of the keys is doubt about the key that it matched, never a "no"; and because an
entry that carries one key may have matched another as well, a "no" comes only from a search that found nobody: keys
without an entry are asked for once more, without those that have one. One key that cannot be answered, because its
entry makes no sense or the answer exceeds the server's limits, spoils no other key's answer: the keys are asked for in
halves until it stands alone.

On failure: never raises `Fault`; the answer of a key is one instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.directory.connection import LdapConnection
from router.directory.faults import Fault, Muddled, Unfit
from router.directory.meaning import Meaning
from router.directory.printable import printable
from router.directory.search_message import Question
from router.directory.servers import Servers
from router.model.directory import DirectoryItem, DomainEntry, Entry, RawEntry, Unplaced, is_catch_all
from router.settings.directory import Ldap

Items = tuple[DirectoryItem, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """By key: the entries that carry it and those of its domain, or why no answer. `outage`: no server answered."""

    answers: Mapping[str, Items | Fault]
    outage: bool


class Inquiry:
    """Asks one directory; thread-safe."""

    def __init__(self, source: Ldap, meaning: Meaning, servers: Servers) -> None:
        self._source = source
        self._meaning = meaning
        self._servers = servers
        self._attributes = tuple(meaning.attributes())

    def ask(self, keys: Sequence[str], until: float, *, whole: bool = False) -> Told:
        """
        An answer for each of the keys, by `until` (`time.monotonic()`).

        `whole`: beside each catch-all stand the addresses for whose sake it is asked for. When all addresses have an
        entry, there is no entry for a catch-all as far as the server said; nobody looks whether that is a "no".
        """
        answers: dict[str, Items | Fault] = {}
        parts = [tuple(keys)]
        while parts:
            part = parts.pop()
            try:
                found = self._search(part, until)
                denied = [key for key in part if not any(isinstance(item, Entry) for item in found[key])]
                if whole and len(part) == len(keys) > len(denied) and all(map(is_catch_all, denied)):
                    denied = []
                if denied and len(denied) < len(part):
                    found = {key: items for key, items in found.items() if key not in denied}
                    parts.append(tuple(denied))
                answers.update(found)
            except Unfit as error:
                if len(part) == 1:
                    answers[part[0]] = error
                else:
                    half = len(part) // 2
                    parts += [part[:half], part[half:]]
            except Fault as error:
                unanswered = [key for rest in (part, *parts) for key in rest]
                return Told(answers | dict.fromkeys(unanswered, error), outage=True)
        return Told(answers, outage=False)

    def _search(self, keys: tuple[str, ...], until: float) -> dict[str, Items]:
        questions = self._questions(keys)

        def work(connection: LdapConnection, until: float) -> list[RawEntry]:
            return [raw for question in questions for raw in connection.search(question, until)]

        found = {raw.dn: raw for raw in self._servers.run(work, until)}
        answers: dict[str, list[DirectoryItem]] = {key: [] for key in keys}
        for raw in found.values():
            item = self._item(raw)
            carried = [key for key in keys if self._meaning.carries(item, key)]
            # A filter on parts of a name may well find other domains; nobody may be found by another name.
            if not carried and not isinstance(item, DomainEntry):
                raise Muddled(f"{printable(raw.dn)} was found for an address that it does not have")
            for key in carried:
                answers[key].append(item)
        return {key: tuple(items) for key, items in answers.items()}

    def _item(self, raw: RawEntry) -> DirectoryItem:
        item = self._meaning.item(raw)
        if item is None:
            raise Muddled(f"{printable(raw.dn)} was found, but what it is cannot be told")
        if isinstance(item, Unplaced):
            raise Muddled(f"{printable(raw.dn)}: {printable(item.problem)}")
        return item

    def _questions(self, keys: tuple[str, ...]) -> list[Question]:
        people = self._meaning.filter_for(keys)
        domains = self._meaning.domain_filter_for(sorted({key.rpartition("@")[2] for key in keys}))
        base, domain_base = self._source.base, self._source.domain_base or self._source.base
        if people and domains and domain_base == base:
            return [Question(base, f"(|{people}{domains})", self._attributes)]
        asked = ((base, people), (domain_base, domains))
        return [Question(where, text, self._attributes) for where, text in asked if text]
