"""
The circuit breaker before a directory: while it does not answer, nobody waits to find that out again.

Guarantees: pure but for the clock it is given. After `FAILURES` failures in a row it opens, and every question is
refused at once. After a pause one question is let through to see (half open); its success closes the breaker, its
failure opens it for longer. The pause never exceeds `LONGEST_PAUSE`, so recovery needs nobody's help.
"""

from collections.abc import Callable

FAILURES = 2
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 5.0
"""Seconds. Each pause ends with one question that may wait for its whole deadline; everybody else is told at once."""


class Breaker:
    """For one thread. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether the directory has been found not to answer, and not yet to answer again."""
        return self._failures >= FAILURES

    def refuses(self) -> bool:
        """Whether a question that comes now is to be refused at once."""
        return self.open and (self._probing or self._clock() < self._until)

    def sent(self) -> None:
        """A question goes out; behind an open breaker it is the one that finds out."""
        self._probing = self.open

    def answered(self) -> None:
        self._failures, self._pause, self._probing = 0, FIRST_PAUSE, False

    def failed(self) -> None:
        """The question that `sent` spoke of, or one that was under way before, got no answer."""
        if self.open and not self._probing:
            return  # sent before the breaker opened: tells nothing new
        if self.open:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._failures += 1
        self._probing = False
        self._until = self._clock() + self._pause

    def unknown(self) -> None:
        """The question ended without telling anything of the directory: another one may find out."""
        self._probing = False
