"""
The transport end of a connection to a next hop: aiosmtplib's protocol with a reply reader of our own.

Guarantees
- Replies are queued in order, so commands can be pipelined (RFC 2920) and a result that arrived before the
  connection broke is not lost.
- A reply nobody asked for is never paired with a later command: it breaks the connection.
- A deadline covers a whole reply, however slowly it dribbles in.
- While a transaction is open the socket lingers for zero seconds: an aborted connection or a killed process sends
  RST, and the kernel never completes a message from its buffer (barrier rule 8).

On failure every call raises `Broken`, which knows an enhanced code and how to say it; the connection is aborted and
cannot be used again (TX10).
"""

import asyncio
import contextlib
import math
import socket
import ssl
import struct
from collections import deque
from typing import cast

from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from router.deliver.replies import RawReply, ReplyParser, ReplySyntaxError, own_reply, quoted
from router.model.reply import HopReply

_LINGER = {True: struct.pack("ii", 1, 0), False: struct.pack("ii", 0, 0)}


class Broken(Exception):
    """The connection is of no more use. `words` has the fields {remote} and {doing}; `detail` is appended."""

    def __init__(self, enhanced: str, words: str, detail: str = "") -> None:
        super().__init__(words, detail)
        self.enhanced = enhanced
        self.words = words
        self.detail = detail

    def said(self, remote: str, doing: str) -> HopReply:
        """The failure in our words, temporary like every doubt."""
        text = self.words.format(remote=remote, doing=doing)
        return own_reply(self.enhanced, f"{text}: {self.detail}" if self.detail else text, remote)


def lost(detail: str = "") -> Broken:
    return Broken("4.4.2", "lost connection with {remote} while {doing}", detail)


def timed_out() -> Broken:
    return Broken("4.4.2", "conversation with {remote} timed out while {doing}")


def garbled(detail: str) -> Broken:
    return Broken("4.5.0", "protocol error of {remote} while {doing}", detail)


class NextHopProtocol(SMTPProtocol):
    """One connection's protocol. `sock` is the connected socket below the transport; it stays owned by that."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        super().__init__(loop=loop)
        self.fault: Broken | None = None
        self._socket = sock
        self._lingering = False
        self._parser = ReplyParser()
        self._replies: deque[RawReply] = deque()
        self._expected = 1  # the greeting
        self._waiter: asyncio.Future[RawReply] | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._upgrading = False

    def send(self, octets: bytes, replies: int) -> None:
        """Write, and expect that many replies to it. Raises `Broken`. Synchronous: nothing happens in between."""
        self.check()
        self._expected += replies
        cast("asyncio.WriteTransport", self.transport).write(octets)

    def check(self) -> None:
        """Raises `Broken` if the connection is known to be gone, or the peer spoke out of turn."""
        if self.fault is not None:
            raise self.fault

    def heard(self) -> RawReply | None:
        """The next reply if it has arrived: to a group of commands, most replies come with the first one."""
        return self._replies.popleft() if self._replies else None

    async def reply(self, seconds: float) -> RawReply:
        """The next reply, complete within `seconds`. Raises `Broken`."""
        if self._replies:
            return self._replies.popleft()
        self.check()
        waiter: asyncio.Future[RawReply] = self._loop.create_future()
        self._waiter = waiter
        self._set_deadline(seconds)
        try:
            return await waiter
        finally:
            self._deadline = math.inf
            self._waiter = None

    async def ask(self, line: bytes, seconds: float) -> RawReply:
        """One command without its CRLF, and its reply. Raises `Broken`."""
        self.send(line + b"\r\n", 1)
        return await self.reply(seconds)

    async def drain(self, seconds: float) -> None:
        """Wait until the transport wants more, at most `seconds`. Raises `Broken`."""
        self.check()
        if not self._paused:
            # A peer that takes everything at once must not keep the loop from its other connections, nor from
            # hearing that this one is gone.
            await asyncio.sleep(0)
            self.check()
            return
        self._set_deadline(seconds)
        try:
            await self._drain_helper()
        finally:
            self._deadline = math.inf
        self.check()

    def linger(self, reset: bool) -> None:
        """Whether closing sends RST and drops what the kernel still has to send. A dead socket is left alone."""
        if self._lingering is not reset:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER[reset])
            self._lingering = reset

    def fail(self, fault: Broken) -> None:
        """End the connection at once; whoever waits gets `fault`, and so does every later call."""
        if self.fault is None:
            self.fault = fault
        self._stop_timer()
        self.resume_writing()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self.fault)
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()

    def abort(self) -> None:
        """Drop the connection without a word; idempotent."""
        self.fail(lost())

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self._parser.feed(data):
                self._arrived(reply)
        except ReplySyntaxError as error:
            if not self._surplus():
                self.fail(garbled(str(error)))

    def eof_received(self) -> bool:
        self.fail(lost())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        # Wakes writers first: the inherited wake-up fails when one of them was cancelled in the same iteration.
        self.fail(lost(exc.strerror or "" if isinstance(exc, OSError) else ""))
        super().connection_lost(exc)

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:  # noqa: ASYNC109  # inherited
        """What the inherited `start_tls` reads; our own code calls `reply`."""
        raw = await self.reply(timeout or 0.0)
        return SMTPResponse(raw.code, quoted(raw))

    async def start_tls(
        self,
        tls_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # inherited
    ) -> SMTPResponse:
        """
        STARTTLS and the handshake; aiosmtplib's and ssl's own errors, or `Broken`.

        What the peer (or somebody between) sent in the clear behind its reply is thrown away (RFC 3207 4.2).
        """
        self.check()
        self._expected += 1
        self._upgrading = True
        try:
            response = await super().start_tls(tls_context, server_hostname, timeout)
        finally:
            self._upgrading = False
            self._parser.reset()
        self.check()
        return response

    def _arrived(self, reply: RawReply) -> None:
        if self._surplus():
            return
        if self._expected == 0:
            self.fail(garbled(f"unexpected reply: {quoted(reply)}"))
            return
        self._expected -= 1
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(reply)
            self._deadline = math.inf  # in time, though who waits for it may be told after the timer was
        else:
            self._replies.append(reply)

    def _surplus(self) -> bool:
        """Whether what came is to be dropped: behind the reply to STARTTLS, or after the end."""
        return self.fault is not None or (self._upgrading and self._expected == 0)

    def _set_deadline(self, seconds: float) -> None:
        """One timer serves all deadlines of the connection: it looks again when it fires."""
        self._deadline = self._loop.time() + seconds
        if self._deadline < self._timer_at:
            self._start_timer()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._timer_at, self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = math.inf

    def _expire(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._deadline <= self._loop.time():
            self.fail(timed_out())
        elif self._deadline < math.inf:
            self._start_timer()
