"""
Opening a session with one address of a next hop: TCP, greeting, EHLO or LHLO, STARTTLS by policy.

Guarantees: a session that is handed out is past EHLO and fits the TLS policy; `require` and `verify` never speak in
the clear; sockets are close-on-exec. A host that calls itself by our name is a loop and gets no mail.

On failure `ConnectFailed`, always temporary: what a host says before it has seen a message is no verdict about one,
so 421 and 554 greetings alike mean the next host or a later time.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from aiosmtplib.errors import SMTPException, SMTPResponseException

from router.deliver.extensions import Extensions, announced_name, parse_extensions
from router.deliver.protocol import Broken, NextHopProtocol, garbled
from router.deliver.replies import RawReply, own_reply, quoted
from router.deliver.tls import TlsPolicy
from router.model.reply import HopReply

GREETING = "receiving the greeting"
HANDSHAKE = "performing the EHLO handshake"

Alarm = Callable[[str, str, str], None]
"""Called with kind, key and text; must not block or raise."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    Seconds to wait, per reply or per block, never for a whole message. The defaults are Postfix's, which grew from
    RFC 5321 4.5.3.2; only QUIT is shorter, for nothing depends on its reply.
    """

    connect: float = 30.0
    greeting: float = 300.0
    hello: float = 300.0
    starttls: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    dot: float = 600.0
    rset: float = 20.0
    quit: float = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to connect to. `host` is the name from the configuration or the MX record (for TLS and the log)."""

    host: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}[{self.address}]:{self.port}"


