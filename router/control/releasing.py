"""
What a release writes into a directory, given what is there and what we wrote before. Pure.

Guarantees: exactly the raw status that our hold replaced comes back, its absence included, and only where our hold is
still there: what somebody else wrote over it is left as it is, and said. A release without a new home takes back a
home that an earlier one, broken off, had written.
"""

from dataclasses import dataclass

from router.control.written import Stage, Write
from router.model.directory import KEEP, Keep, Standpoint, Wanted


@dataclass(frozen=True, slots=True)
class Terms:
    """What the directory can take, and what the operator wants: `to` is a store, `host` its raw spelling."""

    hold_value: str
    writes_status: bool
    to: str | None = None
    host: str | None = None
    """None where the home is not to be written."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, and what is to be said of it."""

    wanted: Wanted
    takes_home_back: bool = False
    drift: str = ""


def same(one: str | None, other: str | None) -> bool:
    """Whether two raw values are one: attributes of this kind are compared without case, absence is a value too."""
    if one is None or other is None:
        return one is other
    return one.casefold() == other.casefold()


def plan(before: Standpoint, write: Write | None, terms: Terms) -> Plan:
    """The release of a hold, `write` being what was written for it."""
    status, drift = _status(before, write, terms)
    host: str | Keep | None = KEEP
    back = False
    if terms.to is not None:
        host = KEEP if terms.host is None or same(before.host, terms.host) else terms.host
    elif write is not None and write.host is not None and same(before.host, write.host):
        host, back = write.host_before, True
    return Plan(Wanted(status, host), back, drift)


def _status(before: Standpoint, write: Write | None, terms: Terms) -> tuple[str | Keep | None, str]:
    if write is None or write.state in {Stage.NOTED, Stage.UNHELD} or not terms.writes_status:
        return KEEP, ""
    if same(before.status, terms.hold_value):
        return write.status_before, ""  # where that is a hold, too, it is somebody else's from before ours, and stays
    if write.state is Stage.HOLDING:
        return KEEP, ""  # it was never written
    if write.state is Stage.RELEASING and same(before.status, write.status_before):
        return KEEP, ""  # by a release that was broken off
    return KEEP, f"its status was set to {before.status or 'nothing'} meanwhile, and is left so"
