"""
What commands call: hold, release and move, from the first change to the moment it is in force.

Guarantees: a change is durable before anything is waited for, and commands are idempotent: the same verb again joins.
`hold` reports quiet only by `quiet_at`, which only the barrier sets. Where a mailbox comes from a directory, status
and home are written there too, in the order of barrier.md 12 (`directory_side`): a hold is in force here whatever the
directory does, and nothing is released that the directory does not say.

On failure: `NotFound` and `Conflict` before anything was changed; `ControlUnavailable`; `LookupFailed` when a mailbox
that is not known yet cannot be looked up.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from router.control import barrier, changes, edits, following, hold_records, mailboxes, previews
from router.control.audit import Act
from router.control.awaiting import POLL, Awaiting, Clocks, Dead, LockProbe, Suspects, unknown_suspects
from router.control.barrier import Waiting
from router.control.database import ControlDatabase
from router.control.directory_side import DirectorySide, Fetch
from router.control.directory_steps import close_all, open_hold
from router.control.hold_records import HoldRecord
from router.control.holds import Terms
from router.control.members import Member
from router.control.results import HoldResult, MoveResult, Preview, ReleaseResult
from router.control.rows import slices
from router.errors import Conflict, LookupFailed, NotFound
from router.model.mailbox import Hold
from router.ports import DirectoryWriter

__all__ = ["POLL", "HoldResult", "MoveResult", "Operations", "Preview", "ReleaseResult"]

_TOGETHER = 500
"""Mailboxes changed in one transaction: some 0.1 s for which everybody else waits."""
_BESIDE_DIRECTORIES = 50
"""The same where directories have a say in each of them."""
_IN_STEP = 0.5
"""Seconds for which members may follow `_TOGETHER` changes before the next; once they are slower, nobody waits."""

Copy = Callable[[HoldResult], int]


class Operations:
    """
    The verbs on holds. `wall`, `monotonic` and `sleep` are in seconds; everything runs in the caller's thread.

    `stores` are the configuration's; `never_held` the postmaster's mailbox. `lock_probe` tells whether a member's
    spool lock is free, `suspects` what is queued there (by default: anything, so every hold waits `settle`).
    `writers` are the directories by name; `fetch` looks people up there that the mirror does not have yet.
    """

    def __init__(
        self,
        database: ControlDatabase,
        stores: Collection[str],
        *,
        never_held: Collection[str] = (),
        lock_probe: LockProbe | None = None,
        suspects: Suspects = unknown_suspects,
        settle: float = 60.0,
        writers: Mapping[str, DirectoryWriter] | None = None,
        fetch: Fetch | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._stores = stores
        self._never_held = never_held
        self._wall = wall
        self._directories = DirectorySide(database, writers or {}, fetch, never_held)
        self._awaiting = Awaiting(database, Dead(lock_probe, suspects, settle), Clocks(wall, monotonic, sleep))

    def hold(
        self, keys: Sequence[str], act: Act, terms: Terms | None = None, *, timeout: float = 60.0
    ) -> list[HoldResult]:
        """
        Hold the mailboxes of these address keys, or join their holds, and wait for the barrier.

        Raises `NotFound` when an address has no mailbox; a `Conflict` of one mailbox is in its result, and so is
        why a directory was not written.
        """
        targets = self._resolve(keys)
        if terms is not None and terms.target:
            self._require_store(terms.target)
        opened: dict[str, HoldResult] = {}
        for run in self._runs(targets):
            opened.update(self._database.run_write(partial(self._open, keys=run, act=act, terms=terms)))
        self._directories.begin()
        elsewhere = self._from_directories(list(opened))
        opened.update({key: self._directories.hold(opened[key]) for key in elsewhere if opened[key].hold})
        results = list(opened.values())
        self._awaiting.quiet([one for one in results if one.hold], timeout)
        return [one for run in slices(results) for one in self._as_it_is(run)]

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

        Raises `NotFound`, also for an unknown store; a `Conflict` of one mailbox is in its result, and so is a
        directory that cannot be written: then nothing of that mailbox was released.
        """
        targets = self._resolve(keys)
        if to is not None:
            self._require_store(to)
        self._directories.begin()
        elsewhere = dict.fromkeys(self._from_directories(targets))
        done: dict[str, ReleaseResult] = {}
        newest = 0
        for run in self._runs([key for key in targets if key not in elsewhere]):
            work = partial(close_all, keys=run, act=act, to=to, expected=expected, never=self._never_held)
            results, epoch = self._database.run_write(work)
            done.update({one.key: one for one in results})
            newest = max(newest, epoch)
        for key in elsewhere:
            done[key], epoch = self._release_there(key, act, to, expected)
            newest = max(newest, epoch)
        lagging = self.wait_applied(newest, timeout)
        in_order = [done[key] for key in targets]
        return [one if one.error else replace(one, applied=not lagging, waiting_for=lagging) for one in in_order]

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
        the hold in place. Nothing is copied while the directory could not be told of the hold, nor where it is the
        directory's and only ends there.

        Raises `NotFound`, `Conflict` (also when somebody ended the hold meanwhile).
        """
        terms = terms or Terms()
        wanted = Terms(terms.batch, terms.deadline, to, terms.origin)
        held = self.hold([key], act, wanted, timeout=timeout)[0]
        if held.error:
            raise Conflict(held.error)
        if held.ended or not held.quiet or held.unwritten:
            return MoveResult(held)
        self._directories.require_ours(held.key)
        status = run(held) if run is not None else None
        if status:
            return MoveResult(held, status)
        self._require_quiet(held)
        released = self.release([held.key], act, to, timeout=timeout, expected=held.hold)[0]
        if released.error and not released.temporary:
            raise Conflict(released.error)
        return MoveResult(held, status, released)

    def preview(
        self, keys: Sequence[str], *, hold: bool, release: bool = False, to: str | None = None
    ) -> list[Preview]:
        """
        What a hold, a release or a move (both) would write into directories, as LDIF; nothing is written.

        Raises `NotFound`, `Conflict`, `LookupFailed`.
        """
        self._directories.begin()
        return [previews.of(self._directories, key, hold=hold, release=release, to=to) for key in self._resolve(keys)]

    def wait_applied(self, epoch: int, timeout: float) -> tuple[Member, ...]:
        """Wait until every live member has applied `epoch`; those that have not in time."""
        return self._awaiting.applied(epoch, timeout)

    def _open(
        self, connection: Connection, keys: Sequence[str], act: Act, terms: Terms | None
    ) -> dict[str, HoldResult]:
        found = {}
        for key, hold in open_hold(connection, keys, act, terms, self._never_held).items():
            if isinstance(hold, Hold):
                found[key] = HoldResult(key, hold.number, quiet=hold.quiet_at is not None)
            else:
                found[key] = HoldResult(key, 0, quiet=False, error=hold.private)
        barrier.evaluate(connection, self._wall())
        return found

    def _release_there(self, key: str, act: Act, to: str | None, expected: int | None) -> tuple[ReleaseResult, int]:
        try:
            return self._directories.release(key, act, to, expected)
        except LookupFailed as error:
            return ReleaseResult(key, error=error.private, temporary=True), 0
        except (Conflict, NotFound) as error:
            return ReleaseResult(key, error=error.private), 0

    def _as_it_is(self, opened: Sequence[HoldResult]) -> list[HoldResult]:
        numbers = [one.hold for one in opened if one.hold]
        records = self._database.run_read(partial(hold_records.get_all, numbers=numbers))
        return [self._standing(one, records.get(one.hold)) if one.hold else one for one in opened]

    def _standing(self, one: HoldResult, record: HoldRecord | None) -> HoldResult:
        waiting: tuple[Waiting, ...] = ()
        if record is None or (record.closed_at is None and record.hold.quiet_at is None):
            record, waiting = self._database.run_read(partial(_explained, number=one.hold))
        ended = record.closed_at is not None
        quiet = not ended and record.hold.quiet_at is not None
        return replace(one, quiet=quiet, waiting_for=waiting, in_doubt=record.in_doubt, ended=ended)

    def _require_quiet(self, held: HoldResult) -> None:
        """The barrier may have been opened again while the copy ran (a forced move of an address)."""
        (now,) = self._as_it_is([held])
        if now.ended:
            raise Conflict(f"hold {held.hold} of {held.key} was ended meanwhile by somebody else")
        if not now.quiet:
            raise Conflict(f"the barrier of {held.key} was opened again while it was copied; copy it once more")

    def _resolve(self, keys: Sequence[str]) -> list[str]:
        known = self._database.run_read(partial(mailboxes.owners, addresses=list(keys)))
        missing = [key for key in keys if key not in known]
        if missing:
            self._directories.fetch(missing)
            known = self._database.run_read(partial(edits.resolve, addresses=list(keys)))
        return list(dict.fromkeys(known[key] for key in keys))

    def _from_directories(self, keys: Sequence[str]) -> list[str]:
        """Those of the mailboxes that come from a directory, in the same order."""
        found: set[str] = set()
        for run in slices(keys):
            found |= self._database.run_read(partial(mailboxes.from_directories, keys=run))
        return [key for key in keys if key in found]

    def _runs(self, keys: Sequence[str]) -> Iterator[Sequence[str]]:
        """
        Those that are changed in one transaction, run by run.

        Members follow before the next ones come: kept from the lock by one transaction after the other, they would
        fall back behind so many changes that they must resynchronise, and then every delivery blocks every hold.
        """
        size = _BESIDE_DIRECTORIES if self._database.run_read(following.any_directory) else _TOGETHER
        patience = _IN_STEP
        for number, run in enumerate(slices(keys, size)):
            if number and patience and number * size % _TOGETHER == 0:
                epoch = self._database.run_read(changes.current_epoch)
                patience = 0.0 if self._awaiting.applied(epoch, patience) else patience
            yield run

    def _require_store(self, store: str) -> None:
        if store not in self._stores:
            raise NotFound(f"there is no store {store}")


def _explained(connection: Connection, number: int) -> tuple[HoldRecord, tuple[Waiting, ...]]:
    """The hold with what it waits for, of one snapshot."""
    record = hold_records.get(connection, number)
    waits = record.closed_at is None and record.hold.quiet_at is None
    return record, tuple(barrier.explain(connection, number)) if waits else ()
