"""
A worker process as the supervisor knows it: its slot, its spool, its sockets, and when it has died.

Guarantees: pure but for the process handle. Nothing here fails.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from router.daemon.damaged import EX_DAMAGED
from router.daemon.starting import Process

CRASH_WINDOW = 60.0
"""Seconds in which deaths are counted together."""
_CRASHES = 3
_START_FAILURES = frozenset({71, 75, 78, EX_DAMAGED})
"""Exit codes of a worker that could not work, by its own account: no message is the reason."""


@dataclass(slots=True)
class Child:
    """One worker process and its history."""

    slot: int
    spool: int
    sockets: Sequence[socket.socket]
    process: Process | None = None
    deaths: list[float] = field(default_factory=list)
    watcher: asyncio.Task[None] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """It has become ready, or has ended without."""
    blameless: set[float] = field(default_factory=set)
    """Those of `deaths` that say nothing about the mail: it could not start, or was killed for its silence."""
    code: int = 0

    @property
    def drains_only(self) -> bool:
        return not self.sockets

    @property
    def stopped(self) -> bool:
        """Somebody has stopped it (SIGSTOP); not by a debugger."""
        if self.process is None:
            return False
        try:
            text = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return text.rpartition(")")[2].split()[:1] == ["T"]

    def single_step(self, now: float) -> bool:
        """It has died so often lately that one message may be the reason."""
        return len([at for at in self.deaths if now - at < CRASH_WINDOW and at not in self.blameless]) >= _CRASHES

    def died(self, code: int, now: float, *, killed: bool) -> None:
        """Note a death; `killed`: by us."""
        self.code = code
        self.deaths = [at for at in self.deaths if now - at < CRASH_WINDOW] + [now]
        self.blameless.intersection_update(self.deaths)
        if killed or code in _START_FAILURES:
            self.blameless.add(now)
        self.settled.set()


def describe(code: int) -> str:
    """An exit code, or the signal that ended a process, in words."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
