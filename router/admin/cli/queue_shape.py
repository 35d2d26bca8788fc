"""
The shape of the queue: how many recipients wait, by store (or another key) and by age, as `qshape` shows it.

Pure. Guarantees: memory is bounded by `MAX_KEYS`, whatever the queue; what comes beyond is counted under `(others)`,
so the totals are right in any case.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from router.admin.cli.output import safe
from router.model.envelope import RecipientState
from router.spool.finding import QueueEntry

EDGES = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
"""Upper ends of the age buckets in minutes, as in `qshape`; one more bucket takes what is older."""
MAX_KEYS = 10_000
OTHERS = "(others)"
KEYS = ("store", "mailbox", "domain", "sender", "state", "reason")


@dataclass(slots=True)
class Shape:
    """Counts by key and bucket. `by` is one of `KEYS`, `now` wall-clock seconds."""

    by: str
    now: float
    rows: dict[str, list[int]] = field(default_factory=dict)

    def add(self, entries: Iterable[QueueEntry]) -> None:
        for entry in entries:
            key = key_of(entry, self.by)
            if key not in self.rows and len(self.rows) >= MAX_KEYS:
                key = OTHERS
            row = self.rows.setdefault(key, [0] * (len(EDGES) + 1))
            row[bucket(self.now - entry.received_at)] += 1

    def sorted_rows(self) -> list[tuple[str, list[int]]]:
        """Most first."""
        return sorted(self.rows.items(), key=lambda row: (-sum(row[1]), row[0]))

    def total(self) -> list[int]:
        return [sum(column) for column in zip(*self.rows.values(), strict=True)] or [0] * (len(EDGES) + 1)


def bucket(seconds: float) -> int:
    """Index of the bucket of an age: below 5 minutes is 0."""
    return next((place for place, edge in enumerate(EDGES) if seconds < edge * 60), len(EDGES))


def key_of(entry: QueueEntry, by: str) -> str:
    """What an entry counts under."""
    if by == "domain":
        return entry.recipient.rpartition("@")[2].lower()
    if by == "sender":
        return entry.sender.rpartition("@")[2].lower() or "MAILER-DAEMON"
    if by == "mailbox":
        return entry.mailbox or "(none)"
    if by == "reason":
        return entry.reason or "(not tried yet)"
    return entry.state if by == "state" else _store_of(entry)


def _store_of(entry: QueueEntry) -> str:
    """Only queued mail waits for a store; the rest waits for a person, whichever store it was meant for."""
    if entry.state != RecipientState.QUEUED:
        return f"({entry.state})"
    return entry.lane or "(not routed yet)"


def as_text(shape: Shape, limit: int) -> Iterator[str]:
    """A table: total and buckets, the `limit` largest rows."""
    rows = [("TOTAL", shape.total()), *shape.sorted_rows()[:limit]]
    shown = [(safe(name, 40), counts) for name, counts in rows]
    width = max(len(name) for name, _ in shown)
    heads = ["T", *(str(edge) for edge in EDGES), f"{EDGES[-1]}+"]
    yield " " * width + "".join(f"{head:>8}" for head in heads)
    for name, counts in shown:
        yield f"{name:>{width}}" + "".join(f"{n:>8}" for n in (sum(counts), *counts))


def as_json(shape: Shape) -> dict[str, Any]:
    """The document of `queue shape --json`."""
    return {
        "by": shape.by,
        "edges_minutes": list(EDGES),
        "total": sum(shape.total()),
        "rows": [{"name": name, "total": sum(counts), "ages": counts} for name, counts in shape.sorted_rows()],
    }
