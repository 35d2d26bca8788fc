"""
What the checker of the ledger found: the balance, each violation, and each duplicate that has an excuse.

Pure values and their text for a person.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """The rules that can be broken."""

    LOST = "lost"
    """Acknowledged, and neither at a store nor anywhere in the relay."""
    MISROUTED = "misrouted"
    """At a store to which it was not routed at that time."""
    IN_WINDOW = "in-window"
    """At a store between the barrier and the release of its mailbox."""
    DUPLICATED = "duplicated"
    """Taken by stores more often than once, without a named excuse."""
    ALTERED = "altered"
    """Other octets than were sent, below the relay's own Received field."""
    UNEXPECTED = "unexpected"
    """At a store though it was never offered, or was refused."""
    BOOKED_TWICE = "booked-twice"
    """In two places at once: taken by a store and still kept, or kept in two states."""
    DISAGREEMENT = "disagreement"
    """The journal and the stores do not tell the same story."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule for one recipient of one message."""

    rule: Rule
    tag: str
    recipient: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule.value}: {self.tag} for {self.recipient}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Excused:
    """A message that stores took more than once, with the reasons why that is allowed."""

    tag: str
    recipient: str
    stores: tuple[str, ...]
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.tag} for {self.recipient} at {', '.join(self.stores)}: {'; '.join(self.reasons)}"


@dataclass(frozen=True, slots=True)
class Balance:
    """Counts of acknowledged recipients. Each is in one place; `extra` deliveries come on top."""

    accepted: int
    delivered: int
    places: Mapping[str, int]
    """The other places by name: held, queued, parked, returned, …"""
    lost: int
    extra: int
    excused: int
    """Of `extra`, those with a named excuse."""

    @property
    def even(self) -> bool:
        return self.lost == 0 and self.accepted == self.delivered + sum(self.places.values())

    def __str__(self) -> str:
        shown = ("held", "queued", "parked", "returned")
        others = [name for name, count in self.places.items() if count and name not in shown]
        terms = " + ".join(f"{name} {self.places.get(name, 0)}" for name in (*shown, *others))
        line = f"accepted {self.accepted} = delivered {self.delivered} + {terms}, lost {self.lost}"
        excused = f" ({self.excused} in doubt, named below)" if self.excused else ""
        return f"{line}, duplicated {self.extra}{excused}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one check."""

    balance: Balance
    violations: tuple[Violation, ...]
    excused: tuple[Excused, ...]
    unanswered: int
    """Recipients of messages whose dot got no reply: they may have been accepted or not."""
    untagged: int
    """Arrivals that are not the ledger's, such as delivery status notifications."""

    @property
    def ok(self) -> bool:
        """No rule was broken and nothing was lost."""
        return not self.violations and self.balance.even

    def counts(self) -> Mapping[Rule, int]:
        """Violations by rule."""
        return Counter(violation.rule for violation in self.violations)

    def report(self, limit: int = 20) -> str:
        """For a person: the balance, then up to `limit` violations and all excused duplicates by name."""
        lines = [str(self.balance)]
        if self.unanswered:
            lines.append(f"{self.unanswered} recipients got no reply to the dot and may be there or not")
        for rule, count in self.counts().items():
            lines.append(f"{count} x {rule.value}")
        lines += [f"  {violation}" for violation in self.violations[:limit]]
        if len(self.violations) > limit:
            lines.append(f"  … and {len(self.violations) - limit} more")
        lines += [f"possible duplicate: {excused}" for excused in self.excused]
        return "\n".join(lines)
