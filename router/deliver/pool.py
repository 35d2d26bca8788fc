"""
Idle sessions of one lane, kept for the next message.

Guarantees: a session is handed out only while it is whole, young, and below its number of messages; the newest idle
one first, so that a quiet lane shrinks. Nothing is reused after an error: callers give back only what ended well.
On failure nothing is raised; a session that cannot be kept is closed with QUIT in the background.
"""

import asyncio
import time
from dataclasses import dataclass

from router.deliver.connection import Connection


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """When a session has served long enough: seconds idle, seconds since it was opened, messages."""

    idle: float = 10.0
    age: float = 300.0
    messages: int = 500


class Pool:
    """Takes sessions back and hands them out; bounded by the number of deliveries its sender allows at once."""

    def __init__(self, limits: PoolLimits, quit_timeout: float) -> None:
        self._limits = limits
        self._quit_timeout = quit_timeout
        self._idle: list[Connection] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> Connection | None:
        """An idle session that may still be used, or None."""
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if self._fit(connection, now) and now - connection.idle_since < self._limits.idle:
                return connection
            self.retire(connection)
        return None

    def give(self, connection: Connection) -> None:
        """Take a session back after a message that ended well."""
        now = time.monotonic()
        if self._closed or not self._fit(connection, now):
            self.retire(connection)
            return
        connection.idle_since = now
        connection.set_up = 0.0
        self._idle.append(connection)
        if self._reaper is None:
            self._arm()

    def retire(self, connection: Connection) -> None:
        """End a session: with QUIT while it is whole, else without."""
        if connection.protocol.fault is not None:
            return
        task = asyncio.get_running_loop().create_task(connection.quit(self._quit_timeout))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """QUIT all idle sessions and wait for that; what is given back later is retired too. Idempotent."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        while self._idle:
            self.retire(self._idle.pop())
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _fit(self, connection: Connection, now: float) -> bool:
        return (
            connection.protocol.fault is None
            and connection.messages < self._limits.messages
            and now - connection.opened_at < self._limits.age
        )

    def _arm(self) -> None:
        self._reaper = asyncio.get_running_loop().call_later(self._limits.idle, self._reap)

    def _reap(self) -> None:
        self._reaper = None
        now = time.monotonic()
        stale = [one for one in self._idle if now - one.idle_since >= self._limits.idle or not self._fit(one, now)]
        for connection in stale:
            self._idle.remove(connection)
            self.retire(connection)
        if self._idle:
            self._arm()
