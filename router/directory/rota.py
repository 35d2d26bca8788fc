"""
In which order the servers of a directory are tried.

Guarantees: the order of the configuration, but a server that failed rests for a while, longer each time, and is then
tried by one caller at a time until it works. Those that rest come last rather than never: when all do, one of them is
still asked. Thread-safe; it waits for nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

FIRST_REST = 5.0
LONGEST_REST = 60.0


@dataclass(slots=True)
class _State:
    rest: float = 0.0
    until: float = 0.0


class Rota:
    """`clock` is monotonic seconds."""

    def __init__(self, uris: Sequence[str], clock: Callable[[], float]) -> None:
        self._states = {uri: _State() for uri in uris}
        self._clock = clock
        self._lock = Lock()

    def order(self, prefer: str = "") -> list[str]:
        """All servers, best first: `prefer` before the others unless it rests."""
        with self._lock:
            now = self._clock()
            uris = sorted(self._states, key=lambda uri: uri != prefer)
            awake = [uri for uri in uris if self._states[uri].until <= now]
            resting = sorted((uri for uri in uris if uri not in awake), key=lambda uri: self._states[uri].until)
            if awake:
                # One caller finds out whether a server that rested works again; for the others it rests on.
                first = self._states[awake[0]]
                first.until = now + first.rest
            return awake + resting

    def failed(self, uri: str) -> None:
        with self._lock:
            state = self._states[uri]
            state.rest = min(max(FIRST_REST, state.rest * 2), LONGEST_REST)
            state.until = self._clock() + state.rest

    def worked(self, uri: str) -> None:
        with self._lock:
            self._states[uri] = _State()

    def resting(self) -> list[str]:
        """Servers that failed when they were last asked."""
        with self._lock:
            return [uri for uri, state in self._states.items() if state.rest]
