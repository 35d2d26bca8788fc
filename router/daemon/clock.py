"""
The system's clocks behind the `Clock` port.

Guarantees: the wall clock of a process follows corrections, but not a jump of half a day or more: then it goes on by
the running clock from where it was, so that no mail is returned, unprotected or put off for a year because somebody
set the clock. Set right again, it is followed again; a start believes the system. A machine that slept did not jump.
On failure: a jump is told once, as a warning.
"""

import logging
import time
from collections.abc import Callable

HALF_A_DAY = 12 * 3600.0
"""Seconds: less than any age that ends something by default (`unknown_grace` is a day)."""

log = logging.getLogger("sluice.clock")


def _running() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SystemClock:
    """Wall time for what is written down, monotonic time for intervals; seconds."""

    def __init__(self, system: Callable[[], float] = time.time, running: Callable[[], float] = _running) -> None:
        self._system = system
        self._running = running
        self._offset = system() - running()
        self._told = False

    def wall(self) -> float:
        running = self._running()
        offset = self._system() - running
        if abs(offset - self._offset) < HALF_A_DAY:
            self._offset = offset
            self._told = False
        elif not self._told:
            self._told = True
            jump = (offset - self._offset) / 3600
            log.warning("the clock was set by %+.1f hours: until a restart ages go by the time before", jump)
        return running + self._offset

    def monotonic(self) -> float:
        return time.monotonic()
