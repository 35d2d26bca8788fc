"""
Follows one directory: sweeps it, polls it, and writes what it says into the mirror (ADR 6).

Guarantees: the cookie of a sweep is taken before it begins, so nothing that changes meanwhile is missed; polls go on
while a long sweep runs; people are only taken out by a sweep that was read to its end. Whatever fails is told to the
mirror as a fault and tried again, with the feed's own deadlines; this loop never just ends.

On failure: nothing is thrown away. While the control database cannot be written, nothing is read either.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from router.errors import LookupFailed, SluiceError
from router.model.directory import Cookie, DirectoryItem, Unplaced
from router.ports import DirectoryFeed

log = logging.getLogger("sluice.directory")

_LONGEST_REST = 5.0
"""Seconds between two tries to follow a directory that fails, or `follow` where that is longer."""


class Shadow(Protocol):
    """The mirror of one directory. Blocking; every method is durable when it returns. Raises `ControlUnavailable`."""

    def cookie(self) -> Cookie: ...
    def apply(self, items: Sequence[DirectoryItem | Unplaced]) -> object: ...
    def begin_sweep(self) -> None: ...
    def swept(self, items: Sequence[DirectoryItem | Unplaced]) -> object: ...
    def end_sweep(self) -> object: ...
    def followed(self, cookie: Cookie) -> None: ...
    def fault(self, text: str) -> None: ...


class DirectoryLoop:
    """One directory, one thread. `follow` and `sweep` are seconds between two polls and two sweeps."""

    def __init__(
        self,
        name: str,
        feed: DirectoryFeed,
        shadow: Shadow,
        *,
        follow: float,
        sweep: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._feed = feed
        self._shadow = shadow
        self._follow = follow
        self._sweep = sweep
        self._monotonic = monotonic
        self._cookie = Cookie()
        self._known = False
        self._next_sweep = 0.0
        self._next_poll = 0.0
        self._failures = 0

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set: a turn, then a wait."""
        try:
            while not stop.is_set():
                stop.wait(self.turn(stop))
        finally:
            self._feed.close()

    def turn(self, stop: threading.Event | None = None) -> float:
        """Sweep or poll, whatever is due; the seconds until the next turn."""
        try:
            self._take_turn(stop)
        except Exception as error:  # noqa: BLE001 - an unknown error is an outage too; this thread must never just end
            return self._failed(error)
        if self._failures:
            log.warning("the directory %s is followed again", self._name)
        self._failures = 0
        return self._follow

    def _take_turn(self, stop: threading.Event | None) -> None:
        if not self._known:
            self._cookie = self._shadow.cookie()
            self._known = True
        if not self._cookie.value or self._monotonic() >= self._next_sweep:
            self._sweep_all(stop)
        else:
            self._poll()

    def _poll(self) -> None:
        polled = self._feed.poll(self._cookie)
        told = (*polled.items, *polled.unplaced)
        if told:
            self._shadow.apply(told)
        self._next_poll = self._monotonic() + self._follow
        if polled.resweep:
            self._cookie = Cookie()  # the sweep's own replaces it: this one would ask for a sweep for ever
            return
        self._cookie = polled.cookie
        self._shadow.followed(self._cookie)

    def _sweep_all(self, stop: threading.Event | None) -> None:
        start = self._feed.cookie()
        self._shadow.begin_sweep()
        for page in self._feed.sweep():
            self._shadow.swept(page)
            if stop is not None and stop.is_set():
                return
            if self._cookie.value and self._monotonic() >= self._next_poll:
                self._poll()
        self._shadow.end_sweep()
        if not self._cookie.value or self._cookie.server != start.server:
            self._cookie = start
        self._shadow.followed(self._cookie)
        self._next_sweep = self._monotonic() + self._sweep

    def _failed(self, error: Exception) -> float:
        """Tell it once where it can be told; how long to rest."""
        self._failures += 1
        text = error.private if isinstance(error, SluiceError) else repr(error)
        if self._failures == 1:
            log.warning("the directory %s is not followed: %s", self._name, text, exc_info=not _expected(error))
        try:
            self._shadow.fault(text)
        except SluiceError as second:
            log.warning("the fault of the directory %s cannot be written down: %s", self._name, second.private)
        return min(max(_LONGEST_REST, self._follow), self._follow * 2.0 ** min(self._failures - 1, 10))


def _expected(error: Exception) -> bool:
    return isinstance(error, LookupFailed | SluiceError)
