"""
A next hop that does what a test says: one knob per command, over plain streams and none of our SMTP code.

`hop = await make_hop(rcpt=["250 ok", "550 5.1.1 no"], dot=CLOSE)`: each knob is a reply, a list of replies (used in
turn, the last one for ever), or one of the words in `ACTIONS`.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme

from router.deliver.connection import Connector, Endpoint, Timeouts
from router.deliver.pool import PoolLimits
from router.deliver.sender import LaneSender
from router.deliver.tls import TlsPolicy, tls_policy
from router.model.parcel import Parcel, ParcelRecipient

ACTIONS = {
    "CLOSE": "end the connection without a reply",
    "RST": "reset the connection",
    "HALF": "shut down the sending side and go on reading",
    "HANG": "say nothing, ever",
    "ENDLESS": "continuation lines without end",
    "DRIBBLE": "a reply that comes octet by octet and never ends",
}
OFFERS = ("PIPELINING", "SIZE 0", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
FAST = Timeouts(*[1.0] * 11)


@dataclass
class Hop:
    """What to say, and what was heard. `commands` are lines without CRLF, in order, over all connections."""

    knobs: dict[str, Any]
    offers: Sequence[str] = OFFERS
    lmtp: bool = False
    context: ssl.SSLContext | None = None
    name: str = "hop.example"
    commands: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    resets: int = 0
    port: int = 0
    reached: dict[str, asyncio.Event] = field(default_factory=dict)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def at(self, step: str) -> asyncio.Event:
        """Set once the hop has come to `step`."""
        return self.reached.setdefault(step, asyncio.Event())

    def endpoint(self, host: str = "localhost") -> Endpoint:
        return Endpoint(host, "127.0.0.1", self.port)

    def knob(self, step: str, default: str) -> str:
        value = self.knobs.get(step, default)
        if isinstance(value, list):
            value = value.pop(0) if len(value) > 1 else value[0]
        return str(value)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await Session(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            if isinstance(error, ConnectionResetError):
                self.resets += 1
                self.at("reset").set()
        finally:
            writer.transport.abort()
            self.writers.discard(writer)
            self.tasks.discard(task)
            self.at("gone").set()


class Gone(ConnectionError):
    """The hop ended the session itself."""


class Session:
    def __init__(self, hop: Hop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hop, self.reader, self.writer = hop, reader, writer
        self.accepted = 0

    async def run(self) -> None:
        await self.say("connect", f"220 {self.hop.name} ESMTP")
        while line := await self.reader.readline():
            self.hop.commands.append(line.rstrip(b"\r\n"))
            await self.command(line.split(maxsplit=1)[0].upper().decode("latin-1") if line.strip() else "")

    async def command(self, verb: str) -> None:
        if verb in {"EHLO", "LHLO"}:
            offers = [*self.hop.offers, *(["STARTTLS"] if self.hop.context and not self.secure else [])]
            await self.say(verb.lower(), "\r\n".join(lines(250, [self.hop.name, *offers])))
        elif verb == "STARTTLS":
            await self.starttls()
        elif verb == "DATA":
            await self.data()
        elif verb == "RCPT":
            self.accepted += (await self.say("rcpt", "250 2.1.5 ok")).startswith("2")
        elif verb == "QUIT":
            await self.say("quit", "221 2.0.0 bye")
            raise Gone
        else:
            await self.say(verb.lower(), "250 2.0.0 ok")
            self.accepted = 0

    @property
    def secure(self) -> bool:
        return self.writer.get_extra_info("sslcontext") is not None

    async def starttls(self) -> None:
        if (await self.say("starttls", "220 2.0.0 go ahead")).startswith("220") and self.hop.context:
            await self.writer.start_tls(self.hop.context)

    async def data(self) -> None:
        default = "354 go on" if self.accepted else "554 5.5.1 no valid recipients"
        if not (await self.say("data", default)).startswith("3"):
            return
        body = b""
        while not (body == b".\r\n" or body.endswith(b"\r\n.\r\n")):
            block = await self.reader.read(65536)
            if not block:
                raise ConnectionResetError
            body += block
            if "body" in self.hop.knobs:
                await self.say("body", "")
        self.hop.messages.append(body)
        for _ in range(self.accepted if self.hop.lmtp else 1):
            await self.say("dot", "250 2.0.0 queued as X1")
        self.accepted = 0

    async def say(self, step: str, default: str) -> str:
        reply = self.hop.knob(step, default)
        self.hop.at(step).set()
        if reply in ACTIONS:
            await self.act(reply)
        elif reply:
            self.writer.write(reply.encode("utf-8", "surrogateescape") + b"\r\n")
            await self.writer.drain()
        if reply.startswith("421"):
            raise Gone
        return reply

    async def act(self, action: str) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        if action == "RST":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if action in {"CLOSE", "RST"}:
            raise Gone
        if action == "HALF":
            self.writer.write_eof()
        while action in {"ENDLESS", "DRIBBLE"}:
            self.writer.write(b"250-more\r\n" * 1000 if action == "ENDLESS" else b"2")
            await self.writer.drain()
            await asyncio.sleep(0.02)
        await asyncio.Event().wait()


def lines(code: int, texts: Sequence[str]) -> list[str]:
    return [f"{code}{'-' if n < len(texts) - 1 else ' '}{text}" for n, text in enumerate(texts)]


class Permit:
    """A gate: keeps the stages it heard of, can refuse the dot, and can call the delivery back."""

    def __init__(self, *, allow: bool = True) -> None:
        self.allow = allow
        self.stages: list[str] = []
        self.asked = 0
        self.abort: Callable[[], None] = lambda: None

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def attach(self, abort: Callable[[], None]) -> None:
        self.abort = abort

    def pass_dot(self) -> bool:
        self.asked += 1
        return self.allow


class Hosts:
    """A host source with a fixed answer."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self.answer = endpoints

    async def endpoints(self) -> Sequence[Endpoint]:
        return self.answer


