"""
The supervisor: binds the listeners, starts one worker per spool, keeps them alive, and hands signals on.

Guarantees: a worker that dies is started again, at once the first time and with growing waits after that; one that
dies again and again gets single-step mode. A worker that does not acknowledge changes within `ack_timeout` is killed
(SIGKILL works on stopped processes), never counted out (barrier rule 9). SIGHUP publishes a new
configuration only if it is whole and allowed, and the workers follow it like any other change; SIGTERM ends the
workers in order. Spools without a worker of their own that still hold mail get one that only delivers.

On failure at start: `StartError` with the reason; nothing was accepted.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from router.daemon import listen
from router.daemon.notify import Notifier
from router.daemon.site import Site
from router.settings.change import refuse_reload
from router.settings.loader import load
from router.settings.problem import SettingsError
from router.settings.schema import Settings

log = logging.getLogger("sluice.supervisor")

_READY = b"ready\n"
_CRASHES = 3
_CRASH_WINDOW = 60.0
_LONGEST_WAIT = 30.0
_GRACE = 25.0


class StartError(RuntimeError):
    """The daemon cannot start; the message says what to do."""


@dataclass(slots=True)
class Child:
    """One worker process and its history."""

    slot: int
    spool: int
    sockets: Sequence[socket.socket]
    process: asyncio.subprocess.Process | None = None
    deaths: list[float] = field(default_factory=list)
    watcher: asyncio.Task[None] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def drains_only(self) -> bool:
        return not self.sockets

    def single_step(self, now: float) -> bool:
        """It has died so often lately that one message may be the reason."""
        return len([at for at in self.deaths if now - at < _CRASH_WINDOW]) >= _CRASHES


class Supervisor:
    """Runs until SIGTERM or SIGINT."""

    def __init__(self, path: Path, settings: Settings, site: Site, notifier: Notifier) -> None:
        self._path = path
        self._settings = settings
        self._site = site
        self._notifier = notifier
        self._children: list[Child] = []
        self._stopping = asyncio.Event()
        self._silent_since: dict[int, float] = {}

    @staticmethod
    def bind(settings: Settings, inherited: Sequence[socket.socket]) -> list[list[socket.socket]]:
        """Per worker, one socket per listener. Raises `OSError`. Call it while still allowed to bind port 25."""
        workers = settings.workers or os.cpu_count() or 1
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
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(self._reload()))
        self._plan(sockets)
        for child in self._children:
            child.watcher = loop.create_task(self._keep_alive(child), name=f"worker {child.slot}")
        guard = loop.create_task(self._watch_acknowledgements())
        announce = loop.create_task(self._announce())
        await self._stopping.wait()
        self._notifier.stopping()
        for task in (guard, announce):
            task.cancel()
        await self._stop_children()
        return 0

    def _plan(self, sockets: Sequence[Sequence[socket.socket]]) -> None:
        spools = self._site.spools(len(sockets))
        for slot, spool in enumerate(spools):
            self._children.append(Child(slot, spool, sockets[slot] if slot < len(sockets) else ()))

    async def _announce(self) -> None:
        for child in self._children:
            if not child.drains_only:
                await child.ready.wait()
        addresses = ", ".join(f"[{one.getsockname()[0]}]:{one.getsockname()[1]}" for one in self._children[0].sockets)
        log.info("serving on %s with %d workers", addresses, len(self._children))
        self._notifier.ready()

    # -- workers ----------------------------------------------------------------------------------------------

    async def _keep_alive(self, child: Child) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(child)
            if self._stopping.is_set():
                return
            if child.drains_only and code == 0:
                log.info("spool %04d is empty now", child.spool)
                return
            now = time.monotonic()
            child.deaths = [at for at in child.deaths if now - at < _CRASH_WINDOW] + [now]
            log.error("worker %d (spool %04d) ended with %s", child.slot, child.spool, _describe(code))
            if now - started < _CRASH_WINDOW and len(child.deaths) > 1:
                await self._wait(min(_LONGEST_WAIT, 0.5 * 2.0 ** len(child.deaths)))

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _run_once(self, child: Child) -> int:
        read_end, write_end = os.pipe()
        fds = [one.fileno() for one in child.sockets]
        command = [
            sys.executable, "-m", "router.daemon.worker_process", str(self._path),
            "--slot", str(child.slot), "--spool", str(child.spool), "--ready", str(write_end),
            "--workers", str(max(1, len([one for one in self._children if not one.drains_only]))),
            *(["--listen", ",".join(map(str, fds))] if fds else []),
            *(["--single-step"] if child.single_step(time.monotonic()) else []),
        ]  # fmt: skip
        child.process = await asyncio.create_subprocess_exec(
            *command, pass_fds=(*fds, write_end), stdin=asyncio.subprocess.DEVNULL
        )
        os.close(write_end)
        waiting = asyncio.get_running_loop().create_task(self._await_ready(child, read_end))
        code = await child.process.wait()
        waiting.cancel()
        child.process = None
        return code

    async def _await_ready(self, child: Child, read_end: int) -> None:
        try:
            said = await asyncio.to_thread(os.read, read_end, len(_READY))
        finally:
            os.close(read_end)
        if said == _READY:
            child.ready.set()

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
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(number)

    # -- the barrier's guard ------------------------------------------------------------------------------------

    async def _watch_acknowledgements(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._settings.safety.ack_timeout / 4))
            try:
                silent = await asyncio.to_thread(self._site.silent_members)
            except Exception as error:  # noqa: BLE001 - an unreadable control database is the workers' affair too
                log.warning("members cannot be watched: %s", error)
                continue
            self._kill_silent(silent)

    def _kill_silent(self, silent: dict[int, int]) -> None:
        """`silent`: applied epoch by pid of members that are behind."""
        now = time.monotonic()
        ours = {child.process.pid: child for child in self._children if child.process is not None}
        self._silent_since = {pid: self._silent_since.get(pid, now) for pid in silent if pid in ours}
        for pid, since in self._silent_since.items():
            if now - since >= self._settings.safety.ack_timeout:
                log.error("worker %d (pid %d) does not acknowledge changes and is killed", ours[pid].slot, pid)
                process = ours[pid].process
                if process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()

    # -- reload -------------------------------------------------------------------------------------------------

    async def _reload(self) -> None:
        self._notifier.reloading()
        try:
            settings = await asyncio.to_thread(load, self._path)
            refusals = refuse_reload(self._settings, settings, await asyncio.to_thread(self._site.homes))
            if refusals:
                raise StartError("; ".join(refusals))  # noqa: TRY301 - one place reports both kinds
            await asyncio.to_thread(self._site.publish, settings)
        except (SettingsError, StartError, OSError) as error:
            log.error("the configuration was not reloaded, the former one stays in force: %s", error)  # noqa: TRY400
            await asyncio.to_thread(self._site.alarm, "configuration", str(self._path), str(error))
        else:
            self._settings = settings
            log.info("configuration reloaded")
            await asyncio.to_thread(self._site.clear, "configuration", str(self._path))
        self._notifier.ready()


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
