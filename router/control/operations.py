"""
What commands call: hold, release and move, from the first change to the moment it is in force.

Guarantees: a change is durable before anything is waited for, and commands are idempotent: the same verb again joins.
`hold` reports quiet only by `quiet_at`, which only the barrier sets. A member that does not answer is waited for and
named, never counted out, unless `lock_probe` says that the lock of its spool is free: then it is dead, and what was
queued in its spool is in doubt for `settle` seconds (barrier.md 8, 9).

On failure: `NotFound` and `Conflict` before anything was changed; `ControlUnavailable`.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from router.control import barrier, edits, holds, mailboxes, members
from router.control.audit import Act
from router.control.barrier import Waiting
from router.control.database import ControlDatabase, DatabaseBusy, Watch
from router.control.holds import HoldRecord, InDoubt, Terms
from router.control.members import Member, Suspect
from router.control.rows import slices
from router.errors import Conflict, NotFound

POLL = 0.005
_DEAD_EVERY = 0.5
_EVALUATE_EVERY = 0.5
_TOGETHER = 50
"""Mailboxes changed in one transaction."""

LockProbe = Callable[[Member], bool]
Suspects = Callable[[Member], Sequence[Suspect]]
Copy = Callable[["HoldResult"], int]


@dataclass(frozen=True, slots=True)
class HoldResult:
    """How a hold stands. `ended`: somebody else ended it meanwhile."""

    key: str
    hold: int
    quiet: bool
    waiting_for: tuple[Waiting, ...] = ()
    in_doubt: tuple[InDoubt, ...] = ()
    ended: bool = False
    error: str = ""
    """Why it could not be held; then `hold` is 0."""


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """What a release did; `applied` is whether every live member has it in force. `error`: it could not be."""

    key: str
    home_before: str = ""
    home: str = ""
    released: bool = False
    applied: bool = False
    waiting_for: tuple[Member, ...] = ()
    in_doubt: tuple[InDoubt, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class MoveResult:
    """How far a move came: the hold, the copy command's exit status (None: not run), the release."""

    hold: HoldResult
    status: int | None = None
    release: ReleaseResult | None = None


@dataclass(frozen=True, slots=True)
class _Dead:
    """How the death of members is seen, and what follows from it."""

    probe: LockProbe | None
    suspects: Suspects
    settle: float


def _unknown(_member: Member) -> Sequence[Suspect]:
    return [Suspect(barrier.EVERYBODY, "")]


