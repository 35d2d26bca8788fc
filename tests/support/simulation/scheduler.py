"""
The order of events of one simulated site: a virtual clock, and a seed that picks what happens next.

Guarantees: nothing runs but what the scheduler picked; the same seed picks the same. Time stands still while anything
is ready and jumps to the next event when nothing is. What belongs to a dead process is never run.

On failure: an exception of an event that nobody caught ends the run: it is kept in `failure`.
"""

import heapq
import itertools
import math
from collections.abc import Callable
from random import Random
from typing import Protocol

Action = Callable[[], object]
_GRID = 500.0


class Process:
    """What an event belongs to. Killed, nothing of it happens any more; frozen, nothing until that time."""

    __slots__ = ("alive", "frozen", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = 0.0


class Stuck(AssertionError):
    """Events go on without end, or nothing is left to happen and something was waited for."""


class Leader(Protocol):
    """A thread that may have the turn (`fibers`)."""

    def lead(self) -> None:
        """Let it go on; returns when the turn comes back to whoever called `run`."""


class Scheduler:
    """Events of all processes. Times are seconds since the start of the run."""

    def __init__(self, seed: int, *, most: int = 200_000) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.failure: BaseException | None = None
        """What ends the run: an error that nobody handled."""
        self.trace: list[tuple[float, str]] | None = None
        self.digest = 0
        self.turn: Leader | None = None
        """Set by an event after which another thread goes on: which."""
        self._until: Callable[[], bool] | None = None
        self._limit = 0.0
        self._held = False
        self._error: BaseException | None = None
        self._most = most
        self._ready: list[tuple[Process, Action]] = []
        self._later: list[tuple[float, int, Process, Action]] = []
        self._numbers = itertools.count()

    def soon(self, process: Process, action: Action) -> None:
        """Among the next events, in an order that the seed picks."""
        self._ready.append((process, action))

    def at(self, when: float, process: Process, action: Action) -> None:
        # On a grid: what comes at nearly the same time comes at the same time, and the seed decides which is first.
        tick = math.ceil(when * _GRID)
        when = tick / _GRID if tick / _GRID >= when else (tick + 1) / _GRID
        heapq.heappush(self._later, (when, next(self._numbers), process, action))

    def after(self, delay: float, process: Process, action: Action) -> None:
        self.at(self.now + delay, process, action)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.random.random()

    def note(self, text: str) -> None:
        """A line of the trace. Its digest shows whether two runs were the same."""
        self.digest = hash((self.digest, round(self.now * 1e6), len(text), sum(text.encode())))
        if self.trace is not None:
            self.trace.append((self.now, text))

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Let things happen until `until` holds (True) or the clock has reached `limit` (False)."""
        self._until, self._limit, self._error = until, limit, None
        other = self.play()
        if other is not None:
            other.lead()
        if self._error is not None:
            raise self._error
        return self._held

    def play(self) -> Leader | None:
        """In the thread that has the turn: let things happen. Who has it then, None for whoever called `run`."""
        if self._until is None:
            return None
        try:
            found = self._pick(self._until, self._limit)
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            self._error, found = error, None
        if found is None:
            self._until = None
        return found

    def _pick(self, until: Callable[[], bool], limit: float) -> Leader | None:
        ready, random = self._ready, self.random.random
        while not until():
            self.steps += 1
            if self.failure is not None:
                raise self.failure
            if not ready and not self._go_on(limit):
                self._held = False
                return None
            last = len(ready) - 1
            if last:
                at = int(random() * (last + 1))
                ready[at], ready[last] = ready[last], ready[at]
            process, action = ready.pop()
            if process.frozen > self.now:
                self.at(process.frozen, process, action)
            elif process.alive:
                action()
                if self.turn is not None:
                    found, self.turn = self.turn, None
                    return found
        self._held = True
        return None

    def _go_on(self, limit: float) -> bool:
        """Nothing is ready: the clock goes to the next event."""
        ready, later = self._ready, self._later
        if self.steps > self._most:
            raise Stuck(f"{self._most} events at {self.now:.3f} s")
        if not later or later[0][0] > limit:
            self.now = max(self.now, limit)
            return False
        self.now = max(self.now, later[0][0])
        while later and later[0][0] <= self.now:
            _, _, process, action = heapq.heappop(later)
            ready.append((process, action))
        return True
