"""
The verdict of the demo: what clients were told against what stores saw, the journal, the accounts and the homes.

Guarantees: the stores' own records are counted, not what the relay claims; every mailbox had exactly one store that
could see its mail at any time, and none between barrier and release. Pure but for what it is handed.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from router.control.mailboxes import Record
from router.demo.cast import LISTS, OLD, Cast
from router.demo.movers import Move
from router.ledger.arrival import Arrival
from router.ledger.book import Ledger
from router.ledger.load import Submission
from router.ledger.verdict import Verdict
from router.spool.accounts import Totals

_REASONS = 5
"""Most frequent reasons that are told."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known after a run. `undelivered` has why, for each recipient left in the spools."""

    cast: Cast
    moves: Sequence[Move]
    submissions: Sequence[Submission]
    arrivals: Mapping[str, Sequence[Arrival]]
    """By store."""
    kept: Sequence[tuple[str, str, str]]
    delivered: Sequence[tuple[str, str]]
    """From the journal."""
    totals: Totals
    unbalanced: Sequence[str]
    records: Mapping[str, Record]
    undelivered: Sequence[str]
    alarms: Sequence[str]
    traffic_seconds: float


@dataclass(frozen=True, slots=True)
class DemoVerdict:
    """The ledger's verdict, and what it cannot see. `problems` are sentences; times are seconds."""

    ledger: Verdict
    problems: tuple[str, ...]
    moved: int
    rolled_back: int
    moved_at: Mapping[str, float]
    """Wall-clock time of the last move of each moved mailbox."""
    homes: Mapping[str, str]
    barrier_median: float
    barrier_max: float
    messages: int
    refused: int
    """Recipients refused, all of them unknown addresses."""
    rate: float
    at_stores: Mapping[str, int]
    """Messages (transactions) by store."""
    journal_rows: int
    """Deliveries in the journal."""
    alarms: tuple[str, ...]
    """Open ones: worth a look, though no promise is broken by one."""

    @property
    def ok(self) -> bool:
        return self.ledger.ok and not self.problems

    def as_json(self, seconds: float) -> dict[str, Any]:
        """For `--json`. `seconds` is the running time of the whole demo."""
        balance = self.ledger.balance
        return {
            "ok": self.ok,
            "balance": str(balance),
            "accepted": balance.accepted,
            "delivered": balance.delivered,
            "places": dict(balance.places),
            "lost": balance.lost,
            "duplicated": balance.extra,
            "journal_deliveries": self.journal_rows,
            "violations": [str(violation) for violation in self.ledger.violations],
            "problems": list(self.problems),
            "alarms": list(self.alarms),
            "moved": self.moved,
            "rolled_back": self.rolled_back,
            "mailboxes": [
                {"mailbox": key, "home": self.homes[key], "moved_at": at} for key, at in sorted(self.moved_at.items())
            ],
            "barrier_seconds": {"median": round(self.barrier_median, 4), "max": round(self.barrier_max, 4)},
            "messages": self.messages,
            "refused_recipients": self.refused,
            "messages_per_second": round(self.rate, 1),
            "messages_at_stores": dict(self.at_stores),
            "seconds": round(seconds, 2),
        }


class Timeline:
    """Which store may see mail for an address, at each moment of the run."""

    def __init__(self, cast: Cast, moves: Sequence[Move]) -> None:
        self._cast = cast
        self._moves: dict[str, list[Move]] = defaultdict(list)
        for move in sorted(moves, key=lambda move: move.began):
            self._moves[move.mailbox].append(move)

    def allowed(self, address: str, at: float) -> Collection[str]:
        """For `Ledger`: the old store until the barrier, nobody while the mailbox is copied, then the new one."""
        if address.lower() in self._cast.lists:
            return (LISTS,)
        person = self._cast.owners.get(address.lower())
        if person is None:
            return ()
        home = person.home
        for move in self._moves[person.address]:
            if not move.quiet or at < move.quiet:
                break
            if not move.copied or at < move.copied:
                return ()
            home = move.target
        return (home,)


def judge(evidence: Evidence) -> DemoVerdict:
    """Compare everything with everything."""
    moves = evidence.moves
    there = [move for move in moves if move.source == OLD and not move.error]
    barriers = [move.barrier for move in moves if move.quiet] or [0.0]
    found = _ledger(evidence).check()
    return DemoVerdict(
        ledger=found,
        problems=tuple(_problems(evidence, found)),
        moved=len(there),
        rolled_back=len([move for move in moves if move.source != OLD and not move.error]),
        moved_at={move.mailbox: evidence.records[move.mailbox].mailbox.moved_at or 0.0 for move in there},
        homes={move.mailbox: evidence.records[move.mailbox].mailbox.home for move in there},
        barrier_median=median(barriers),
        barrier_max=max(barriers),
        messages=len(evidence.submissions),
        refused=sum(code >= 400 for one in evidence.submissions for code in one.codes),
        rate=len(evidence.submissions) / max(evidence.traffic_seconds, 0.001),
        at_stores={store: len(arrivals) for store, arrivals in evidence.arrivals.items()},
        journal_rows=len(evidence.delivered),
        alarms=tuple(evidence.alarms),
    )


def _ledger(evidence: Evidence) -> Ledger:
    ledger = Ledger(allowed=Timeline(evidence.cast, evidence.moves).allowed, mailbox_of=evidence.cast.mailbox_of)
    ledger.submitted(evidence.submissions)
    for arrivals in evidence.arrivals.values():
        ledger.arrived(arrivals)
    ledger.kept(evidence.kept)
    ledger.journal(evidence.delivered)
    for move in evidence.moves:
        if move.quiet and move.copied:
            ledger.window(move.mailbox, move.quiet, move.copied)
    return ledger


def _problems(evidence: Evidence, found: Verdict) -> Iterator[str]:
    yield from (f"move of {move.mailbox} to {move.target}: {move.error}" for move in evidence.moves if move.error)
    wanted = len(evidence.cast.moved) + len(evidence.cast.rolled_back)
    if len(evidence.moves) != wanted:
        yield f"{len(evidence.moves)} of {wanted} moves were made"
    for why, count in Counter(evidence.undelivered).most_common(_REASONS):
        yield f"{count} recipients were still undelivered at the end, {why}"
    yield from (f"the accounts do not balance: {line}" for line in evidence.unbalanced)
    accepted, unsure = found.balance.accepted, found.unanswered
    if not accepted <= evidence.totals.accepted <= accepted + unsure:
        yield f"clients were told of {accepted} recipients, the spools' accounts have {evidence.totals.accepted}"
    if len(evidence.delivered) != evidence.totals.delivered:
        yield f"{len(evidence.delivered)} deliveries in the journal, {evidence.totals.delivered} in the accounts"
    yield from _astray(evidence)


def _astray(evidence: Evidence) -> Iterator[str]:
    """Mailboxes that the control database has at another home than their last move says."""
    homes = {person.address: person.home for person in evidence.cast.people}
    homes |= {move.mailbox: move.target for move in sorted(evidence.moves, key=lambda move: move.began)}
    for key, home in homes.items():
        record = evidence.records.get(key)
        if record is None or record.mailbox.home != home or record.mailbox.hold is not None:
            yield f"{key} should be at {home}, the control database says {record and record.mailbox}"