class Operations:
    """
    The verbs on holds. `wall`, `monotonic` and `sleep` are in seconds; everything runs in the caller's thread.

    `stores` are the configuration's; `never_held` the postmaster's mailbox. `lock_probe` tells whether a member's
    spool lock is free, `suspects` what is queued there (by default: anything, so every hold waits `settle`).
    """

    def __init__(
        self,
        database: ControlDatabase,
        stores: Collection[str],
        *,
        never_held: Collection[str] = (),
        lock_probe: LockProbe | None = None,
        suspects: Suspects = _unknown,
        settle: float = 60.0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._stores = stores
        self._never_held = never_held
        self._dead = _Dead(lock_probe, suspects, settle)
        self._wall = wall
        self._monotonic = monotonic
        self._sleep = sleep

    def hold(
        self, keys: Sequence[str], act: Act, terms: Terms | None = None, *, timeout: float = 60.0
    ) -> list[HoldResult]:
        """
        Hold the mailboxes of these address keys, or join their holds, and wait for the barrier.

        Raises `NotFound` when an address has no mailbox; a `Conflict` of one mailbox is in its result.
        """
        targets = self._resolve(keys)
        if terms is not None and terms.target:
            self._require_store(terms.target)
        opened: dict[str, HoldResult] = {}
        for run in slices(targets, _TOGETHER):
            opened.update(self._database.run_write(partial(self._open, keys=run, act=act, terms=terms)))
        self._wait_quiet([one for one in opened.values() if one.hold], timeout)
        return [self._standing(one) if one.hold else one for one in opened.values()]

    def release(
        self,
        keys: Sequence[str],
        act: Act,
        to: str | None = None,
        *,
        timeout: float = 60.0,
        expected: int | None = None,
    ) -> list[ReleaseResult]:
        """
        End the holds; with `to` the home changes in the same transaction. Waits until live members have applied it.

        Raises `NotFound`, also for an unknown store; a `Conflict` of one mailbox is in its result.
        """
        targets = self._resolve(keys)
        if to is not None:
            self._require_store(to)
        released: list[ReleaseResult] = []
        newest = 0
        for run in slices(targets, _TOGETHER):
            work = partial(self._close, keys=run, act=act, to=to, expected=expected)
            results, epoch = self._database.run_write(work)
            released += results
            newest = max(newest, epoch)
        lagging = self.wait_applied(newest, timeout)
        return [one if one.error else _applied(one, lagging) for one in released]

    def move(
        self,
        key: str,
        to: str,
        act: Act,
        *,
        run: Copy | None = None,
        terms: Terms | None = None,
        timeout: float = 60.0,
    ) -> MoveResult:
        """
        Hold, barrier, copy, flip and release. `run` is called while the mailbox is quiet; its non-zero status leaves
        the hold in place. Raises `NotFound`, `Conflict` (also when somebody ended the hold meanwhile).
        """
        terms = terms or Terms()
        wanted = Terms(terms.batch, terms.deadline, to, terms.origin)
        held = self.hold([key], act, wanted, timeout=timeout)[0]
        if held.error:
            raise Conflict(held.error)
        if held.ended or not held.quiet:
            return MoveResult(held)
        status = run(held) if run is not None else None
        if status:
            return MoveResult(held, status)
        self._require_quiet(held)
        released = self.release([held.key], act, to, timeout=timeout, expected=held.hold)[0]
        if released.error:
            raise Conflict(released.error)
        return MoveResult(held, status, released)

    def wait_applied(self, epoch: int, timeout: float) -> tuple[Member, ...]:
        """Wait until every live member has applied `epoch`; those that have not in time."""
        lagging: tuple[Member, ...] = ()
        for _ in self._rounds(timeout):
            found = self._database.run_read(members.all_members)
            lagging = tuple(member for member in found if member.applied < epoch)
            if not lagging:
                break
        return lagging

    def _open(
        self, connection: Connection, keys: Sequence[str], act: Act, terms: Terms | None
    ) -> dict[str, HoldResult]:
        found = {}
        for key in keys:
            try:
                hold = holds.open_hold(connection, key, act, terms, never=self._never_held)
            except (Conflict, NotFound) as error:
                found[key] = HoldResult(key, 0, quiet=False, error=error.private)
            else:
                found[key] = HoldResult(key, hold.number, quiet=hold.quiet_at is not None)
        barrier.evaluate(connection, self._wall())
        return found

    def _close(
        self, connection: Connection, keys: Sequence[str], act: Act, to: str | None, expected: int | None
    ) -> tuple[list[ReleaseResult], int]:
        results = []
        newest = 0
        for key in keys:
            try:
                done = holds.release(connection, key, act, to, expected=expected)
            except (Conflict, NotFound) as error:
                results.append(ReleaseResult(key, error=error.private))
                continue
            newest = max(newest, done.epoch)
            results.append(
                ReleaseResult(key, done.home_before, done.home, released=done.number != 0, in_doubt=done.in_doubt)
            )
        return results, newest

    def _wait_quiet(self, opened: Sequence[HoldResult], timeout: float) -> None:
        next_evaluation = self._monotonic() + _EVALUATE_EVERY
        pending = list(opened)
        for _ in self._rounds(timeout):
            states = self._database.run_read(partial(_open_holds, keys=[one.key for one in pending]))
            pending = [one for one in pending if one.hold in states and not states[one.hold]]
            if not pending:
                return
            if self._monotonic() >= next_evaluation:
                next_evaluation = self._monotonic() + _EVALUATE_EVERY
                self._database.run_write(partial(barrier.evaluate, now=self._wall()))

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

    def _standing(self, one: HoldResult) -> HoldResult:
        def look(connection: Connection) -> tuple[HoldRecord, tuple[Waiting, ...]]:
            record = holds.get(connection, one.hold)
            waits = record.closed_at is None and record.hold.quiet_at is None
            return record, tuple(barrier.explain(connection, one.hold)) if waits else ()

        record, waiting = self._database.run_read(look)
        ended = record.closed_at is not None
        quiet = not ended and record.hold.quiet_at is not None
        return HoldResult(one.key, one.hold, quiet, waiting, record.in_doubt, ended)

    def _require_quiet(self, held: HoldResult) -> None:
        """The barrier may have been opened again while the copy ran (a forced move of an address)."""
        now = self._standing(held)
        if now.ended:
            raise Conflict(f"hold {held.hold} of {held.key} was ended meanwhile by somebody else")
        if not now.quiet:
            raise Conflict(f"the barrier of {held.key} was opened again while it was copied; copy it once more")

    def _resolve(self, keys: Sequence[str]) -> list[str]:
        found = self._database.run_read(partial(edits.resolve, addresses=list(keys)))
        return list(dict.fromkeys(found[key] for key in keys))

    def _require_store(self, store: str) -> None:
        if store not in self._stores:
            raise NotFound(f"there is no store {store}")


def _changed(watch: Watch) -> bool:
    try:
        return watch.changed()
    except DatabaseBusy:
        return False


def _open_holds(connection: Connection, keys: Sequence[str]) -> dict[int, bool]:
    """Number to quiet, of the open holds of these mailboxes."""
    found = mailboxes.open_hold_of(connection, keys)
    return {hold.number: hold.quiet_at is not None for hold in found.values()}


def _applied(one: ReleaseResult, lagging: tuple[Member, ...]) -> ReleaseResult:
    return ReleaseResult(
        one.key, one.home_before, one.home, one.released, not lagging, lagging, one.in_doubt, one.error
    )