class ConnectFailed(Exception):
    """No usable session with this address; `reply` is temporary."""

    def __init__(self, reply: HopReply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class _TlsFailed(ConnectFailed):
    """The handshake itself failed, so plaintext on a fresh connection may be tried if the policy allows."""


@dataclass(slots=True, eq=False)
class Connection:
    """An open session. Times are monotonic seconds."""

    endpoint: Endpoint
    protocol: NextHopProtocol
    extensions: Extensions
    opened_at: float
    set_up: float
    """Seconds it took to open; charged to the first message only."""
    messages: int = 0
    idle_since: float = 0.0
    tls: str = ""
    remote: str = field(init=False)

    def __post_init__(self) -> None:
        self.remote = str(self.endpoint)

    async def quit(self, seconds: float) -> None:
        """Say QUIT and close, gracefully as far as the peer plays along within `seconds`. Never raises `Broken`."""
        self.protocol.linger(reset=False)
        try:
            await self.protocol.ask(b"QUIT", seconds)
        except Broken:
            pass
        finally:
            self.protocol.abort()


class Connector:
    """Opens sessions by one policy. `own_names` are lower-case host names that are ours (loop detection)."""

    def __init__(
        self,
        hostname: str,
        tls: TlsPolicy,
        *,
        protocol: Literal["smtp", "lmtp"] = "smtp",
        timeouts: Timeouts = Timeouts(),
        own_names: frozenset[str] = frozenset(),
        alarm: Alarm | None = None,
        tls_memory: float = 600.0,
    ) -> None:
        self._hello = hostname.encode("ascii")
        self._tls = tls
        self._lmtp = protocol == "lmtp"
        self._timeouts = timeouts
        self._own_names = own_names | {hostname.lower()}
        self._alarm = alarm or (lambda _kind, _key, _text: None)
        self._tls_memory = tls_memory
        self._plain_until: dict[str, float] = {}

    async def open(self, endpoint: Endpoint, stage: Callable[[str], None]) -> Connection:
        """A session with `endpoint`. Raises `ConnectFailed`; `stage` hears connect and tls."""
        try:
            return await self._open(endpoint, stage, starttls=self._wants_tls(endpoint))
        except _TlsFailed as failure:
            if self._tls.mandatory:
                raise
            self._alarm("tls-fallback", str(endpoint), failure.reply.text)
            self._remember_plain(endpoint)
        return await self._open(endpoint, stage, starttls=False)

    def _wants_tls(self, endpoint: Endpoint) -> bool:
        if self._tls.mode == "off":
            return False
        return self._tls.mandatory or self._plain_until.get(str(endpoint), 0.0) < time.monotonic()

    def _remember_plain(self, endpoint: Endpoint) -> None:
        if len(self._plain_until) > 1000:
            self._plain_until.clear()
        self._plain_until[str(endpoint)] = time.monotonic() + self._tls_memory

    async def _open(self, endpoint: Endpoint, stage: Callable[[str], None], *, starttls: bool) -> Connection:
        began = time.monotonic()
        stage("connect")
        protocol = await self._dial(endpoint)
        try:
            await self._greeting(protocol, endpoint)
            extensions = await self._handshake(protocol, endpoint)
            cipher = ""
            if starttls and self._tls_possible(extensions, endpoint):
                stage("tls")
                cipher = await self._secure(protocol, endpoint)
                extensions = await self._handshake(protocol, endpoint) if cipher else extensions
        except BaseException:
            protocol.abort()
            raise
        now = time.monotonic()
        return Connection(endpoint, protocol, extensions, now, now - began, tls=cipher)

    async def _dial(self, endpoint: Endpoint) -> NextHopProtocol:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        sock = None
        try:
            # Python's sockets are close-on-exec from birth (PEP 446): no child can keep a delivery alive.
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(self._timeouts.connect):
                await loop.sock_connect(sock, (endpoint.address, endpoint.port))
                connected = sock
                _, protocol = await loop.create_connection(lambda: NextHopProtocol(loop, connected), sock=connected)
        except TimeoutError:
            _close(sock)
            raise ConnectFailed(own_reply("4.4.1", f"connect to {endpoint}: timed out", str(endpoint))) from None
        except OSError as error:
            _close(sock)
            raise ConnectFailed(own_reply("4.4.1", f"connect to {endpoint}: {_why(error)}", str(endpoint))) from error
        except BaseException:
            _close(sock)
            raise
        return protocol

    async def _greeting(self, protocol: NextHopProtocol, endpoint: Endpoint) -> None:
        raw = await _heard(protocol.reply(self._timeouts.greeting), endpoint, GREETING)
        if raw.digit != 2:
            raise _refused(raw, endpoint)
        self._refuse_loop(raw, endpoint)

    async def _handshake(self, protocol: NextHopProtocol, endpoint: Endpoint) -> Extensions:
        verb = b"LHLO " if self._lmtp else b"EHLO "
        raw = await self._ask(protocol, verb + self._hello, endpoint)
        if raw.digit == 2:
            self._refuse_loop(raw, endpoint)
            return parse_extensions(raw.text)
        if self._lmtp or raw.code == 421:
            raise _refused(raw, endpoint)
        raw = await self._ask(protocol, b"HELO " + self._hello, endpoint)
        if raw.digit != 2:
            raise _refused(raw, endpoint)
        self._refuse_loop(raw, endpoint)
        return Extensions()

    async def _ask(self, protocol: NextHopProtocol, line: bytes, endpoint: Endpoint) -> RawReply:
        return await _heard(protocol.ask(line, self._timeouts.hello), endpoint, HANDSHAKE)

    def _tls_possible(self, extensions: Extensions, endpoint: Endpoint) -> bool:
        if extensions.starttls:
            return True
        if self._tls.mandatory:
            text = f"TLS is required, but was not offered by {endpoint}"
            raise ConnectFailed(own_reply("4.7.4", text, str(endpoint)))
        return False

    async def _secure(self, protocol: NextHopProtocol, endpoint: Endpoint) -> str:
        """The cipher in use, or '' when an opportunistic STARTTLS was politely declined."""
        context = self._tls.context
        if context is None:  # `off` never comes here
            raise ConnectFailed(own_reply("4.7.5", "TLS is not configured", str(endpoint)))
        try:
            await protocol.start_tls(context, endpoint.host.rstrip("."), self._timeouts.starttls)
        except SMTPResponseException as declined:
            if self._tls.mandatory or protocol.fault is not None:
                raise _tls_failed(endpoint, f"STARTTLS refused: {declined.message}") from declined
            return ""
        except Broken as fault:
            raise _tls_failed(endpoint, fault.said(str(endpoint), "performing the TLS handshake").text) from fault
        except ssl.SSLCertVerificationError as error:
            raise _tls_failed(endpoint, f"certificate not trusted: {error.verify_message}") from error
        except (SMTPException, OSError, ValueError) as error:
            # ssl.SSLError is an OSError; a host name that cannot be sent as SNI is a ValueError.
            raise _tls_failed(endpoint, str(getattr(error, "reason", None) or error)) from error
        return _cipher(protocol)

    def _refuse_loop(self, raw: RawReply, endpoint: Endpoint) -> None:
        if announced_name(raw.text) in self._own_names:
            text = f"mail loops back: {endpoint} calls itself by this host's name"
            self._alarm("next-hop-is-us", str(endpoint), text)
            raise ConnectFailed(own_reply("4.4.6", text, str(endpoint)))


async def _heard(waiting: Awaitable[RawReply], endpoint: Endpoint, doing: str) -> RawReply:
    try:
        raw = await waiting
    except Broken as fault:
        raise ConnectFailed(fault.said(str(endpoint), doing)) from fault
    if raw.digit not in {2, 4, 5}:
        raise ConnectFailed(garbled(quoted(raw)).said(str(endpoint), doing))
    return raw


def _refused(raw: RawReply, endpoint: Endpoint) -> ConnectFailed:
    text = f"{endpoint} refused the session: {quoted(raw)}"
    return ConnectFailed(own_reply("4.3.2", text, str(endpoint)))


def _tls_failed(endpoint: Endpoint, why: str) -> _TlsFailed:
    return _TlsFailed(own_reply("4.7.5", f"TLS with {endpoint} failed: {why}", str(endpoint)))


def _cipher(protocol: NextHopProtocol) -> str:
    transport = protocol.transport
    cipher = transport.get_extra_info("cipher") if transport is not None else None
    return f"{cipher[1]} {cipher[0]}" if cipher else "TLS"


def _why(error: OSError) -> str:
    """In the system's words: asyncio puts its own in `strerror` ("Connect call failed …")."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()
