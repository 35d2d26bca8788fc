"""
Waiting for members: until a hold is quiet, until an epoch is in force everywhere.

Guarantees: a member that does not answer is waited for and named, never counted out, unless `lock_probe` says that
the lock of its spool is free: then it is dead, and what was queued in its spool is in doubt for `settle` seconds
(barrier.md 8, 9). Quiet is only ever told by `quiet_at`, which only the barrier sets.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from router.control import barrier, hold_records, members
from router.control.database import ControlDatabase, DatabaseBusy, Watch
from router.control.members import Member, Suspect
from router.control.results import HoldResult
from router.control.rows import SLICE

POLL = 0.005
_DEAD_EVERY = 0.5
_EVALUATE_EVERY = 0.5

LockProbe = Callable[[Member], bool]
Suspects = Callable[[Member], Sequence[Suspect]]


def unknown_suspects(_member: Member) -> Sequence[Suspect]:
    """Nobody knows what is queued in a dead member's spool: it is in doubt for every mailbox."""
    return [Suspect(barrier.EVERYBODY, "")]


@dataclass(frozen=True, slots=True)
class Dead:
    """How the death of members is seen, and what follows from it. `settle` is in seconds."""

    probe: LockProbe | None
    suspects: Suspects
    settle: float


@dataclass(frozen=True, slots=True)
class Clocks:
    """All in seconds."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


class Awaiting:
    """Waits in the caller's thread."""

    def __init__(self, database: ControlDatabase, dead: Dead, clocks: Clocks) -> None:
        self._database = database
        self._dead = dead
        self._wall = clocks.wall
        self._monotonic = clocks.monotonic
        self._sleep = clocks.sleep

    def applied(self, epoch: int, timeout: float) -> tuple[Member, ...]:
        """Wait until every live member has applied `epoch`; those that have not in time."""
        lagging: tuple[Member, ...] = ()
        for _ in self._rounds(timeout):
            found = self._database.run_read(members.all_members)
            lagging = tuple(member for member in found if member.applied < epoch)
            if not lagging:
                break
        return lagging

    def quiet(self, opened: Sequence[HoldResult], timeout: float) -> None:
        """Wait until each of these holds is quiet, or ended."""
        next_evaluation = self._monotonic() + _EVALUATE_EVERY
        pending: Sequence[int] = [one.hold for one in opened]
        for _ in self._rounds(timeout):
            pending = self._still_pending(pending)
            if not pending:
                return
            if self._monotonic() >= next_evaluation:
                next_evaluation = self._monotonic() + _EVALUATE_EVERY
                self._database.run_write(partial(barrier.evaluate, now=self._wall()))

    def _still_pending(self, numbers: Sequence[int]) -> Sequence[int]:
        """Without those that are over, as far as the first slice with one that is not: short reads, few of them."""
        for start in range(0, len(numbers), SLICE):
            run = numbers[start : start + SLICE]
            left = self._database.run_read(partial(hold_records.pending_among, numbers=run))
            if left:
                return [*left, *numbers[start + SLICE :]]
        return []

    def _rounds(self, timeout: float) -> Iterator[None]:
        """Once at the start, then whenever something was committed or some time went by, until the time is over."""
        deadline = self._monotonic() + timeout
        next_dead = self._monotonic() + _DEAD_EVERY
        watch = self._database.watch()
        try:
            while True:
                yield
                looked = self._monotonic()
                self._sleep(POLL)
                while not _changed(watch) and self._monotonic() < min(looked + _EVALUATE_EVERY, deadline):
                    self._sleep(POLL)
                if self._monotonic() >= next_dead:
                    next_dead = self._monotonic() + _DEAD_EVERY
                    self._count_out_dead()
                if self._monotonic() >= deadline:
                    yield
                    return
        finally:
            watch.close()

    def _count_out_dead(self) -> None:
        if self._dead.probe is None:
            return
        for member in self._database.run_read(members.all_members):
            if self._dead.probe(member):
                suspects = tuple(self._dead.suspects(member))
                now = self._wall()
                until = now + self._dead.settle
                work = partial(
                    members.take_over, incarnation=member.incarnation, suspects=suspects, until=until, now=now
                )
                self._database.run_write(work)


def _changed(watch: Watch) -> bool:
    try:
        return watch.changed()
    except DatabaseBusy:
        return False
