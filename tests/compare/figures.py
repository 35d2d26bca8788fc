"""
What was seen, as values: pure, and kept as JSON so that a page can be written from several runs.

Guarantees: `Results.read` of what `write` wrote is the same value; a run of one relay and one kind of fault replaces
only its own figures. On failure: `ValueError` or `OSError` for a file that is something else.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from router.ledger.load import Submission
from router.ledger.verdict import Rule, Verdict


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of recipients after one row of faults."""

    acknowledged: int
    large: int
    """Of these, in messages of 64 KiB or more."""
    lost: int
    """At no next hop, and not in the queue either."""
    altered: int
    misrouted: int
    unexpected: int
    """Came to a next hop though the client had been refused."""
    twice: int
    unexcused: int
    """Of those that came twice, taken by a next hop at no moment of a fault."""
    left: int
    """Messages (Sluice: recipients) still queued when the run ended."""
    aside: int
    """Kept by the relay, and not delivered by itself."""
    temporary: int
    """Messages refused with 4xx."""
    permanent: int
    """Messages refused with 5xx."""

    @classmethod
    def of(cls, verdict: Verdict, left: int, aside: int, large: int, submissions: Iterable[Submission]) -> Self:
        """From what the ledger found."""
        rules = verdict.counts()
        codes = Counter(refusal(one) // 100 for one in submissions)
        balance = verdict.balance
        return cls(
            balance.accepted,
            large,
            balance.lost,
            rules.get(Rule.ALTERED, 0),
            rules.get(Rule.MISROUTED, 0),
            rules.get(Rule.UNEXPECTED, 0),
            balance.extra,
            balance.extra - balance.excused,
            left,
            aside,
            codes[4],
            codes[5],
        )


def refusal(one: Submission) -> int:
    """The code that refused a message: of the first step that did; 0 when none."""
    refused = [code for code in one.codes if code >= 400]
    if refused:
        return refused[0]
    return one.dot_code if one.dot_code >= 400 else 0


@dataclass(frozen=True, slots=True)
class Crashes:
    """One row of kills or cuts."""

    rounds: int
    seconds: float
    tally: Tally


@dataclass(frozen=True, slots=True)
class Full:
    """A disk that was filled."""

    before: int
    """Recipients acknowledged before it was full."""
    told: Mapping[str, int]
    """Replies by code while it was full; '250' are messages taken all the same."""
    gone: int
    """Of those acknowledged, how many came to a next hop while it was full."""
    waiting: int
    """Of those acknowledged, how many were still to come when the wait was over."""
    again: float
    """Seconds from space being there to the first message taken, without a restart; -1: not within a minute."""
    tally: Tally


@dataclass(frozen=True, slots=True)
class Attack:
    """One kind of hostile client."""

    answers: Mapping[str, int]
    """What clients heard, in short, by how many connections."""
    taken: int
    """Messages of the hostile client that came to a next hop."""
    served: int
    """Messages of an ordinary client taken meanwhile."""
    turned_away: int
    """Times that the ordinary client was refused or cut off, and tried again."""
    median: float
    slowest: float
    """Seconds from its first connection to 250."""
    memory: int
    """Octets: the most that all processes of the relay held, file cache apart."""
    idle: int
    """The same before the attack."""


@dataclass(frozen=True, slots=True)
class Smuggled:
    """All look-alikes of an end of data at one relay."""

    cases: int
    split: tuple[str, ...]
    """Look-alikes that became two messages."""
    refused: tuple[str, ...]
    """Look-alikes in a message that was refused."""
    passed_on: tuple[str, ...]
    """Look-alikes of which the next hop got a bare CR or LF, or a dot that was not doubled."""


KINDS: dict[str, type[Any]] = {"kill": Crashes, "cut": Crashes, "full": Full, "hostile": Attack, "smuggling": Smuggled}


@dataclass(slots=True)
class Results:
    """Everything seen. `rows` are by kind, relay and, for attacks, the name of the attack."""

    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Relays that could not be had, and why."""
    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def put(self, kind: str, relay: str, value: Any, case: str = "") -> None:
        """Remember one row."""
        self.rows.setdefault(kind, {}).setdefault(relay, {})[case] = value

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Rows of one kind: by relay and case."""
        return self.rows.get(kind, {})

    def write(self, path: Path) -> None:
        rows = {
            kind: {relay: {case: asdict(value) for case, value in cases.items()} for relay, cases in relays.items()}
            for kind, relays in self.rows.items()
        }
        whole = {"machine": self.machine, "versions": self.versions, "missing": self.missing, "rows": rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What was written before; nothing when there is no file."""
        if not path.exists():
            return cls()
        whole = json.loads(path.read_text())
        rows = {
            kind: {
                relay: {case: _value(KINDS[kind], one) for case, one in cases.items()}
                for relay, cases in relays.items()
            }
            for kind, relays in whole["rows"].items()
        }
        return cls(whole["machine"], whole["versions"], whole["missing"], rows)


def _value(kind: type[Any], found: Mapping[str, Any]) -> Any:
    given = {one.name: found[one.name] for one in fields(kind)}
    if "tally" in given:
        given["tally"] = Tally(**given["tally"])
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
