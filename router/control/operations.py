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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from router.control import barrier, edits, holds, mailboxes, previews, schema
from router.control.audit import Act
from router.control.awaiting import POLL, Awaiting, Clocks, Dead, LockProbe, Suspects, unknown_suspects
from router.control.barrier import Waiting
from router.control.database import ControlDatabase
from router.control.directory_side import DirectorySide, Fetch
from router.control.directory_steps import close, open_hold
from router.control.holds import HoldRecord, Terms
from router.control.members import Member
from router.control.results import HoldResult, MoveResult, Preview, ReleaseResult
from router.control.rows import slices
from router.errors import Conflict, LookupFailed, NotFound
from router.model.mailbox import Hold
from router.ports import DirectoryWriter

__all__ = ["POLL", "HoldResult", "MoveResult", "Operations", "Preview", "ReleaseResult"]

_TOGETHER = 50
"""Mailboxes changed in one transaction."""

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
        for run in slices(targets, _TOGETHER):
            opened.update(self._database.run_write(partial(self._open, keys=run, act=act, terms=terms)))
        self._directories.begin()
        elsewhere = self._database.run_read(partial(_from_directories, keys=list(opened)))
        opened.update({key: self._directories.hold(opened[key]) for key in elsewhere if opened[key].hold})
        results = list(opened.values())
        self._awaiting.quiet([one for one in results if one.hold], timeout)
        return [self._standing(one) if one.hold else one for one in results]

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
        elsewhere = self._database.run_read(partial(_from_directories, keys=targets))
        done: dict[str, ReleaseResult] = {}
        newest = 0
        for run in slices([key for key in targets if key not in elsewhere], _TOGETHER):
            work = partial(self._close, keys=run, act=act, to=to, expected=expected)
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

    def _close(
        self, connection: Connection, keys: Sequence[str], act: Act, to: str | None, expected: int | None
    ) -> tuple[list[ReleaseResult], int]:
        results = []
        newest = 0
        for key in keys:
            try:
                done, epoch = close(connection, key, act, to, expected, never=self._never_held)
            except (Conflict, NotFound) as error:
                results.append(ReleaseResult(key, error=error.private))
            else:
                newest = max(newest, epoch)
                results.append(done)
        return results, newest

    def _release_there(self, key: str, act: Act, to: str | None, expected: int | None) -> tuple[ReleaseResult, int]:
        try:
            return self._directories.release(key, act, to, expected)
        except LookupFailed as error:
            return ReleaseResult(key, error=error.private, temporary=True), 0
        except (Conflict, NotFound) as error:
            return ReleaseResult(key, error=error.private), 0

    def _standing(self, one: HoldResult) -> HoldResult:
        def look(connection: Connection) -> tuple[HoldRecord, tuple[Waiting, ...]]:
            record = holds.get(connection, one.hold)
            waits = record.closed_at is None and record.hold.quiet_at is None
            return record, tuple(barrier.explain(connection, one.hold)) if waits else ()

        record, waiting = self._database.run_read(look)
        ended = record.closed_at is not None
        quiet = not ended and record.hold.quiet_at is not None
        return replace(one, quiet=quiet, waiting_for=waiting, in_doubt=record.in_doubt, ended=ended)

    def _require_quiet(self, held: HoldResult) -> None:
        """The barrier may have been opened again while the copy ran (a forced move of an address)."""
        now = self._standing(held)
        if now.ended:
            raise Conflict(f"hold {held.hold} of {held.key} was ended meanwhile by somebody else")
        if not now.quiet:
            raise Conflict(f"the barrier of {held.key} was opened again while it was copied; copy it once more")

    def _resolve(self, keys: Sequence[str]) -> list[str]:
        known = self._database.run_read(partial(mailboxes.owners, addresses=list(keys)))
        self._directories.fetch([key for key in keys if key not in known])
        found = self._database.run_read(partial(edits.resolve, addresses=list(keys)))
        return list(dict.fromkeys(found[key] for key in keys))

    def _require_store(self, store: str) -> None:
        if store not in self._stores:
            raise NotFound(f"there is no store {store}")


def _from_directories(connection: Connection, keys: Sequence[str]) -> list[str]:
    """Those of the mailboxes that come from a directory, in the same order."""
    found = mailboxes.by_key(connection, keys)
    return [key for key in keys if key in found and found[key].source != schema.DATABASE]
