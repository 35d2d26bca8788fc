"""
One worker: one event loop with its spool, its deliveries and its listeners.

Guarantees: the order of a start is lock, spool, join (barrier rules 5, 8, 9), releases, deliveries, listeners; a stop
goes the other way round, and the member is unregistered only when nothing was cut off after a final dot. While the
control database is not the one the spool knows, or cannot be read, mail is accepted and queued, and nothing is
delivered.

On failure: an exit code other than 0; the supervisor starts a successor, which takes the spool over.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from router.classify.probe import Prober
from router.classify.rules import AddressRules, load_rules
from router.control import configuration
from router.control.database import ControlDatabase
from router.control.follower import Follower
from router.control.requests import Request
from router.daemon import descriptors
from router.daemon.alarm_keeper import AlarmKeeper
from router.daemon.clock import SystemClock
from router.daemon.damaged import EX_DAMAGED
from router.daemon.directories import Directories
from router.daemon.front import Front
from router.daemon.requests import RequestDesk
from router.daemon.single_step import SingleStep
from router.daemon.spool_watch import SpoolWatch
from router.daemon.standing import SpoolStanding
from router.daemon.trace import WorkerTrace
from router.daemon.wiring import LaneSenders, Surroundings, Wiring, longest_settle
from router.deliver.inflight import EVERYBODY, InFlight
from router.deliver.lanes import Handle
from router.deliver.recall import Recall
from router.deliver.site import Senders
from router.errors import SluiceError, SpoolUnavailable
from router.model.change import Blocking, ChangeSet, Snapshot
from router.model.mailbox import Hold
from router.report.alarms import AlarmKind
from router.report.observer import Observer
from router.settings.published import recall
from router.settings.schema import Settings
from router.spool.options import SpoolOptions
from router.spool.spool import Spool

log = logging.getLogger("sluice.worker")

_GRACE = 12.0
_LOOK = 0.5
_CALM = 600
_TRY_AGAIN = 2.0
"""Seconds between tries to follow what the control database says, while that or the file cannot be read."""
EX_TEMPFAIL = 75
_UNKNOWN_HOLD = Hold(0, 0.0, 0)
"""Of a hold that a snapshot names, only the mailbox is known here; the database finds the record by that."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How the supervisor started this process: its pid (or 0), and `ready`, a descriptor to write to once serving."""

    config: Path
    slot: int
    spool: int
    listen: tuple[int, ...] = ()
    ready: int = -1
    single_step: bool = False
    workers: int = 1
    supervisor: int = 0


