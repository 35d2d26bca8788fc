"""
How old the data of a directory are, as a worker reckons it (`control.freshness`). Pure.

Guarantees: a command has only the wall clock, so clocks that differ between hosts make an age wrong by as much.
"""

import math
from dataclasses import dataclass

from router.admin.cli.output import moment, span
from router.control.freshness import Freshness, Limits
from router.model.directory import DirectoryState
from router.settings.directory import Ldap


@dataclass(frozen=True, slots=True)
class Age:
    """
    How a directory is followed. `seconds` is None where it never was. `followed`: now, without a fault.

    `answers`, `delivers`: whether a worker still answers and delivers by what it knows; True while no worker runs.
    """

    followed_at: float | None = None
    seconds: float | None = None
    fault: str = ""
    followed: bool = True
    answers: bool = True
    delivers: bool = True

    def text(self) -> str:
        if self.followed:
            return f"followed {span(self.seconds or 0)} ago"
        since = "NOT followed yet" if self.followed_at is None else f"NOT followed since {moment(self.followed_at)}"
        return f"{since}: {self.fault}" if self.fault else since


def age_of(state: DirectoryState, source: Ldap, *, running: bool, now: float) -> Age:
    """How old a directory's data are now."""
    clock = Freshness(Limits.of(source))
    clock.saw(state, now, 0.0)
    seconds = clock.age(0.0)
    return Age(
        state.followed_at,
        None if math.isinf(seconds) else seconds,
        state.fault,
        clock.current(0.0),
        not running or clock.answers(0.0),
        not running or clock.delivers(0.0),
    )


def unnamed(state: DirectoryState, *, running: bool) -> Age:
    """Of a directory that the configuration does not name: nobody follows it, and no worker believes it."""
    return Age(state.followed_at, None, "it is not in the configuration", False, not running, not running)
