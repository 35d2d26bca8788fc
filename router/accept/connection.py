"""
One connection: bytes in, bytes out, one deadline.

aiosmtpd's `SMTP` is the base class and its place in the event loop is kept; its constructor (which inspects handler
and class on every connection), its command loop, its task, its reader and its timers are not, because each of them
reads line by line, has limits shared between connections, cuts off a client that is sending, or costs more than the
mail. `Stepper` runs the session.

Guarantees: replies are written in as few pieces as the client's pipelining allows; memory is bounded (`Inbox`, and
replies are flushed before more input is read); a client that neither sends nor reads is cut off at the deadline.
On failure: `HangUp` in the session's coroutine, never a bare OSError, which may then only mean a failure of our own;
callbacks of the event loop never raise.
"""

import asyncio
import math
import ssl

from aiosmtpd.smtp import SMTP

from router.accept import replies
from router.accept.inbox import Inbox
from router.accept.replies import HangUp, encode
from router.accept.stepper import Stepper
from router.model.reply import Reply

LINGER = 10.0
"""Seconds for the last reply to leave before the connection is aborted."""
HANDSHAKE_TIMEOUT = 60.0
WRITE_TIMEOUT = 60.0
"""Seconds a client has to take replies that do not fit into the socket's buffer."""
MAX_UNSENT = 50
"""Replies collected before they are written, and others have their turn, although more commands are waiting."""


class Connection(SMTP):
    """The transport side of a session. Subclasses implement `_handle_client`, the course of the connection."""

    transport: asyncio.Transport | None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # No constructor of a base class: none of what they make (reader, writer, futures, session) is used.
        self.loop = loop
        self.transport = None
        self._inbox = Inbox()
        self._unsent: list[bytes] = []
        self.heard = 0.0
        """Loop time at which the client has sent something."""
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._secure = False
        self._upgrading = False
        self._choked: asyncio.Future[None] | None = None

    def __del__(self) -> None:
        """The base class looks after a future of its constructor's here."""

    # Callbacks of the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a server's transport is a Transport
        self._inbox.attach(transport)  # type: ignore[arg-type]  # as above
        Stepper(self.loop, self._handle_client())

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        self._inbox.feed(data)

    def eof_received(self) -> bool:
        """A client may half-close after QUIT and still read the replies; over TLS there is no half-close."""
        self._inbox.fail(HangUp())
        return not self._secure

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - whatever the reason
        """The session is told, not cancelled: a commit under way is finished, whoever is gone (RX17)."""
        self.transport = None
        self._inbox.fail(HangUp())
        self.resume_writing()
        self._stop_timer()

    def pause_writing(self) -> None:
        """The client does not take its replies fast enough: `_flush` waits."""
        if self._choked is None:
            self._choked = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._choked is not None:
            if not self._choked.done():
                self._choked.set_result(None)
            self._choked = None

    # For the session.

    def _say(self, reply: Reply) -> None:
        """Queue a reply; it leaves with the next `_flush`."""
        self._unsent.append(encode(reply))

    def _say_bytes(self, line: bytes) -> None:
        self._unsent.append(line)

    async def _flush(self) -> None:
        """Write what is queued and wait until the client takes it. Raises `HangUp` when it is gone."""
        if self._unsent:
            self._write()
            if self._choked is not None:
                await self._until_taken(self._choked)

    async def _until_taken(self, choked: asyncio.Future[None]) -> None:
        """Wait for the client to read. A deadline that is set stands; there is one in any case."""
        unlimited = self._deadline == math.inf
        if unlimited:
            self._set_deadline(self.loop.time() + WRITE_TIMEOUT)
        await choked
        if unlimited:
            self._deadline = math.inf

    async def _flush_in_between(self) -> None:
        """Let others have their turn: a client that sends thousands of commands at once waits for nothing."""
        await self._flush()
        await asyncio.sleep(0)

    def _write(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self.transport is None:
            raise HangUp
        self.transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    async def _next_line(self, timeout: float) -> bytes:  # noqa: ASYNC109 - one timer per connection, not a scope
        """
        The next command without its CRLF, which is not here yet. What is queued is flushed first.

        `timeout` seconds are for the whole line, so that sending it octet by octet gains nothing.
        """
        self._set_deadline(self.loop.time() + timeout)
        await self._flush()
        inbox = self._inbox
        while True:
            await inbox.wait()
            line = inbox.line()
            if line is not None:
                self._deadline = math.inf
                return line

    def _set_deadline(self, when: float) -> None:
        """Cut the client off at `when` (loop time). One timer serves all deadlines: it looks again when it fires."""
        self._deadline = when
        if when < self._timer_at:
            self._stop_timer()
            self._timer_at = when
            self._timer = self.loop.call_at(when, self._expire)

    def _set_deadline_off(self) -> None:
        """The client is not being waited for."""
        self._deadline = math.inf

    def _expire(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._deadline > self.loop.time():
            if self._deadline < math.inf:
                self._set_deadline(self._deadline)
            return
        self._inbox.fail(HangUp(replies.TIMEOUT))
        self._abort_if_stuck()

    def _abort_if_stuck(self) -> None:
        """A session that waits for the client to read, or to finish a handshake, does not look at the inbox."""
        if (self._choked is not None or self._upgrading) and self.transport is not None:
            self.transport.abort()

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        """
        Turn the connection into TLS; the 220 is queued. Raises `HangUp` when the handshake fails.

        Nothing may be awaited between the caller's look at the inbox and the pause in reading that `start_tls`
        begins with, or plain text could slip in as if it had been encrypted (CVE-2011-0411).
        """
        plain = self.transport
        self._write()
        if plain is None:
            raise HangUp
        self._upgrading = True
        try:
            upgraded = await self.loop.start_tls(
                plain, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except OSError:
            raise HangUp from None
        finally:
            self._upgrading = False
        if upgraded is None:
            raise HangUp
        self._secure = True
        self.transport = upgraded
        self._inbox.attach(upgraded)

    def _close(self) -> None:
        """Send what is queued, if anybody is there, and close; never raises, never waits for the client."""
        self._deadline = math.inf
        self._stop_timer()
        transport = self.transport
        if transport is None:
            return
        if self._unsent and not transport.is_closing():
            transport.write(b"".join(self._unsent))
            self._unsent.clear()
        transport.close()
        if self._secure or transport.get_write_buffer_size():
            self._timer = self.loop.call_later(LINGER, transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = math.inf
