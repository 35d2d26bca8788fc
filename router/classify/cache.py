"""
Classifications by address key, guarded by epochs (barrier rule 4).

Guarantees:
- `get` never returns an answer older than a change that has been applied to any of its keys; neither does a slow
  answer get in after such a change: `admit` refuses it, and the caller asks again.
- Three kinds of answers are told apart. A *firm* one rests on one mailbox that has exactly this address: it goes with
  a change of the address or of a mailbox on its chain. A *derived* one also rests on what was not found (alias
  domain, extension, list, service), a *denied* one on nothing else: both go with any change of any mailbox or
  address, because nobody can say which addresses a change has made.
- Denied answers live for a short time only, and none survives a source that fails.
- Memory is bounded: entries of each kind, and the record of recent changes. When that record is cut, the epoch below
  which nothing is admitted rises.

Event-loop thread only; nothing awaits and nothing fails.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto

from router.model.change import Change, ChangeKind, ChangeSet
from router.model.route import Classification

DEFAULT_ENTRIES = 50_000
DEFAULT_RECENT = 50_000
DENIED_LIFETIME = 15.0
"""Seconds. Long enough for the recipients of one message and its retries, short enough for a mailbox just made."""


class Standing(Enum):
    """What an answer rests on."""

    FIRM = auto()
    DERIVED = auto()
    DENIED = auto()


@dataclass(frozen=True, slots=True)
class Ticket:
    """Taken before a question is asked; an answer is admitted only with a ticket of the present generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class _Denied:
    found: Classification
    expires: float


class Cache:
    """The cache of one classifier. `entries` bounds firm answers; derived and denied ones get half as many each."""

    def __init__(self, entries: int = DEFAULT_ENTRIES, recent: int = DEFAULT_RECENT) -> None:
        self._entries = max(1, entries)
        self._few = max(1, entries // 2)
        self._bound = max(1, recent)
        self._firm: OrderedDict[str, Classification] = OrderedDict()
        self._derived: OrderedDict[str, Classification] = OrderedDict()
        self._denied: OrderedDict[str, _Denied] = OrderedDict()
        self._named_by: dict[str, set[str]] = {}
        """Mailbox key to the firm entries with that mailbox on their chain, their own address excepted."""
        self._recent: OrderedDict[str, int] = OrderedDict()
        """Address or mailbox key to the epoch of its last change, oldest change first."""
        self._floor = -1
        self._touched = -1
        """Epoch of the last change of any mailbox or address."""
        self._generation = 0
        self.applied = -1
        """All changes up to this epoch are in force here."""

    def __len__(self) -> int:
        return len(self._firm) + len(self._derived) + len(self._denied)

    def get(self, key: str, now: float) -> Classification | None:
        """The valid answer for an address key, or None. `now` is monotonic seconds."""
        found = self._firm.get(key)
        if found is not None:
            self._firm.move_to_end(key)
            return found
        found = self._derived.get(key)
        if found is not None:
            self._derived.move_to_end(key)
            return found
        denied = self._denied.get(key)
        if denied is None:
            return None
        if now < denied.expires:
            return denied.found
        del self._denied[key]
        return None

    def ticket(self) -> Ticket:
        """To be taken before the sources (and the rules) are read."""
        return Ticket(self._generation)

    def admit(self, found: Classification, standing: Standing, ticket: Ticket, expires: float = 0.0) -> bool:
        """
        Take an answer in, unless a change has overtaken it: False, ask again.

        `found.epoch` is the epoch of the read; `expires` (monotonic seconds) matters for denied answers only.
        """
        key = found.address.key
        if ticket.generation != self._generation or self._overtaken(key, found, standing):
            return False
        self._forget(key)
        match standing:
            case Standing.FIRM:
                self._firm[key] = found
                self._name(key, found)
                if len(self._firm) > self._entries:
                    self._forget_firm(next(iter(self._firm)))
            case Standing.DERIVED:
                self._derived[key] = found
                if len(self._derived) > self._few:
                    self._derived.popitem(last=False)
            case Standing.DENIED:
                self._denied[key] = _Denied(found, expires)
                if len(self._denied) > self._few:
                    self._denied.popitem(last=False)
        return True

    def apply(self, changes: ChangeSet) -> None:
        """Put changes into force: what they touch is forgotten, and no older answer gets in any more."""
        for change in changes.changes:
            if change.kind in (ChangeKind.MAILBOX, ChangeKind.ADDRESS):
                self._apply_key(change)
            else:
                self.forget_all(max(change.epoch, changes.epoch))
        self.applied = max(self.applied, changes.epoch)

    def forget_all(self, epoch: int) -> None:
        """Drop everything; answers read before `epoch`, or asked for before this call, stay out."""
        self._firm.clear()
        self._named_by.clear()
        self.forget_soft()
        self._recent.clear()
        self._floor = max(self._floor, epoch)
        self.applied = max(self.applied, epoch)
        self._generation += 1

    def forget_denied(self) -> None:
        """A source has failed: what it denied before is doubt now."""
        self._denied.clear()

    def distrust(self) -> None:
        """A directory has gone silent: what rests on what was not found is asked anew, answers on their way too."""
        self.forget_soft()
        self._generation += 1

    def forget_soft(self) -> None:
        """Drop every answer that rests on what was not found."""
        self._derived.clear()
        self._denied.clear()

    def _apply_key(self, change: Change) -> None:
        key = change.key
        self._forget_firm(key)
        for named in tuple(self._named_by.get(key, ())):
            self._forget_firm(named)
        self.forget_soft()
        self._touched = max(self._touched, change.epoch)
        self._recent[key] = max(change.epoch, self._recent.get(key, -1))
        self._recent.move_to_end(key)
        while len(self._recent) > self._bound:
            _, epoch = self._recent.popitem(last=False)
            self._floor = max(self._floor, epoch)

    def _overtaken(self, key: str, found: Classification, standing: Standing) -> bool:
        if found.epoch < self._floor:
            return True
        if standing is not Standing.FIRM:
            return found.epoch < self._touched
        recent = self._recent
        return recent.get(key, -1) > found.epoch or any(recent.get(one, -1) > found.epoch for one in found.chain)

    def _name(self, key: str, found: Classification) -> None:
        for mailbox in found.chain:
            if mailbox != key:
                self._named_by.setdefault(mailbox, set()).add(key)

    def _forget(self, key: str) -> None:
        self._forget_firm(key)
        self._derived.pop(key, None)
        self._denied.pop(key, None)

    def _forget_firm(self, key: str) -> None:
        found = self._firm.pop(key, None)
        if found is None:
            return
        for mailbox in found.chain:
            named = self._named_by.get(mailbox)
            if named is not None:
                named.discard(key)
                if not named:
                    del self._named_by[mailbox]
