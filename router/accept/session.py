"""
A session from greeting to goodbye: the command loop, STARTTLS, XCLIENT, PROXY, and the orderly end.

Guarantees: a command ends with CRLF and with nothing else; each is answered from the table of replies; whatever
fails inside is 451 or 421 and a log line, never a 5xx and never an exception's text (RX1, promise 5); every place
taken in `Admission` and `Roster` is given back when the session ends, however it ends.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from router.accept import replies
from router.accept.commands import report_failure
from router.accept.connection import MAX_UNSENT
from router.accept.origin import Origin, apply_xclient, read_proxy
from router.accept.policy import UNKNOWN
from router.accept.receive import DataCommand
from router.accept.replies import HangUp, Refused
from router.accept.services import Endpoint, Roster, Services
from router.errors import reply_for
from router.model.reply import Reply

_log = logging.getLogger(__name__)

PROXY_TIMEOUT = 10.0
_LINE = 512
"""Octets of a command line with its CRLF (RFC 5321 4.5.3.1.4)."""
_LONGER_LINES: Mapping[bytes, int] = MappingProxyType(
    {
        # SIZE 26 (RFC 1870), BODY 17 (6152), SMTPUTF8 10 (6531), RET and ENVID 116 (3461), AUTH 500 (4954),
        # and 64 for paths longer than the 256 octets of RFC 5321
        b"MAIL": _LINE + 26 + 17 + 10 + 116 + 500 + 64,
        b"RCPT": _LINE + 537 + 64,  # NOTIFY and ORCPT (RFC 3461)
        b"XCLIENT": 2048,
    }
)
_BEFORE_TLS = frozenset({b"NOOP", b"EHLO", b"STARTTLS", b"QUIT"})
_HTTP = frozenset({b"GET", b"POST", b"CONNECT", b"PUT", b"HEAD", b"OPTIONS"})


class SmtpSession(DataCommand):
    """The protocol of one connection. Made by the listener's factory."""

    def __init__(self, loop: asyncio.AbstractEventLoop, services: Services, endpoint: Endpoint, roster: Roster) -> None:
        super().__init__(loop, services, endpoint, roster)
        self._draining = False
        self._admitted = False
        self._admitted_as = UNKNOWN

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._roster.sessions.add(self)
        super().connection_made(transport)

    # Drainable.

    def shut_down(self) -> None:
        """421 between two commands; a message that is being received may still come to its end."""
        self._draining = True
        if not self._receiving:
            self._inbox.fail(HangUp(replies.SHUTDOWN))

    def cut(self) -> None:
        """421 at once, also in the middle of a message. A commit is finished first; its reply is still sent."""
        self._draining = True
        self._inbox.fail(HangUp(replies.SHUTDOWN))
        self._abort_if_stuck()

    # The course of the connection.

    async def _handle_client(self) -> None:
        reason = ""
        try:
            await self._converse()
        except HangUp as end:
            reason = self._part(end.reply)
        except asyncio.CancelledError:
            self._say(replies.SHUTDOWN)
            reason = "cancelled"
            raise
        except Exception:  # noqa: BLE001 - the client hears 421, the log the rest
            _log.exception("a session failed")
            reason = self._part(replies.BROKEN)
        finally:
            self._leave(reason)

    def _part(self, reply: Reply | None) -> str:
        """Say the last word; why the session ended, for the observer."""
        if reply is None:
            return "lost"
        self._say(reply)
        if reply.positive:
            return ""
        self._report(reply)
        return str(reply)

    def _leave(self, reason: str) -> None:
        self._close()
        self._inbox.close()
        if self._admitted:
            self._services.admission.leave(self._admitted_as)
        self._roster.left(self)
        self._tell(self._services.observer.disconnected, self._client, reason)

    async def _converse(self) -> None:
        await self._welcome()
        admission, errors = self._services.admission, self._services.limits.errors
        while True:
            if self._draining:
                raise HangUp(replies.SHUTDOWN)
            line = self._inbox.line()
            if line is None:
                line = await self._next_line(admission.command_timeout(self._source))
            elif len(self._unsent) >= MAX_UNSENT:
                await self._flush_in_between()
            await self._execute(line)
            if self._errors >= errors and not self._source.exempt:
                raise HangUp(replies.TOO_MANY_ERRORS)

    async def _welcome(self) -> None:
        """Find out who it is, admit it, and greet. Raises `HangUp` for those who are not welcome."""
        peername = self.transport.get_extra_info("peername") if self.transport else None
        host, port = (str(peername[0]), int(peername[1])) if peername else ("", 0)
        self._peer = self._services.policy.peer(host)
        self._arrive(Origin(self._peer.address, port), self._peer)
        self._enter()
        if self._endpoint.proxy_protocol:
            await self._take_proxy()
        if self._draining:
            raise HangUp(replies.SHUTDOWN)
        self._tell(self._services.observer.connected, self._client)
        if self._services.filter.active:
            refusal = await self._services.filter.connect(self._client.address)
            if refusal is not None:
                raise HangUp(refusal)
        # Two turns of the loop let in what the client sent before it could have seen the greeting.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._in_step()
        self._say(replies.greeting(self._services.hostname))

    def _enter(self) -> None:
        sock = self.transport.get_extra_info("socket") if self.transport else None
        refusal = self._services.admission.enter(self._source, -1 if sock is None else sock.fileno())
        if refusal is not None:
            raise HangUp(refusal)
        self._admitted = True
        self._admitted_as = self._source

    async def _take_proxy(self) -> None:
        """Only relays may speak for others (inv_70); the limits then apply to the client they name."""
        if not self._peer.relay:
            raise HangUp(replies.PROXY_DENIED)
        self._set_deadline(self.loop.time() + PROXY_TIMEOUT)
        origin = await read_proxy(self._inbox, self._origin)
        self._set_deadline_off()
        if origin is None:
            raise HangUp
        self._arrive(origin, self._services.policy.peer(origin.address))
        self._services.admission.leave(self._admitted_as)
        self._admitted = False
        self._enter()

    async def _execute(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        self._stage = _STAGES.get(verb, "UNKNOWN")
        self._about, self._path = "", b""
        try:
            self._check_line(verb, line)
            waiting = _COMMANDS.get(verb, _unknown)(self, argument.strip(b" \t"))
            if waiting is not None:
                await waiting
        except HangUp:
            raise
        except Refused as refused:
            reply = refused.reply
        except Exception as error:  # noqa: BLE001 - whatever it is, it is temporary (RX1)
            report_failure(self._stage, error)
            reply = reply_for(error)
        else:
            return
        if reply.code == 421:
            raise HangUp(reply)
        self._reject(reply)

    def _check_line(self, verb: bytes, line: bytes) -> None:
        if len(line) + 2 > _LINE and len(line) + 2 > (_LONGER_LINES.get(verb, _LINE) if self._extended else _LINE):
            raise Refused(replies.LINE_TOO_LONG)
        if b"\n" in line or b"\r" in line or b"\0" in line:
            raise Refused(replies.BAD_LINE)
        if verb in _HTTP:
            raise HangUp(replies.NOT_HTTP)
        if verb == b"BDAT":
            # The octets after it are a message; read as commands they would be somebody else's.
            raise HangUp(replies.NO_CHUNKING)
        if self._endpoint.require_tls and not self._tls and verb not in _BEFORE_TLS:
            raise Refused(replies.TLS_NEEDED)

    async def _starttls(self, argument: bytes) -> None:
        if argument:
            raise Refused(replies.BAD_ARGUMENT)
        if self._tls:
            raise Refused(replies.TLS_ACTIVE)
        if self._endpoint.tls is None:
            raise Refused(replies.TLS_NOT_OFFERED)
        context = self._endpoint.tls.context
        if context is None:
            raise Refused(replies.TLS_BROKEN)
        self._in_step()
        self._say(replies.READY_FOR_TLS)
        await self._start_tls(context)
        ssl_object = self.transport.get_extra_info("ssl_object") if self.transport else None
        cipher = ssl_object.cipher() if ssl_object else None
        self._tls = f"{ssl_object.version()} {cipher[0]}" if ssl_object and cipher else "TLS"
        self._extended = False
        self._arrive(self._origin, self._source)

    async def _xclient(self, argument: bytes) -> None:
        if not self._peer.relay:
            raise Refused(replies.XCLIENT_DENIED)
        if self._transaction is not None:
            raise Refused(replies.BAD_SEQUENCE)
        origin = apply_xclient(argument, self._origin)
        self._in_step()
        self._extended = False
        self._arrive(origin, self._services.policy.peer(origin.address))
        self._say(replies.greeting(self._services.hostname))


def _unknown(session: SmtpSession, argument: bytes) -> None:  # noqa: ARG001 - one of the commands
    raise Refused(replies.UNKNOWN_COMMAND)


_COMMANDS: Mapping[bytes, Callable[[SmtpSession, bytes], Coroutine[Any, Any, None] | None]] = MappingProxyType(
    {
        b"HELO": SmtpSession._helo,  # noqa: SLF001 - the table of this class
        b"EHLO": SmtpSession._ehlo,  # noqa: SLF001
        b"MAIL": SmtpSession._mail,  # noqa: SLF001
        b"RCPT": SmtpSession._rcpt,  # noqa: SLF001
        b"DATA": SmtpSession._data,  # noqa: SLF001
        b"RSET": SmtpSession._rset,  # noqa: SLF001
        b"NOOP": SmtpSession._noop,  # noqa: SLF001
        b"QUIT": SmtpSession._quit,  # noqa: SLF001
        b"VRFY": SmtpSession._vrfy,  # noqa: SLF001
        b"HELP": SmtpSession._help,  # noqa: SLF001
        b"EXPN": SmtpSession._not_implemented,  # noqa: SLF001
        b"AUTH": SmtpSession._not_implemented,  # noqa: SLF001
        b"STARTTLS": SmtpSession._starttls,  # noqa: SLF001
        b"XCLIENT": SmtpSession._xclient,  # noqa: SLF001
    }
)
_STAGES: Mapping[bytes, str] = MappingProxyType({verb: verb.decode("ascii") for verb in _COMMANDS})
