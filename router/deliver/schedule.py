"""
When deferred mail is tried again, and how long a lane rests whose hosts do not answer: pure arithmetic.

Guarantees: everything is computed in float seconds, so no step of the table is lost to truncation (PRC29); no result
overflows however many attempts there were; the first retry comes within five minutes with the default settings,
jitter included, because greylisting stores expect one.

With the defaults (first 240 s, factor 1.7, longest 4000 s), before jitter of 12.5 % either way:

    attempt   1     2     3      4      5      6      7 and later
    seconds   240   408   693.6  1179   2005   3408   4000
"""

import math
from dataclasses import dataclass

from router.settings.schema import Retry

JITTER = 0.125
REST_FIRST = 10.0
REST_FACTOR = 2.0
REST_LONGEST = 300.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The retry settings as functions. `chance` is a random number from 0 to below 1; times are wall-clock seconds."""

    retry: Retry

    def next_due(self, attempts: int, now: float, chance: float, expires: float = math.inf) -> float:
        """
        When to try again after `attempts` counted attempts (0 is treated as 1).

        A retry that would come after `expires` comes right at it: the last attempt precedes the return.
        """
        due = now + _jittered(_step(self.retry.first, self.retry.factor, self.retry.longest, attempts), chance)
        return min(due, expires) if expires > now else due

    def expires(self, clock_start: float) -> float:
        """When the retry lifetime that began at `clock_start` (receipt, or the last release) ends."""
        return clock_start + self.retry.lifetime

    def expired(self, clock_start: float, now: float) -> bool:
        """Whether the lifetime is over. A clock that was set back makes mail younger, never older."""
        return now >= self.expires(clock_start)

    def sane_due(self, due: float, now: float) -> float:
        """A due time lies at most one longest step ahead; more means that the wall clock was set back."""
        return min(due, now + max(self.retry.longest, self.retry.first) * (1 + JITTER))


@dataclass(slots=True)
class Rest:
    """
    A lane's or host's rest after failures to reach it: 10, 20, 40, 80, 160, then 300 s, with jitter.

    Failures during a rest (deliveries that were under way together) do not make it longer.
    """

    failures: int = 0
    until: float = -math.inf

    def failed(self, now: float, chance: float) -> float:
        """Note a failure; returns when to try again. `now` by the same clock each time."""
        if now >= self.until:
            self.failures += 1
            self.until = now + _jittered(_step(REST_FIRST, REST_FACTOR, REST_LONGEST, self.failures), chance)
        return self.until

    def worked(self) -> None:
        self.failures = 0
        self.until = -math.inf

    def resting(self, now: float) -> bool:
        return now < self.until


def _step(first: float, factor: float, longest: float, attempts: int) -> float:
    """`first * factor ** (attempts - 1)`, at most `longest`."""
    exponent = max(attempts - 1, 0)
    if first >= longest or factor <= 1.0:
        return min(first, longest)
    if exponent >= math.log(longest / first) / math.log(factor):
        return longest
    return first * factor**exponent


def _jittered(seconds: float, chance: float) -> float:
    """Spread evenly over 12.5 % either way, so that what failed together does not come back together."""
    return seconds * (1 - JITTER + 2 * JITTER * chance)
