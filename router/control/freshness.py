"""
How old a worker must take a directory's data to be (barrier.md 13). Pure; the caller's clocks come in as numbers.

The process that follows a directory moves its row at least every ten seconds, or every `follow` where that is longer. A
worker sees the row move and counts from there by its own monotonic clock; the wall clock is only asked where there is
nothing else, at the start.

Guarantees: a wall clock that is set forwards or backwards while the worker runs changes no age by more than the time
between two looks. At the start an age is what the wall clock says; a row from the future (a clock was set back) counts
as never followed until it moves.
"""

import math
from dataclasses import dataclass
from typing import Self

from router.model.directory import DirectoryState
from router.settings.directory import Ldap

TOLERANCE = 60.0
"""Seconds that clocks of one site may differ, or step back, without being doubted."""
LATE = 30.0
"""
Seconds after which a directory whose row did not move is not followed, whatever the row says; twice `follow` where that
is longer.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, as the configuration has them for one directory."""

    stale: float
    stale_delivery: float
    follow: float = 0.0

    @classmethod
    def of(cls, ldap: Ldap) -> Self:
        return cls(ldap.stale, ldap.stale_delivery, ldap.follow)

    @property
    def late(self) -> float:
        """Seconds for which the row may stand still (see `LATE`)."""
        return max(LATE, 2 * self.follow)


class Freshness:
    """The age of one directory's data, for one worker. `wall` and `monotonic` are seconds of its own clocks."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._state: DirectoryState | None = None
        self._looked = -math.inf
        self._base = -math.inf
        """Monotonic time at which the data were certainly as old as nothing."""

    def saw(self, state: DirectoryState, wall: float, monotonic: float) -> None:
        """The state of the directory as just read; call it for every state that is told."""
        former, self._state = self._state, state
        if state.followed_at is None:
            self._base = -math.inf
        elif former is None:
            self._base = monotonic - _first_age(wall - state.followed_at)
        elif state.followed_at != former.followed_at:
            # It moved since the last look: no age beyond that, whatever the two wall clocks say.
            self._base = monotonic - min(max(wall - state.followed_at, 0.0), monotonic - self._looked)
        self._looked = monotonic

    def age(self, monotonic: float) -> float:
        """Seconds since the directory was last followed; infinite when that was never."""
        return max(0.0, monotonic - self._base)

    def answers(self, monotonic: float) -> bool:
        """Whether known people are still answered with 250 (`stale`)."""
        return self.age(monotonic) <= self._limits.stale

    def delivers(self, monotonic: float) -> bool:
        """Whether mail is still delivered by what is known (`stale_delivery`)."""
        return self.age(monotonic) <= self._limits.stale_delivery

    def current(self, monotonic: float) -> bool:
        """Whether it is followed now. If not, nothing that it does not know may be called unknown."""
        return self._state is not None and not self._state.fault and self.age(monotonic) <= self._limits.late


def _first_age(age: float) -> float:
    if age >= 0:
        return age
    return 0.0 if age >= -TOLERANCE else math.inf
