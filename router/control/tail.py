"""
The thread that follows the control database for one worker, with connections of its own.

Guarantees: the order of barrier.md 2 and 5. Registered with nothing applied, then read, then applied published; every
further change is handed to the loop and only after the loop has applied it acknowledged, together with the deliveries
that block holds, in one transaction: at once, unless nobody in it is on hold and the acknowledgement before had to wait
for other writers. Nothing handed to this thread is dropped while it runs: what could not be written is written when the
database is back.

On failure: a locked database is no news; an unreadable one is told as an outage and tried again; a database that is
not the one that was joined, or that no longer knows this member, fences the member for good.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from router.control import alarms, barrier, changes, following, holds, members, requests
from router.control.alarm_box import AlarmBox
from router.control.database import ControlDatabase, DatabaseBusy, DatabaseReplaced, site_uuid
from router.control.loop_port import Job, LoopClosed, LoopPort
from router.control.members import Fenced, Member
from router.control.requests import Request
from router.errors import ControlUnavailable, SluiceError
from router.model.change import Blocking, ChangeKind, ChangeSet, Ended, Snapshot
from router.model.directory import DirectoryState

HOUSEKEEPING = 1.0
_REQUESTS_AT_ONCE = 50
_RETRY_SECONDS = 0.25
_JOIN_PATIENCE = 30.0
_PATIENCE = 1.0
_REST, _LONGEST_REST = 4.0, 0.1
"""For how many times as long as an acknowledgement waited for other writers the next one leaves them alone; seconds."""


_log = logging.getLogger(__name__)


class Tail:
    """Follows the changes for one member. `run` is the thread's body; the other methods are for the loop."""

    def __init__(
        self, database: ControlDatabase, member: Member, port: LoopPort, *, poll: float, wall: Callable[[], float]
    ) -> None:
        self._database = database
        self._member = member
        self._port = port
        self._poll = poll
        self._wall = wall
        self._watch = database.watch()
        self._wake = threading.Event()
        self._stopping = False
        self._clean = False
        self._uuid = ""
        self._applied = 0
        self._directories: tuple[DirectoryState, ...] = ()
        self._unsent: tuple[int, tuple[Blocking, ...]] | None = None
        self._urgent = False
        self._rest_until = 0.0
        self._dirty = True
        self._down = False
        self._asked: set[int] = set()
        self._next_housekeeping = 0.0
        self._next_alarms = 0.0
        self.spools = [member.spool]
        self.fenced = False
        self.alarms = AlarmBox()
        self.ended: deque[Ended] = deque()
        self.answers: deque[tuple[int, Any, bool]] = deque()
        self.jobs: deque[Job] = deque()

    def wake(self) -> None:
        """There is something to write."""
        self._wake.set()

    def stop(self, *, clean: bool) -> None:
        """End soon; `clean`: nothing is in flight, remove the member."""
        self._clean = clean
        self._stopping = True
        self._wake.set()

    def join(self) -> Snapshot:
        """Register, read, publish: the first thing the thread does. Raises `ControlUnavailable`."""
        takeover = self._database.run_write(partial(members.register, member=self._member), _JOIN_PATIENCE)
        snapshot = self._database.run_read(partial(members.snapshot, takeover=takeover), _JOIN_PATIENCE)
        self._uuid = snapshot.uuid
        rows = self._port.joined(snapshot)
        self._write(members.acknowledge, epoch=snapshot.epoch, rows=rows, patience=_JOIN_PATIENCE)
        self._applied, self._directories = snapshot.epoch, snapshot.directories
        return snapshot

    def run(self) -> None:
        """Follow until stopped."""
        try:
            while not self._stopping:
                pause = self._turn()
                self._wake.wait(pause)
                self._wake.clear()
            self._finish()
        finally:
            self._watch.close()

    def _turn(self) -> float:
        """One look; how long to wait for the next."""
        if self.fenced:
            self._refuse_jobs()
            return _RETRY_SECONDS
        try:
            self._step()
        except DatabaseBusy:
            return random.uniform(self._poll / 2, self._poll)  # noqa: S311 - jitter, no secret
        except LoopClosed:
            raise
        except (Fenced, DatabaseReplaced) as error:
            self.fenced = True
            self._tell(error)
            return _RETRY_SECONDS
        except Exception as error:  # noqa: BLE001 - an unknown error is an outage too; this thread must never just end
            self._watch.close()
            self._dirty = True
            self._tell(error)
            return _RETRY_SECONDS
        self._tell(None)
        return self._poll

    def _step(self) -> None:
        self._acknowledge()
        if self._watch.changed():
            self._dirty = True
        if self._dirty:
            self._follow()
            self._dirty = False
        self._write_ended()
        self._run_jobs()
        self._write_answers()
        now = time.monotonic()
        if self.alarms and now >= self._next_alarms:
            self._next_alarms = now + 1.0
            self._write_alarms()
        if now >= self._next_housekeeping:
            self._next_housekeeping = now + HOUSEKEEPING
            self._keep_house()
            self._dirty = True  # an adopted spool may have requests waiting

    def _follow(self) -> None:
        found, asked = self._database.run_read(self._look, _PATIENCE)
        if found.epoch != self._applied or found.directories is not None:
            try:
                rows = tuple(self._port.changed(found))
            except LoopClosed:
                raise
            except Exception as error:  # a change that was not applied must never be acknowledged
                raise ControlUnavailable(f"the worker could not apply epoch {found.epoch}") from error
            self._directories = self._directories if found.directories is None else found.directories
            if found.epoch != self._applied:
                self._applied = found.epoch
                before = () if self._unsent is None else self._unsent[1]
                self._unsent = (found.epoch, (*before, *rows))
                self._acknowledge(at_once=bool(rows) or _is_urgent(found))
        for request in asked:
            self._asked.add(request.number)
            self._port.request(request)

    def _look(self, connection: Connection) -> tuple[ChangeSet, Sequence[Request]]:
        if site_uuid(connection) != self._uuid or changes.current_epoch(connection) < self._applied:
            raise Fenced("the control database is not the one that was joined")
        found = requests.waiting(connection, self.spools, limit=_REQUESTS_AT_ONCE)
        asked = [request for request in found if request.number not in self._asked]
        states = following.states(connection)
        told = None if states == self._directories else states
        return replace(changes.since(connection, self._applied), directories=told), asked

    def _acknowledge(self, *, at_once: bool = False) -> None:
        """
        Write how far this member is. Where many write, one acknowledgement stands for several epochs: nothing waits
        for most of them, and each takes the lock from those who have something to say.
        """
        begun = time.monotonic()
        self._urgent |= at_once
        if self._unsent is None or (begun < self._rest_until and not self._urgent):
            return
        epoch, rows = self._unsent

        def work(connection: Connection, **values: Any) -> None:
            wait = time.monotonic() - begun
            self._rest_until = begun + wait + min(wait * _REST, _LONGEST_REST)
            members.acknowledge(connection, **values)

        self._write(work, epoch=epoch, rows=rows)
        self._unsent, self._urgent = None, False

    def _write_ended(self) -> None:
        batch = list(self.ended)
        if batch:
            self._write(members.unblock, ended=batch)
            for _ in batch:
                self.ended.popleft()

    def _run_jobs(self) -> None:
        while self.jobs:
            job = self.jobs[0]
            try:
                result = self._database.run_write(job.work, _PATIENCE)
            except DatabaseBusy:
                raise
            except Exception as error:
                self.jobs.popleft()
                job.done(None, error)
                if not isinstance(error, SluiceError) or isinstance(error, ControlUnavailable):
                    raise
            else:
                self.jobs.popleft()
                job.done(result, None)

    def _refuse_jobs(self) -> None:
        while self.jobs:
            self.jobs.popleft().done(None, Fenced("this member is no longer registered"))

    def _write_answers(self) -> None:
        batch = list(self.answers)
        if not batch:
            return

        def work(connection: Connection) -> None:
            for number, value, failed in batch:
                requests.answer(connection, number, value, self._wall(), failed=failed)

        self._database.run_write(work, _PATIENCE)
        for number, _, _ in batch:
            self.answers.popleft()
            self._asked.discard(number)
        self._dirty = True  # more requests may have waited for room

    def _write_alarms(self) -> None:
        batch = self.alarms.take()

        def work(connection: Connection) -> None:
            now = self._wall()
            for one in batch:
                if one.count:
                    alarms.raise_alarm(connection, one.kind, one.key, one.text, now, one.count)
                else:
                    alarms.clear_alarm(connection, one.kind, one.key, now)

        try:
            self._database.run_write(work, _PATIENCE)
        except BaseException:
            self.alarms.give_back(batch)
            raise

    def _keep_house(self) -> None:
        """What nobody else may be there to do: holds whose time in doubt ran out, deadlines, old change rows."""
        now = self._wall()

        def look(connection: Connection) -> tuple[bool, bool, bool]:
            old = changes.current_epoch(connection) - changes.floor(connection) > changes.KEEP + 1000
            return barrier.pending(connection), bool(holds.overdue(connection, now, 1)), old

        waiting, late, old = self._database.run_read(look, _PATIENCE)
        if waiting:
            self._database.run_write(partial(barrier.evaluate, now=now), _PATIENCE)
        if late:
            self._database.run_write(partial(holds.alarm_overdue, now=now), _PATIENCE)
        if old:
            self._database.run_write(changes.prune, _PATIENCE)

    def _finish(self) -> None:
        try:
            if not self.fenced:
                self._acknowledge(at_once=True)
                self._write_ended()
                self._write_answers()
                self._write_alarms()
                if self._clean:
                    self._write(members.unregister, patience=_JOIN_PATIENCE / 3)
        except (ControlUnavailable, SQLAlchemyError, OSError):
            pass  # the row stays: the successor takes over as after an unclean end, which is always safe
        self._refuse_jobs()

    def _write(self, work: Callable[..., Any], *, patience: float = _PATIENCE, **values: Any) -> None:
        bound = partial(work, incarnation=self._member.incarnation, now=self._wall(), **values)
        self._database.run_write(bound, patience)

    def _tell(self, error: BaseException | None) -> None:
        """Report the beginning and the end of an outage, each once."""
        down = error is not None
        if down == self._down:
            return
        if down:
            _log.warning("the control database is not followed%s: %s", " any more" if self.fenced else "", error)
        else:
            _log.warning("the control database is followed again")
        self._down = down
        self._port.outage(down)


def _is_urgent(found: ChangeSet) -> bool:
    """Whether a barrier, or a command, is likely to wait for it: anything but a change of somebody not on hold."""
    return any(found.holds.values()) or any(
        change.kind not in (ChangeKind.MAILBOX, ChangeKind.ADDRESS) for change in found.changes
    )
