"""
The checker: compares what was acknowledged to clients with what stores saw and what the relay says it keeps.

Guarantees: looks at every (message, recipient) of both sides, so a message that vanished and one that appeared from
nowhere are both found; a duplicate is only accepted for a reason given for it, and is then listed by name.
All times are CLOCK_MONOTONIC seconds. Pure but for the memory it collects in; nothing is read or written.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from math import inf

from router.ledger.arrival import Arrival
from router.ledger.load import Fate, Submission
from router.ledger.verdict import Balance, Excused, Rule, Verdict, Violation

Key = tuple[str, str]
"""Tag and folded recipient."""

KEPT = frozenset({"held", "queued", "parked", "quarantined"})
CLOSED = frozenset({"returned", "removed", "merged", "forwarded"})
PLACES = KEPT | CLOSED
"""Where the relay may say that an acknowledged recipient is, beside delivered."""


@dataclass(frozen=True, slots=True)
class Window:
    """From the barrier of a hold to the beginning of its release: nothing may reach a store for `mailbox`."""

    mailbox: str
    opened: float
    closed: float = inf


@dataclass(frozen=True, slots=True)
class _Delivery:
    """One recipient of one arrival."""

    key: Key
    arrival: Arrival
    recipient: str
    code: int

    @property
    def taken(self) -> bool:
        """The store said yes, or took it without a word."""
        return self.code == 0 or 200 <= self.code < 300

    @property
    def where(self) -> str:
        said = f"said {self.code}" if self.code else "did not answer"
        return f"{self.arrival.store} at {self.arrival.at:.3f} ({said})"


class Ledger:
    """
    Collects both sides, then `check`s them.

    `allowed` names the stores that may see mail for a recipient at a time. `mailbox_of` maps an address to the
    mailbox whose windows count for it (an alias to its owner); by default the address in lower case.
    """

    def __init__(
        self,
        *,
        allowed: Callable[[str, float], Collection[str]] | None = None,
        mailbox_of: Callable[[str], str] = str.lower,
    ) -> None:
        self._allowed = allowed
        self._mailbox_of = mailbox_of
        self.fates: dict[Key, Fate] = {}
        self._digests: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._deliveries: dict[Key, list[_Delivery]] = defaultdict(list)
        self._places: dict[Key, list[str]] = defaultdict(list)
        self._journal: set[Key] | None = None
        self._windows: dict[str, list[Window]] = defaultdict(list)
        self._excuses: dict[Key, list[str]] = defaultdict(list)
        self._crashes: list[tuple[float, float, str]] = []
        self._untagged = 0

    @property
    def acknowledged(self) -> frozenset[Key]:
        """What clients were told is kept."""
        return frozenset(key for key, fate in self.fates.items() if fate is Fate.ACKNOWLEDGED)

    @property
    def unanswered(self) -> frozenset[Key]:
        """What clients do not know about."""
        return frozenset(key for key, fate in self.fates.items() if fate is Fate.UNANSWERED)

    # --- what happened

    def submitted(self, submissions: Iterable[Submission]) -> None:
        """What the load generator offered; before `arrived`."""
        for submission in submissions:
            self._digests[submission.tag] = submission.digest
            self._tags[submission.digest] = submission.tag
            for recipient, fate in zip(submission.recipients, submission.fates, strict=True):
                self.fates[_key(submission.tag, recipient)] = fate

    def arrived(self, arrivals: Iterable[Arrival]) -> None:
        """What a store recorded. Arrivals without a tag are known by their content, if at all."""
        for arrival in arrivals:
            tag = arrival.tag or self._tags.get(arrival.digest, "")
            if not tag:
                self._untagged += 1
                continue
            for recipient, code in arrival.recipients:
                key = _key(tag, recipient)
                self._deliveries[key].append(_Delivery(key, arrival, recipient, code))

    def kept(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """
        (tag, recipient, place) of each recipient that the relay has, or closed otherwise than by delivery.

        Raises `ValueError` for a place that is none of `PLACES`.
        """
        for tag, recipient, place in rows:
            if place not in PLACES:
                raise ValueError(f"{place!r} is no place of a recipient")
            self._places[_key(tag, recipient)].append(place)

    def journal(self, delivered: Iterable[tuple[str, str]]) -> None:
        """(tag, recipient) of each delivery in the journal; from then on it is compared with the stores."""
        self._journal = (self._journal or set()) | {_key(tag, recipient) for tag, recipient in delivered}

    def window(self, mailbox: str, opened: float, closed: float = inf) -> None:
        """A time in which nothing may reach a store for a mailbox."""
        self._windows[self._mailbox_of(mailbox)].append(Window(mailbox, opened, closed))

    def excuse(self, tag: str, recipient: str, reason: str) -> None:
        """One more delivery than one is all right for this recipient (a delivery in doubt, named by the relay)."""
        self._excuses[_key(tag, recipient)].append(reason)

    def crash(self, began: float, ended: float, reason: str) -> None:
        """
        The relay was killed: dots of this interval may not have been written down, and come again.

        Keep it short: from the kill back to the longest time between a store's reply and its commit.
        """
        self._crashes.append((began, ended, reason))

    # --- the check

    def check(self) -> Verdict:
        """Every rule over everything collected so far."""
        keys = sorted(self.fates.keys() | self._deliveries.keys() | self._places.keys() | (self._journal or set()))
        violations: list[Violation] = []
        excused: list[Excused] = []
        extra = excused_extra = 0
        for key in keys:
            violations.extend(self._of(key))
            surplus = max(len(self._taken(key)) - 1, 0)
            reasons = self._reasons(key)
            extra += surplus
            if surplus:
                excused_extra += min(surplus, len(reasons))
                excused += [Excused(*key, tuple(d.where for d in self._taken(key)), reasons)] if reasons else []
        balance = self._balance(extra, excused_extra)
        return Verdict(balance, tuple(violations), tuple(excused), len(self.unanswered), self._untagged)

    def _of(self, key: Key) -> Iterator[Violation]:
        for rule, detail in (
            *self._lost(key),
            *self._routes(key),
            *self._windows_broken(key),
            *self._duplicates(key),
            *self._contents(key),
            *self._unexpected(key),
            *self._booked(key),
            *self._compared(key),
        ):
            yield Violation(rule, *key, detail)

    def _taken(self, key: Key) -> list[_Delivery]:
        return [delivery for delivery in self._deliveries.get(key, ()) if delivery.taken]

    def _delivered(self, key: Key) -> bool:
        """A store said yes: a store that took it and said nothing does not free the relay of it."""
        return any(delivery.code for delivery in self._taken(key))

    def _lost(self, key: Key) -> Iterator[tuple[Rule, str]]:
        acknowledged = self.fates.get(key) is Fate.ACKNOWLEDGED
        if acknowledged and not self._delivered(key) and not self._places.get(key):
            seen = ", ".join(delivery.where for delivery in self._deliveries.get(key, ())) or "no store saw it"
            yield Rule.LOST, f"acknowledged, but {seen}, and the relay does not have it"

    def _routes(self, key: Key) -> Iterator[tuple[Rule, str]]:
        if self._allowed is None:
            return
        for delivery in self._deliveries.get(key, ()):
            stores = self._allowed(delivery.recipient, delivery.arrival.at)
            if delivery.arrival.store not in stores:
                yield Rule.MISROUTED, f"{delivery.where}, but routed to {', '.join(sorted(stores)) or 'no store'}"

    def _windows_broken(self, key: Key) -> Iterator[tuple[Rule, str]]:
        for delivery in self._deliveries.get(key, ()):
            arrival = delivery.arrival
            for window in self._windows.get(self._mailbox_of(delivery.recipient), ()):
                if window.opened <= arrival.at <= window.closed or window.opened <= arrival.began <= window.closed:
                    yield Rule.IN_WINDOW, f"{delivery.where}, held from {window.opened:.3f} to {window.closed:.3f}"

    def _duplicates(self, key: Key) -> Iterator[tuple[Rule, str]]:
        taken = self._taken(key)
        if len(taken) - 1 > len(self._reasons(key)):
            yield Rule.DUPLICATED, "; ".join(delivery.where for delivery in taken)

    def _reasons(self, key: Key) -> tuple[str, ...]:
        """One reason for each further delivery that is allowed."""
        reasons = list(self._excuses.get(key, ()))
        for delivery in self._taken(key):
            at = delivery.arrival.at
            if delivery.code == 0:
                reasons.append(f"{delivery.arrival.store} did not answer at {at:.3f}")
            else:
                reasons += [reason for began, ended, reason in self._crashes if began <= at <= ended][:1]
        return tuple(reasons)

    def _contents(self, key: Key) -> Iterator[tuple[Rule, str]]:
        digest = self._digests.get(key[0])
        for delivery in self._deliveries.get(key, ()):
            if digest is not None and delivery.arrival.digest != digest:
                size = delivery.arrival.size
                yield Rule.ALTERED, f"{delivery.where}: {size} octets with digest {delivery.arrival.digest[:12]}…"
            elif not delivery.arrival.trace:
                yield Rule.ALTERED, f"{delivery.where}: no Received field of the relay on top"

    def _unexpected(self, key: Key) -> Iterator[tuple[Rule, str]]:
        fate = self.fates.get(key)
        if fate in (Fate.ACKNOWLEDGED, Fate.UNANSWERED, Fate.DECLINED):
            return
        why = "it was never offered" if fate is None else f"the client was told: {fate.value}"
        for delivery in self._deliveries.get(key, ()):
            yield Rule.UNEXPECTED, f"{delivery.where}, but {why}"

    def _booked(self, key: Key) -> Iterator[tuple[Rule, str]]:
        places = self._places.get(key, [])
        if len(places) > 1:
            yield Rule.BOOKED_TWICE, f"the relay has it as {', '.join(places)}"
        if places and self._delivered(key) and not self._reasons(key):
            where = ", ".join(delivery.where for delivery in self._taken(key))
            yield Rule.BOOKED_TWICE, f"the relay has it as {places[0]}, and {where}"

    def _compared(self, key: Key) -> Iterator[tuple[Rule, str]]:
        if self._journal is None:
            return
        if key in self._journal and not self._delivered(key):
            yield Rule.DISAGREEMENT, "delivered by the journal, but no store said yes to it"
        if key not in self._journal and self._delivered(key) and not self._reasons(key):
            yield Rule.DISAGREEMENT, "a store said yes to it, but the journal does not have that"

    def _balance(self, extra: int, excused: int) -> Balance:
        accepted = self.acknowledged
        delivered = {key for key in accepted if self._delivered(key)}
        places: dict[str, int] = defaultdict(int)
        for key in accepted - delivered:
            for place in self._places.get(key, ())[:1]:
                places[place] += 1
        lost = len(accepted) - len(delivered) - sum(places.values())
        return Balance(len(accepted), len(delivered), dict(places), lost, extra, excused)


def _key(tag: str, recipient: str) -> Key:
    return tag, recipient.lower()
