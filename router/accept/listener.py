"""
The listening sockets and the end of service.

Guarantees: a listener survives running out of file descriptors (the event loops pause and go on accepting); a
drained set has answered every message whose final dot had arrived, within the grace time.
On failure: OSError from `open` when a socket cannot be listened on; nothing later raises.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.accept.services import Endpoint, Roster, Services
from router.accept.session import SmtpSession

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class BoundListener:
    """A bound socket and how it is to be spoken to."""

    sock: socket.socket
    endpoint: Endpoint


async def create_listeners(
    loop: asyncio.AbstractEventLoop,
    bound: Sequence[BoundListener],
    factory: Callable[[Endpoint], asyncio.BaseProtocol],
) -> list[asyncio.Server]:
    """Accept connections on every socket; `factory` makes the protocol of one. All or none; raises OSError."""
    servers: list[asyncio.Server] = []
    try:
        for listener in bound:
            endpoint = listener.endpoint
            servers.append(
                await loop.create_server(lambda e=endpoint: factory(e), sock=listener.sock, backlog=BACKLOG)  # type: ignore[misc]  # default binds now
            )
    except OSError:
        for server in servers:
            server.close()
        raise
    return servers


class ListenerSet:
    """All listeners of one worker and the sessions that came through them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._servers: list[asyncio.Server] = []
        self.roster = Roster()

    async def open(self, bound: Sequence[BoundListener]) -> None:
        """Begin to accept. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._servers += await create_listeners(
            loop, bound, lambda endpoint: SmtpSession(loop, self._services, endpoint, self.roster)
        )

    def reconfigure(self, services: Services) -> None:
        """New connections get these; those that are open keep what they were given."""
        self._services = services

    async def drain(self, grace: float) -> bool:
        """
        Stop accepting, say 421 to whoever is between two commands, let messages come to their end.

        After `grace` seconds sessions are cut, but their commits are still waited for for as long again. True when
        nothing was cut. May be called again, and with 0 to hurry.
        """
        for server in self._servers:
            server.close()
        for session in tuple(self.roster.sessions):
            session.shut_down()
        if await self._empty(grace):
            return True
        for session in tuple(self.roster.sessions):
            session.cut()
        await self._empty(max(grace, 1.0))
        return False

    async def _empty(self, timeout: float) -> bool:  # noqa: ASYNC109 - a wait with a result, not a scope
        """Wait until no session is open; whether that came true in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while self.roster.sessions:
            left = end - loop.time()
            if left <= 0:
                return False
            self.roster.changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self.roster.changed.wait()
            except TimeoutError:
                return False
        return True