@pytest.fixture
async def make_hop() -> AsyncIterator[Callable[..., Awaitable[Hop]]]:
    hops: list[tuple[Hop, asyncio.Server]] = []

    async def make(**knobs: Any) -> Hop:
        settings = {key: knobs.pop(key) for key in ("offers", "lmtp", "context", "name") if key in knobs}
        hop = Hop(knobs, **settings)
        server = await asyncio.start_server(hop.serve, "127.0.0.1", 0)
        hop.port = server.sockets[0].getsockname()[1]
        hops.append((hop, server))
        return hop

    yield make
    for hop, server in hops:
        server.close()
        for task in tuple(hop.tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def make_sender() -> AsyncIterator[Callable[..., LaneSender]]:
    senders: list[LaneSender] = []

    def make(
        *hops: Hop | Endpoint, tls: TlsPolicy | None = None, host: str = "localhost", **options: Any
    ) -> LaneSender:
        endpoints = [one if isinstance(one, Endpoint) else one.endpoint(host) for one in hops]
        protocol = options.pop("protocol", "smtp")
        timeouts = options.pop("timeouts", FAST)
        connector = Connector(
            "mx.example.edu",
            tls or tls_policy("off"),
            protocol=protocol,
            timeouts=timeouts,
            alarm=options.pop("alarm", None),
        )
        limits = options.pop("limits", PoolLimits())
        sender = LaneSender(
            Hosts(*endpoints), connector, protocol=protocol, timeouts=timeouts, limits=limits, **options
        )
        senders.append(sender)
        return sender

    yield make
    for sender in senders:
        await sender.close()


@pytest.fixture
def permit() -> type[Permit]:
    return Permit


@pytest.fixture
def make_parcel() -> Callable[..., Parcel]:
    def make(*wires: str, body: bytes = b"Subject: x\r\n\r\nhello\r\n", stream: bool = False, **fields: Any) -> Parcel:
        async def blocks() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 65536):
                yield body[start : start + 65536]

        people = fields.pop("people", None) or tuple(
            ParcelRecipient(number, wire) for number, wire in enumerate(wires or ("u@example.edu",), 1)
        )
        prefix = b"Received: by mx.example.edu\r\n"
        return Parcel(
            queue_id="1a",
            sender=fields.pop("sender", "s@example.org"),
            recipients=people,
            prefix=prefix,
            size=fields.pop("size", len(prefix) + len(body)),
            blocks=fields.pop("blocks", blocks),
            inline=None if stream else body,
            **fields,
        )

    return make


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def no_host() -> Endpoint:
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Endpoint("down.example", "127.0.0.1", sock.getsockname()[1])
