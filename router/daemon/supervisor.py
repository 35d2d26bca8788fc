"""
The supervisor: binds the listeners, starts one worker per spool, keeps them alive, and hands signals on.

Guarantees: a worker that dies is started again, at once the first time and with growing waits after that; one that
dies again and again gets single-step mode. A worker that does not acknowledge changes within `ack_timeout` is killed
(SIGKILL works on stopped processes), never counted out (barrier rule 9). SIGHUP publishes a new
configuration only if it is whole and allowed, and the workers follow it like any other change; SIGTERM ends the
workers in order. Spools without a worker of their own that still hold mail get one that only delivers.

On failure at start: when no worker at all can start, the exit code of the last one, so that two daemons on one state
directory do not share the port; a single one that cannot is tried again while the others serve.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path

from router.control.directory_alarms import DOWN, FOLLOWER
from router.daemon import listen
from router.daemon.child import CRASH_WINDOW, Child, describe
from router.daemon.companion import Companion
from router.daemon.damaged import EX_DAMAGED
from router.daemon.notify import Notifier
from router.daemon.site import Site
from router.daemon.starting import Order, Process, Starter
from router.errors import SluiceError
from router.settings.change import refuse_reload
from router.settings.loader import load
from router.settings.published import keep, kept_at
from router.settings.schema import Settings

_STOPPED = -1
"""In place of an epoch that was applied."""
log = logging.getLogger("sluice.supervisor")

_READY = b"ready\n"
_LONGEST_WAIT = 30.0
_NEW_SPOOLS = 2.0
_GRACE = 60.0
"""Seconds: more than a worker takes to end its sessions, then its deliveries, then what it writes down."""
EX_OSERR = 71


class StartError(RuntimeError):
    """The daemon cannot start; the message says what to do."""


class Supervisor:
    """Runs until SIGTERM or SIGINT."""

    def __init__(self, path: Path, settings: Settings, site: Site, notifier: Notifier, starter: Starter) -> None:
        self._path = path
        self._settings = settings
        self._site = site
        self._notifier = notifier
        self._starter = starter
        self._children: list[Child] = []
        self._stopping = asyncio.Event()
        self._silent_since: dict[int, tuple[int, float]] = {}
        """By pid: the applied epoch at which a member stands still, and since when."""
        self._killed: set[int] = set()
        self._reloading: asyncio.Lock = asyncio.Lock()
        self._numbering: asyncio.Lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._exit_code = 0
        self._follower = Companion("directory follower", self._follow, starter, partial(self._alarm, DOWN, FOLLOWER))

    @staticmethod
    def bind(settings: Settings, inherited: Sequence[socket.socket]) -> list[list[socket.socket]]:
        """Per worker, one socket per listener. Raises `OSError`. Call it while still allowed to bind port 25."""
        workers = settings.workers or len(os.sched_getaffinity(0))
        if inherited:
            shared = listen.match(settings.listen, inherited)
            return [list(shared) for _ in range(workers)]
        columns = [listen.bind(listener, workers) for listener in settings.listen]
        return [list(row) for row in zip(*columns, strict=True)]

    async def run(self, sockets: Sequence[Sequence[socket.socket]]) -> int:
        """Serve; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        await self._plan(sockets)
        for child in self._children:
            child.watcher = loop.create_task(self._keep_alive(child), name=f"worker {child.slot}")
        guard = loop.create_task(self._watch_acknowledgements())
        following = loop.create_task(self._follower.run(), name="directory follower")
        announce = loop.create_task(self._announce())
        newcomers = loop.create_task(self._watch_spools())
        await self._stopping.wait()
        self._notifier.stopping()
        for task in (guard, announce, newcomers):
            task.cancel()
        await asyncio.gather(self._stop_children(), self._follower.stop())
        await following
        return self._exit_code

    async def _plan(self, sockets: Sequence[Sequence[socket.socket]]) -> None:
        spools = await asyncio.to_thread(self._site.spools, len(sockets))
        for slot, spool in enumerate(spools):
            self._children.append(Child(slot, spool, sockets[slot] if slot < len(sockets) else ()))

    async def _announce(self) -> None:
        serving = [child for child in self._children if not child.drains_only]
        for child in serving:
            await child.settled.wait()
        if not any(child.ready.is_set() for child in serving):
            self._exit_code = next((child.code for child in serving if child.code > 0), EX_OSERR)
            log.error("no worker could start")
            self._stopping.set()
            return
        addresses = ", ".join(f"[{one.getsockname()[0]}]:{one.getsockname()[1]}" for one in self._children[0].sockets)
        log.info("serving on %s with %d workers", addresses, len(self._children))
        self._notifier.ready()

    # -- workers ----------------------------------------------------------------------------------------------

    async def _keep_alive(self, child: Child) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                code = await self._run_once(child)
            except OSError as error:
                # Too many processes or descriptors: nobody else would try again.
                log.error("worker %d cannot be started: %s", child.slot, error)  # noqa: TRY400 - the text says it all
                code = EX_OSERR
            if self._stopping.is_set():
                return
            if child.drains_only and code == 0:
                log.info("spool %04d is empty now", child.spool)
                return
            if code == EX_DAMAGED and await self._replaced(child):
                if child.drains_only:
                    return
                continue
            now = time.monotonic()
            child.died(code, now, killed=child.slot in self._killed)
            self._killed.discard(child.slot)
            log.error("worker %d (spool %04d) ended with %s", child.slot, child.spool, describe(code))
            if child.single_step(now):
                await self._alarm("worker-crashing", f"spool {child.spool:04d}", f"ended with {describe(code)}")
            if now - started < CRASH_WINDOW and len(child.deaths) > 1:
                await self._wait(min(_LONGEST_WAIT, 0.5 * 2.0 ** len(child.deaths)))

    async def _replaced(self, child: Child) -> bool:
        """A worker found its spool damaged: whether that was set aside, with a new one for the worker if it listens."""
        settle = max(store.settle for store in self._settings.stores.values())
        try:
            async with self._numbering:
                place = await asyncio.to_thread(
                    self._site.damaged.set_aside, child.spool, settle, self._stopping.is_set
                )
                if place is None:
                    log.error("spool %04d was found sound after all, and is used again", child.spool)
                    return False
                log.critical("spool %04d is damaged and was set aside as %s", child.spool, place)
        except (SluiceError, OSError) as error:
            log.error("spool %04d was not set aside: %s", child.spool, error)  # noqa: TRY400 - the text says it all
            return False
        return child.drains_only or await self._renumbered(child)

    async def _renumbered(self, child: Child) -> bool:
        """A new spool for a worker whose own was set aside. Under the former number nothing may ever come again."""
        while not self._stopping.is_set():
            try:
                async with self._numbering:
                    child.spool = await asyncio.to_thread(self._site.new_spool)
                    return True
            except (SluiceError, OSError) as error:
                log.error("there is no new spool for worker %d yet: %s", child.slot, error)  # noqa: TRY400 - as above
                await self._wait(1.0)
        return True

    async def _watch_spools(self) -> None:
        """Spools that come while we run (`sluice queue recover` brings mail back in one) get a worker that delivers."""
        while True:
            await asyncio.sleep(_NEW_SPOOLS)
            try:
                async with self._numbering:
                    known = {child.spool for child in self._children}
                    found = [number for number in await asyncio.to_thread(self._site.numbers) if number not in known]
            except OSError as error:
                log.warning("spools cannot be looked for: %s", error)
                continue
            for number in found:
                child = Child(len(self._children), number, ())
                self._children.append(child)
                child.watcher = asyncio.get_running_loop().create_task(self._keep_alive(child))

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _order(self, child: Child, ready: int) -> Order:
        """A worker; `ready` is the descriptor on which it says that it serves."""
        words = (
            str(kept_at(self._settings)), "--slot", str(child.slot), "--spool", str(child.spool),
            "--workers", str(max(1, len([one for one in self._children if not one.drains_only]))),
            *(["--single-step"] if child.single_step(time.monotonic()) else []),
        )  # fmt: skip
        listen = tuple(one.fileno() for one in child.sockets)
        return Order("worker_process", f"sluice-worker{child.slot}", words, ready, listen)

    def _follow(self) -> Order | None:
        """The process that follows the directories."""
        if not self._settings.ldaps:
            return None
        return Order("directory_process", "sluice-follower", (str(kept_at(self._settings)),))

    async def _run_once(self, child: Child) -> int:
        read_end, write_end = os.pipe()
        try:
            child.process = await self._starter.start(self._order(child, write_end))
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        if self._stopping.is_set():
            # The signal to all workers came while this one was not there yet.
            _send(child.process, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        os.set_blocking(read_end, False)
        loop.add_reader(read_end, self._hear, child, read_end)
        try:
            return await child.process.wait()
        finally:
            loop.remove_reader(read_end)
            os.close(read_end)
            child.process = None

    def _hear(self, child: Child, read_end: int) -> None:
        """A worker says that it is ready, or has closed its end of the pipe."""
        with contextlib.suppress(BlockingIOError):
            if os.read(read_end, len(_READY)) == _READY:
                child.ready.set()
                child.settled.set()
            else:
                asyncio.get_running_loop().remove_reader(read_end)

    async def _stop_children(self) -> None:
        self._signal(signal.SIGTERM)
        watchers = [child.watcher for child in self._children if child.watcher is not None]
        _, late = await asyncio.wait(watchers, timeout=_GRACE)
        if late:
            log.warning("%d workers did not end within %d s and are killed", len(late), _GRACE)
            self._signal(signal.SIGKILL)
            await asyncio.wait(late)

    def _signal(self, number: int) -> None:
        for child in self._children:
            if child.process is not None:
                _send(child.process, number)

    # -- the barrier's guard ------------------------------------------------------------------------------------

    async def _watch_acknowledgements(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._settings.safety.ack_timeout / 4))
            # One that was stopped may have a lock of the control database in its hands, in everybody's way.
            stopped = {one.process.pid: _STOPPED for one in self._children if one.process is not None and one.stopped}
            try:
                silent = await asyncio.to_thread(self._site.silent_members)
            except Exception as error:  # noqa: BLE001 - an unreadable control database is the workers' affair too
                log.warning("members cannot be watched: %s", error)
                silent = {}  # they could not acknowledge either
            for slot, pid in self._kill_silent({**silent, **stopped}):
                await self._alarm("member-silent", f"worker {slot}", f"pid {pid} was killed")

    def _kill_silent(self, silent: dict[int, int]) -> list[tuple[int, int]]:
        """
        `silent`: applied epoch by pid of members that are behind. Returns slot and pid of those that were killed.

        One that comes nearer is not silent: while changes come all the time, everybody is always a little behind.
        """
        now = time.monotonic()
        ours = {child.process.pid: child for child in self._children if child.process is not None}
        former = self._silent_since
        self._silent_since = {
            pid: former[pid] if pid in former and former[pid][0] == applied else (applied, now)
            for pid, applied in silent.items()
            if pid in ours
        }
        killed: list[tuple[int, int]] = []
        for pid, (_, since) in self._silent_since.items():
            process = ours[pid].process
            if process is not None and now - since >= self._settings.safety.ack_timeout:
                log.error("worker %d (pid %d) does not acknowledge changes and is killed", ours[pid].slot, pid)
                self._killed.add(ours[pid].slot)
                _send(process, signal.SIGKILL)
                killed.append((ours[pid].slot, pid))
        return killed

    # -- reload -------------------------------------------------------------------------------------------------

    def _hangup(self) -> None:
        self._spawn(self._reload())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        async with self._reloading:
            self._notifier.reloading()
            try:
                await self._load_and_publish()
            except Exception as error:  # noqa: BLE001 - whatever it was, the former configuration stays in force
                log.error("the configuration was not reloaded, the former one stays in force: %s", error)  # noqa: TRY400
                await self._alarm("configuration", str(self._path), "; ".join(str(error).splitlines()))
            else:
                log.info("configuration reloaded")
                await self._alarm("configuration", str(self._path), "")
            finally:
                self._notifier.ready()

    async def _load_and_publish(self) -> None:
        settings = await asyncio.to_thread(load, self._path)
        homes = await asyncio.to_thread(self._site.homes)
        sources = await asyncio.to_thread(self._site.sources)
        refusals = refuse_reload(self._settings, settings, homes, sources)
        if refusals:
            raise StartError("; ".join(refusals))
        await asyncio.to_thread(keep, settings, settings.state_dir, self._settings.fingerprint)
        await asyncio.to_thread(self._site.publish, settings)
        self._settings = settings
        self._follower.renew()
        # Certificates are no part of what is published: they are renewed in place.
        self._signal(signal.SIGHUP)

    async def _alarm(self, kind: str, key: str, text: str) -> None:
        """Raise an alarm, or clear it when there is nothing to say."""
        try:
            if text:
                await asyncio.to_thread(self._site.alarm, kind, key, text)
            else:
                await asyncio.to_thread(self._site.clear, kind, key)
        except SluiceError as error:
            log.warning("the alarm %s cannot be written: %s", kind, error)


def _send(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
