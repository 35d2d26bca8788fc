"""
Alarms on their way from the event loop to the database: gathered, counted, written at most once a second.

Guarantees: never blocks, bounded memory; beyond `KEPT` different alarms of one flush the rest are counted under the
key `*` of their kind. What could not be written is kept and counted on.
"""

import threading
from dataclasses import dataclass

KEPT = 1000


@dataclass(slots=True)
class PendingAlarm:
    """What to write: an alarm to raise `count` times, or to clear when `count` is 0."""

    kind: str
    key: str
    text: str
    count: int


class AlarmBox:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, str], PendingAlarm] = {}

    def put(self, kind: str, key: str, text: str) -> None:
        """Raise an alarm."""
        self._add(PendingAlarm(kind, key, text, 1))

    def clear(self, kind: str, key: str) -> None:
        """Clear an alarm; a raising that is still waiting is dropped with it."""
        self._add(PendingAlarm(kind, key, "", 0))

    def take(self) -> list[PendingAlarm]:
        """All that waits; the box is empty afterwards."""
        with self._lock:
            taken, self._pending = list(self._pending.values()), {}
        return taken

    def give_back(self, taken: list[PendingAlarm]) -> None:
        """They could not be written; what came since then counts as newer."""
        newer = self.take()
        for one in [*taken, *newer]:
            self._add(one)

    def __bool__(self) -> bool:
        return bool(self._pending)

    def _add(self, one: PendingAlarm) -> None:
        with self._lock:
            place = (one.kind, one.key)
            if place not in self._pending and len(self._pending) >= KEPT:
                place = (one.kind, "*")
            known = self._pending.get(place)
            counted = one.count + known.count if known is not None and one.count else one.count
            self._pending[place] = PendingAlarm(*place, one.text, counted)
