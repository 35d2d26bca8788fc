"""
What `sluice status` knows: gathered once, then shown as a document or as a screen.

Guarantees: the control database is read in one transaction, each spool in one of its own. What cannot be read is
named in `unreadable` and left out; the rest is shown all the same.
"""

import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

from sqlalchemy import Connection

from router.admin.cli.directory_age import Age, age_of, unnamed
from router.admin.cli.queue_select import SpoolPlace
from router.admin.cli.status_accounts import SpoolAccount, account_of, add
from router.control import alarms, barrier, changes, configuration, following, mailboxes, members, stores
from router.control.alarms import Alarm
from router.control.barrier import Waiting
from router.control.database import ControlDatabase
from router.control.members import Member
from router.control.stores import Pause
from router.errors import SpoolUnavailable
from router.model.directory import DirectoryState
from router.model.mailbox import Hold
from router.settings.directory import Ldap
from router.spool.accounts import Totals
from router.spool.setting_aside import Aside, aside

EXPLAINED = 100
"""Holds that are not quiet whose obstacles are looked up."""


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that is open, and what it waits for while it is not quiet."""

    mailbox: str
    hold: Hold
    waiting: tuple[Waiting, ...] = ()

    def overdue(self, now: float) -> bool:
        return self.hold.deadline is not None and self.hold.deadline < now


@dataclass(frozen=True, slots=True)
class Followed:
    """A directory of the configuration, and how it is followed."""

    state: DirectoryState
    age: Age

    @property
    def remark(self) -> str:
        """What an operator must know while it is not followed."""
        if self.age.followed:
            return ""
        found = "holds set by others are not seen meanwhile"
        if not self.age.answers:
            return f"{found}; its people are not answered for any more"
        return found if self.age.delivers else f"{found}; mail for its people is accepted, and waits"


@dataclass(frozen=True, slots=True)
class ControlView:
    """The control database at one moment."""

    epoch: int
    fingerprint: str
    members: tuple[Member, ...]
    holds: tuple[OpenHold, ...]
    alarms: tuple[Alarm, ...]
    paused: dict[str, Pause]
    homes: dict[str, int]
    directories: tuple[Followed, ...] = ()

    @property
    def running(self) -> bool:
        """A worker is registered whose process is there, or runs on another host."""
        return any_alive(self.members)


@dataclass(frozen=True, slots=True)
class StatusView:
    """Everything. `control` is None when the control database cannot be read."""

    now: float
    control: ControlView | None
    spools: tuple[SpoolAccount, ...]
    unreadable: tuple[str, ...]
    aside: tuple[Aside, ...] = ()
    """Spools that were set aside because they are damaged. The accounts do not count what is in them."""

    @property
    def lost_sight(self) -> tuple[Aside, ...]:
        """Those from which nothing was brought back yet."""
        return tuple(one for one in self.aside if not one.recovered)

    @property
    def mail(self) -> Totals:
        """What clients handed in, over all spools."""
        return reduce(add, (one.counts.mail for one in self.spools), Totals())

    @property
    def own(self) -> Totals:
        """Notices of our own, over all spools."""
        return reduce(add, (one.counts.own for one in self.spools), Totals())

    @property
    def missing(self) -> int:
        """Recipients that the accounts cannot find, over all spools, none set off against another."""
        return sum(abs(one.missing) for one in self.spools)

    @property
    def sound(self) -> bool:
        """A worker runs, no alarm is open, directories are followed, the accounts balance, all spools could be read."""
        control = self.control
        known = control is not None and control.running and not control.alarms
        followed = control is not None and all(one.age.followed for one in control.directories)
        return known and followed and not (self.missing or self.unreadable or self.lost_sight)


def gather(
    database: ControlDatabase | None,
    places: Sequence[SpoolPlace],
    why: str = "",
    sources: Mapping[str, Ldap] | None = None,
    root: Path | None = None,
) -> StatusView:
    """
    Read all of it. `why` says what is wrong with a database that is not there, `sources` are the directories, `root`
    is where spools are and where those set aside are.
    """
    now = time.time()
    unreadable = [why] if why else []
    control = None if database is None else database.run_read(partial(_control, sources=sources or {}, now=now))
    spools = []
    for place in places:
        try:
            spools.append(account_of(place))
        except SpoolUnavailable as error:
            unreadable.append(str(error))
    return StatusView(now, control, tuple(spools), tuple(unreadable), tuple(aside(root)) if root else ())


def alive(member: Member) -> bool | None:
    """Whether the member's process is there; None for another host's."""
    if member.node not in {"", socket.gethostname()}:
        return None
    try:
        os.kill(member.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def any_alive(registered: Iterable[Member]) -> bool:
    """Whether a worker is registered whose process is there, or runs on another host."""
    return any(alive(one) is not False for one in registered)


def _control(connection: Connection, sources: Mapping[str, Ldap], now: float) -> ControlView:
    registered = tuple(members.all_members(connection))
    return ControlView(
        epoch=changes.current_epoch(connection),
        fingerprint=configuration.current(connection),
        members=registered,
        holds=_holds(connection),
        alarms=tuple(alarms.open_alarms(connection)),
        paused={one.store: one for one in stores.paused(connection)},
        homes=mailboxes.homes(connection),
        directories=_directories(connection, sources, running=any_alive(registered), now=now),
    )


def _directories(
    connection: Connection, sources: Mapping[str, Ldap], *, running: bool, now: float
) -> tuple[Followed, ...]:
    """Those of the configuration; one that nobody has followed yet has no row. Then former ones that have people."""
    known = {one.source: one for one in following.states(connection)}
    states = [known.get(name, DirectoryState(name)) for name in sources]
    found = [Followed(one, age_of(one, sources[one.source], running=running, now=now)) for one in states]
    former = [one for name, one in known.items() if name not in sources]
    left = mailboxes.sources(connection) if former else {}
    return (*found, *(Followed(one, unnamed(one, running=running)) for one in former if left.get(one.source)))


def _holds(connection: Connection) -> tuple[OpenHold, ...]:
    found = []
    left = EXPLAINED
    for mailbox, hold in sorted(mailboxes.all_open_holds(connection).items(), key=lambda one: one[1].opened_at):
        waiting: tuple[Waiting, ...] = ()
        if hold.quiet_at is None and left:
            left -= 1
            waiting = tuple(barrier.explain(connection, hold.number))
        found.append(OpenHold(mailbox, hold, waiting))
    return tuple(found)
