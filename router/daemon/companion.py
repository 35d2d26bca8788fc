"""
A process beside the workers that mail can do without: the one that follows the directories.

Guarantees: it is started again whenever it ends, after a wait that grows with each end in a row; it ends with the
supervisor. Nothing waits for it, and its death stops no mail.

On failure: one line in the log for each end, and an alarm of the caller's.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable

from router.daemon.starting import Order, Process, Starter

log = logging.getLogger("sluice.supervisor")

_LONGEST_WAIT = 30.0
_CALM = 60.0
_GRACE = 10.0

Command = Callable[[], Order | None]
"""What to start, by the configuration of the moment; None: nothing."""


class Companion:
    """`told` is called with what happened after each end that nobody asked for."""

    def __init__(self, name: str, command: Command, starter: Starter, told: Callable[[str], Awaitable[None]]) -> None:
        self._name = name
        self._command = command
        self._starter = starter
        self._told = told
        self._process: Process | None = None
        self._stopping = False
        self._changed = asyncio.Event()
        self._failures = 0

    async def run(self) -> None:
        """Keep it alive until `stop`."""
        while not self._stopping:
            self._changed.clear()
            command = self._command()
            if command is None:
                await self._changed.wait()
                continue
            started = time.monotonic()
            how = await self._run_once(command)
            if self._stopping or self._changed.is_set():
                self._failures = 0
                continue
            self._failures = 1 if time.monotonic() - started > _CALM else self._failures + 1
            log.error("the %s ended with %s", self._name, how)
            try:
                await self._told(f"ended with {how}")
            except Exception:  # another station's code, and the process must come back
                log.exception("the end of the %s cannot be told", self._name)
            await self._rest()

    def renew(self) -> None:
        """The configuration is another one: end what runs, start what it says now."""
        self._changed.set()
        self._send(signal.SIGTERM)

    async def stop(self) -> None:
        """End it; after some seconds for good."""
        self._stopping = True
        self.renew()
        if self._process is not None:
            await self._process.wait()

    async def _run_once(self, order: Order) -> str:
        try:
            self._process = await self._starter.start(order)
        except OSError as error:
            return str(error)
        try:
            if self._changed.is_set():
                # The signal came while this process was not there yet.
                self._send(signal.SIGTERM)
            return f"exit code {await self._end_of(self._process)}"
        finally:
            self._process = None

    async def _end_of(self, process: Process) -> int:
        """Its exit code. One that is to end and hangs is killed after some seconds, or nothing would follow it."""
        ended, asked = asyncio.ensure_future(process.wait()), asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
            _, late = await asyncio.wait((ended,), timeout=_GRACE)
            if late:
                self._send(signal.SIGKILL)
            return await ended
        finally:
            ended.cancel()
            asked.cancel()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_LONGEST_WAIT, 0.5 * 2.0 ** (self._failures - 1))):
                await self._changed.wait()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
