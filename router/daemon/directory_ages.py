"""
How old each directory's data are for this worker, and what may still be done by them (barrier.md 13).

Guarantees: the database is never old. A directory that the configuration does not name (any more) is not believed:
nobody follows it. Crossing a limit is told once, in the log and to `woken`; the questions themselves are answered by
the clock of the moment.

On failure: nothing here fails.
"""

import logging
import math
from collections.abc import Callable, Sequence

from router.control.freshness import Freshness, Limits
from router.control.schema import DATABASE
from router.model.directory import DirectoryState
from router.model.mailbox import Mailbox
from router.ports import Clock
from router.settings.schema import Settings

log = logging.getLogger("sluice.worker")


class DirectoryAges:
    """
    Event-loop thread only. `woken` is called when mail that waited for a directory may go on, `doubted` when one is
    not followed any more: what it did not know is no answer from then on. `alarm` is told the directory and why mail
    waits; the process that follows it clears that alarm.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        woken: Callable[[], None],
        doubted: Callable[[], None],
        alarm: Callable[[str, str], None],
    ) -> None:
        self._clock = clock
        self._alarm = alarm
        self._woken = woken
        self._doubted = doubted
        self._limits: dict[str, Limits] = {}
        self._found: dict[str, Freshness] = {}
        self._states: Sequence[DirectoryState] | None = None
        """None until the control database was read: nothing is told before."""
        self._delivering: dict[str, bool] = {}
        self._current: dict[str, bool] = {}

    def use(self, settings: Settings) -> None:
        """By this configuration from now on; ages that are known stay known."""
        limits = {ldap.name: Limits.of(ldap) for ldap in settings.ldaps.values()}
        changed = {name for name, one in limits.items() if self._limits.get(name) != one}
        self._limits = limits
        self._found = {name: Freshness(one) if name in changed else self._found[name] for name, one in limits.items()}
        self._saw([state for state in self._states or () if state.source in changed])
        self.look()

    def saw(self, states: Sequence[DirectoryState]) -> None:
        """All directories' states, as just read."""
        self._states = states
        self._saw(states)
        self.look()

    def answers(self, source: str) -> bool:
        """Whether known people of this directory are still answered with 250 (`stale`)."""
        if source == DATABASE:
            return True
        found = self._found.get(source)
        return found is not None and found.answers(self._clock.monotonic())

    def delivers(self, source: str) -> bool:
        """Whether mail is still delivered by what this directory said (`stale_delivery`)."""
        if source == DATABASE:
            return True
        found = self._found.get(source)
        return found is not None and found.delivers(self._clock.monotonic())

    def refuses(self, mailbox: Mailbox | None) -> bool:
        """
        Whether a refusal of this mailbox counts: not while its directory is not followed, for it may be over there.

        Who is no mailbox is refused by nobody's word here: the directories themselves were asked.
        """
        if mailbox is None or mailbox.source == DATABASE:
            return True
        found = self._found.get(mailbox.source)
        return found is not None and found.current(self._clock.monotonic())

    def look(self) -> None:
        """Tell what has changed by itself since the last look, for nobody asked. Cheap: call it now and then."""
        for name, found in self._found.items() if self._states is not None else ():
            now = self._clock.monotonic()
            self._tell_delivery(name, found, delivers=found.delivers(now), now=now)
            current = found.current(now)
            if self._current.get(name, False) and not current:
                self._doubted()
            self._current[name] = current

    def _tell_delivery(self, name: str, found: Freshness, *, delivers: bool, now: float) -> None:
        former = self._delivering.get(name)
        self._delivering[name] = delivers
        if former is delivers:
            return
        if not delivers:
            since = _since(found.age(now))
            log.warning("mail to people of the directory %s waits: %s", name, since)
            if former is not None:
                self._alarm(name, f"mail to its people waits: {since}")
        elif former is not None:
            log.warning("mail to people of the directory %s goes on: it is followed again", name)
            self._woken()

    def _saw(self, states: Sequence[DirectoryState]) -> None:
        for state in states:
            found = self._found.get(state.source)
            if found is not None:
                found.saw(state, self._clock.wall(), self._clock.monotonic())


def _since(age: float) -> str:
    return "it was not followed yet" if math.isinf(age) else f"it was last followed {age:.0f} s ago"
