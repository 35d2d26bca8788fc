"""
What a client has sent and nobody has consumed yet.

Guarantees: memory is bounded by `HIGH` octets plus one read of the event loop, because the transport stops reading
above it, and by what is here already from `pause` on until somebody waits again; data is handed out in blocks, never
in lines of unbounded length. Also the reader that the PROXY parser of aiosmtpd wants.

On failure: `HangUp` at the end of the stream, or whatever `fail` was given; from then on always the same.
"""

import asyncio
import types
from collections.abc import Callable, Generator

from router.accept.replies import LINE_TOO_LONG, HangUp

HIGH = 64 * 1024
MAX_PENDING_LINE = 8 * 1024
"""A command line that has no end after so many octets is not waited for."""


class Inbox:
    """Filled by the protocol's callbacks, emptied by the session's coroutine, both on one loop."""

    __slots__ = ("_at", "_data", "_failure", "_paused", "_resume_waiter", "_searched", "_transport")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._searched = 0
        """Where to look for the end of the line; never before `_at`."""
        self._resume_waiter: Callable[[], None] | None = None
        self._failure: HangUp | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._paused = False

    @property
    def pending(self) -> bool:
        """Whether anything is waiting to be consumed."""
        return self._at < len(self._data)

    @property
    def failure(self) -> HangUp | None:
        """Why no more is to be expected, if so."""
        return self._failure

    def attach(self, transport: asyncio.ReadTransport) -> None:
        """Reads come from this transport now (at first, and after STARTTLS)."""
        self._resume()
        self._transport = transport

    def feed(self, data: bytes) -> None:
        """Data has arrived."""
        at = self._at
        if at < len(self._data):
            self._searched -= at
            data = self._data[at:] + data
        else:
            self._searched = 0
        self._data = data
        self._at = 0
        if len(data) > HIGH and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def pause(self) -> None:
        """Read no more until somebody waits: what was taken is not done with yet."""
        transport = self._transport
        if transport is not None and not self._paused and self._failure is None and not transport.is_closing():
            self._paused = True
            transport.pause_reading()

    def fail(self, error: HangUp) -> None:
        """No more is to be expected; the first reason given is the one that counts."""
        if self._failure is None:
            self._failure = error
        self._wake()

    def close(self) -> None:
        """
        Nobody will wait again. What was raised goes, too: its traceback knows every frame of the session, with the
        blocks in their hands, and the inbox, so that all of it would stay until the collector came by.
        """
        self._data = b""
        self._at = self._searched = 0
        self._failure = HangUp()

    def put_back(self, data: bytes) -> None:
        """Return octets that were taken but not used (what followed a final dot)."""
        self._data = data + self._data[self._at :]
        self._at = self._searched = 0

    @types.coroutine
    def wait(self) -> Generator["Inbox", None, None]:
        """
        Until more has arrived. Raises what `fail` was given, once everything before it was consumed in vain.

        Whoever drives the coroutine is handed the inbox itself and says `then` how to go on (see `Stepper`).
        """
        if self._failure is not None:
            raise self._failure
        self._resume()
        yield self

    def then(self, resume: Callable[[], None]) -> None:
        """Call `resume` once, when data or a failure comes."""
        self._resume_waiter = resume

    def line(self) -> bytes | None:
        """The next command line without its CRLF, or None. Raises `HangUp` when a line does not end at all."""
        data, at = self._data, self._at
        end = data.find(b"\r\n", self._searched)
        if end < 0:
            if len(data) - at > MAX_PENDING_LINE:
                raise HangUp(LINE_TOO_LONG)
            self._searched = max(at, len(data) - 1)
            return None
        line = data[at:end]
        if end + 2 == len(data):
            self._data = b""  # an idle connection holds nothing
            self._at = self._searched = 0
        else:
            self._at = self._searched = end + 2
        return line

    def take(self, limit: int = HIGH) -> bytes:
        """At most `limit` octets, b'' when there are none."""
        stop = self._at + limit
        if self._at == 0 and len(self._data) <= limit:
            block, self._data = self._data, b""
        else:
            block = self._data[self._at : stop]
            self._data = self._data[stop:]
        self._at = self._searched = 0
        return block

    async def read(self, size: int = HIGH) -> bytes:
        """Up to `size` octets, at least one."""
        while not self.pending:
            await self.wait()
        return self.take(size)

    async def readexactly(self, size: int) -> bytes:
        """Exactly `size` octets; the rest stays."""
        while len(self._data) - self._at < size:
            await self.wait()
        return self.take(size)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Through `separator`, which must come within `MAX_PENDING_LINE` octets."""
        while (end := self._data.find(separator, self._at)) < 0:
            if len(self._data) - self._at > MAX_PENDING_LINE:
                raise HangUp
            await self.wait()
        return self.take(end + len(separator) - self._at)

    def _wake(self) -> None:
        resume = self._resume_waiter
        if resume is not None:
            self._resume_waiter = None
            resume()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