class Worker:
    """Everything of one worker process; `run` is its whole life."""

    def __init__(self, settings: Settings, options: WorkerOptions, observer: Observer) -> None:
        self._settings = settings
        self._options = options
        self._clock = SystemClock()
        self._observer = observer
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._outage = False
        self._started_at = self._clock.wall()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        self._database: ControlDatabase
        self._spool: Spool
        self._follower: Follower
        self._trace: WorkerTrace
        self._inflight: InFlight
        self._standing: SpoolStanding
        self._directories: Directories
        self._wiring: Wiring
        self._rules: AddressRules
        self._step: SingleStep
        self._senders: LaneSenders
        self._front: Front | None = None

    async def run(self) -> int:
        """Start, serve until told to stop, stop; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGHUP, self._renew)
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            await self._start(stack)
            self._say_ready()
            await self._serve()
        return self._exit_code

    # -- start ------------------------------------------------------------------------------------------------

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        settings, options = self._settings, self._options
        limits = settings.limits
        minimum_free = max(limits.minimum_free, settings.message_size_limit * 3 // 2)
        directory = settings.state_dir / "spool" / f"{options.spool:04d}"
        if not directory.is_dir():
            # Not made here: a number whose directory is gone, or was set aside, must not begin again.
            raise SpoolUnavailable(f"{directory} is not there")
        self._spool = await Spool.open(
            directory,
            options.spool,
            create=True,
            options=SpoolOptions(
                minimum_free=minimum_free, minimum_inodes=limits.minimum_free_inodes, room=descriptors.room
            ),
        )
        stack.push_async_callback(self._spool.close)
        for warning in self._spool.warnings:
            log.warning("spool %04d: %s", options.spool, warning)
        self._database = await asyncio.to_thread(ControlDatabase.open, settings.database_url)
        stack.callback(self._database.close)
        self._connect(stack, socket.gethostname(), time.time)

    def _connect(self, stack: contextlib.AsyncExitStack, node: str, wall: Callable[[], float]) -> None:
        """What works between spool and control database. `wall` is the clock that all members' rows go by."""
        self._inflight = InFlight(lambda ended: self._follower.ended((ended,)))
        self._follower = Follower(
            self._database,
            on_changes=self._changed,
            on_outage=self._outage_changed,
            on_request=self._request,
            on_join=self._joined,
            node=node,
            wall=wall,
        )
        self._trace = WorkerTrace(self._observer, self._follower.raise_alarm, self._follower.clear_alarm)
        self._standing = SpoolStanding(
            self._spool, self._database, self._trace, self._started_at, self._spawn, self._apply_trust
        )
        self._directories = Directories(
            self._database,
            self._clock,
            woken=lambda: self._wiring.plane.releases.unrouted(),  # noqa: PLW0108 - the wiring comes later
            doubted=lambda: self._wiring.plane.classifier.distrust(),  # noqa: PLW0108 - likewise
            alarm=self._trace.alarm,
        )
        stack.push_async_callback(self._directories.close)

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        self._rules = await asyncio.to_thread(load_rules, self._settings)
        self._step = SingleStep(self._spool.directory)
        if self._options.single_step:
            suspect = await self._step.park_suspect(self._spool.desk)
            log.warning("single-step mode%s", f"; {suspect} was parked" if suspect else "")
        stack.push_async_callback(self._leave)
        snapshot = await self._follower.join(
            self._options.slot,
            f"{self._options.slot}-{uuid.uuid4()}",
            os.getpid(),
            self._options.spool,
            self._settings.fingerprint,
        )
        plane = self._wiring.plane
        stack.push_async_callback(self._senders.close)
        stack.push_async_callback(plane.stop, _GRACE)
        plane.lanes.start()
        await plane.releases.begin()
        plane.feeder.start()
        self._spawn(SpoolWatch(self._spool, self._trace).keep())
        self._spawn(AlarmKeeper(self._database, self._spool.directory.parent).keep())
        # Another configuration may have been published since this process was started with the one before.
        self._spawn(self._reload())
        if self._options.listen:
            self._front = Front(self._settings, plane.receiver, self._trace, self._clock, self._options.workers)
            await self._front.open(self._options.listen)
            stack.push_async_callback(self._front.drain, _GRACE)
        # The first thing at the end: sessions and deliveries that wait for a silent directory would delay it.
        stack.push_async_callback(self._directories.silence)
        log.info("worker %d serves spool %04d from epoch %d", self._options.slot, self._options.spool, snapshot.epoch)

    async def _joined(self, snapshot: Snapshot) -> Sequence[Blocking]:
        """Between the snapshot and its publication: build on it, and name what a dead predecessor may have sent."""
        await self._standing.learn(snapshot)
        self._directories.use(self._settings)
        self._wiring = Wiring(self._settings, self._rules, self._around(snapshot))
        plane = self._wiring.plane
        plane.classifier.start_from(snapshot.epoch)
        plane.following.start_from(snapshot.epoch)
        plane.releases.know(snapshot.held)
        plane.lanes.pause(snapshot.paused)
        self._directories.saw(snapshot.directories)
        self._apply_trust()
        if not (snapshot.takeover or not self._spool.clean_start):
            return ()
        mailboxes = await self._spool.queued_mailboxes()
        if "" in mailboxes:
            mailboxes = [*mailboxes, EVERYBODY]
        if not mailboxes:
            return ()
        entry = self._inflight.register(mailboxes, "", "", "", self._clock.wall())
        entry.passed = True
        entry.stage("taken over")
        settle = longest_settle(self._settings)
        asyncio.get_running_loop().call_later(settle, partial(self._inflight.end, entry, in_doubt=True))
        log.warning("the former owner of the spool did not end cleanly: %d mailboxes in doubt", len(mailboxes))
        return [row for mailbox in snapshot.held for row in self._inflight.hold(mailbox, _UNKNOWN_HOLD)]

    def _around(self, snapshot: Snapshot) -> Surroundings:
        self._senders = LaneSenders(self._settings, self._make_senders)
        return Surroundings(
            spool=self._spool,
            source=self._follower,
            senders=self._senders,
            trace=self._trace,
            clock=self._clock,
            inflight=self._inflight,
            prober=Prober(self._senders.ask, self._clock),
            directories=self._directories,
            doubtful=lambda: self._outage or not self._standing.ok,
            configured=lambda: self._spawn(self._reload()),
            guard=self._step.guard if self._options.single_step else _unguarded,
            mark_keys=snapshot.mark_keys,
            share=self._options.workers,
            single_step=self._options.single_step,
        )

    def _make_senders(self, settings: Settings) -> Senders:
        return Senders(settings.hostname, settings.outbound, alarm=self._trace.alarm, share=self._options.workers)

    def _say_ready(self) -> None:
        if self._options.ready >= 0:
            with contextlib.suppress(OSError):
                os.write(self._options.ready, b"ready\n")
            os.close(self._options.ready)

    # -- while serving ----------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._stopping.wait()
            self._directories.ages.look()
            if self._follower.fenced:
                log.error("this worker was counted out or the control database was replaced: restarting")
                for entry in self._inflight.entries():
                    entry.cancel()  # nobody waits for us any more: nothing may pass its final dot from now on
                self._exit_code = EX_TEMPFAIL
                return
            if self._spool.ruin:
                log.error("the spool is damaged: this worker ends, and the spool is looked at")
                self._exit_code = EX_DAMAGED
                return
            if not self._options.listen and await self._drained():
                return
            if self._options.single_step and self._clock.wall() - self._started_at > _CALM:
                log.warning("nothing died of a message for %d s: starting again at full speed", _CALM)
                return

    async def _drained(self) -> bool:
        """A worker without listeners ends when its spool has nothing left that a worker could do anything about."""
        if len(self._wiring.plane.claims):
            return False
        counts = await self._spool.desk.counts(detail=False)
        # Parked mail needs an owner too: some of it is tried again in time, the rest waits for an operator's request.
        return not any(one.queued + one.held + one.parked for one in (counts.mail, counts.own))

    def _changed(self, changes: ChangeSet) -> Sequence[Blocking]:
        rows = self._wiring.plane.following.apply(changes)
        self._standing.applied(changes)
        if changes.directories is not None:
            self._directories.saw(changes.directories)
        return rows

    def _outage_changed(self, down: bool) -> None:
        self._outage = down
        if down:
            self._trace.alarm(
                AlarmKind.CONTROL_DOWN, self._settings.database, "the control database cannot be followed"
            )
        else:
            self._trace.clear(AlarmKind.CONTROL_DOWN, self._settings.database)
        self._apply_trust()

    def _renew(self) -> None:
        """SIGHUP: certificates may have been renewed in place."""
        if self._front is not None:
            self._spawn(self._front.renew())

    def _apply_trust(self) -> None:
        self._wiring.plane.lanes.suspend(suspended=self._outage or not self._standing.ok)

    async def _request(self, request: Request) -> object:
        plane = self._wiring.plane
        called_back = Recall(plane.claims, self._inflight)
        return await RequestDesk(self._spool.desk, plane.feeder.nudge, plane.lanes.wake, called_back)(request)

    async def _reload(self) -> None:
        """
        Follow the published configuration; keep the former one while the published one cannot be read.

        Tried until it is followed: a member with another configuration keeps every hold from becoming quiet.
        """
        async with self._reloading:
            while True:
                if await self._follow_configuration():
                    return
                await asyncio.sleep(_TRY_AGAIN)

    async def _follow_configuration(self) -> bool:
        """Whether this worker runs what is published, and the control database knows it."""
        try:
            published = await asyncio.to_thread(self._database.run_read, configuration.current)
            if published not in {"", self._settings.fingerprint}:
                await self._take_over(published)
            await self._follower.reconfigure(self._settings.fingerprint)
        except (SluiceError, ValueError, OSError) as error:
            self._trace.alarm(AlarmKind.CONFIGURATION, str(self._options.config), str(error))
            return self._follower.fenced
        self._trace.clear(AlarmKind.CONFIGURATION, str(self._options.config))
        return True

    async def _take_over(self, published: str) -> None:
        settings = await asyncio.to_thread(recall, self._settings.state_dir, published)
        rules = await asyncio.to_thread(load_rules, settings)
        let_go = self._wiring.use(settings, rules)
        self._settings = settings
        if self._front is not None:
            await self._front.use(settings, self._wiring.plane.receiver)
        await let_go()

    # -- end ----------------------------------------------------------------------------------------------------

    async def _leave(self) -> None:
        """After the plane has stopped: unregister only if nothing was cut off after its final dot."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        clean = self._exit_code == 0 and not self._wiring_interrupted() and not len(self._inflight)
        await self._follower.stop(clean=clean)

    def _wiring_interrupted(self) -> bool:
        wiring = getattr(self, "_wiring", None)
        return wiring is None or wiring.plane.dispatcher.interrupted

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the worker failed", exc_info=task.exception())


def _unguarded(handle: Handle) -> Handle:
    return handle
