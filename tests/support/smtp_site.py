"""
An SMTP site for tests of the accepting side: real sockets in front, everything behind them in memory.

`House` is the pipeline and the spool with a knob for every failure; `Wire` is a client that sends exactly what a test
says; `Recorder` remembers what the observer was told.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from router.accept.admission import Admission
from router.accept.filters import GuardedFilter
from router.accept.listener import BoundListener, ListenerSet
from router.accept.policy import AccessPolicy
from router.accept.reception import Observer
from router.accept.services import Endpoint, Services
from router.model.address import Address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient
from router.model.reply import Reply
from router.ports import Filter
from router.settings.schema import Limits


class FakeClock:
    """Stands still."""

    def wall(self) -> float:
        return 1_700_000_000.0

    def monotonic(self) -> float:
        return 1.0


class FakeBody:
    """Keeps what is written, and remembers the biggest block."""

    def __init__(self, house: "House") -> None:
        self.size = 0
        self.house = house
        self.content = bytearray()
        self.biggest = 0
        self.discarded = False

    async def write(self, block: bytes) -> None:
        if self.house.write_error is not None:
            raise self.house.write_error
        if self.house.keep:
            self.content += block
        self.size += len(block)
        self.biggest = max(self.biggest, len(block))

    async def discard(self) -> None:
        self.discarded = True


@dataclass
class Kept:
    """One message as it was handed over."""

    envelope: Envelope
    recipients: tuple[NewRecipient, ...]
    content: bytes
    header: HeaderFacts
    received_at: float


@dataclass
class House:
    """The pipeline and the spool in memory, with a knob for every failure."""

    keep: bool = True
    messages: list[Kept] = field(default_factory=list)
    companies: list[int] = field(default_factory=list)
    """How many clients were said to be at work, message by message."""
    bodies: list[FakeBody] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    answers: dict[str, Reply | Exception] = field(default_factory=dict)
    mail_refusal: Reply | None = None
    seconds: float = 0.0
    """How long MAIL waits."""
    write_error: Exception | None = None
    message_error: Exception | None = None
    gate: asyncio.Event | None = None
    """When set, commits wait for it."""
    committing: asyncio.Event = field(default_factory=asyncio.Event)

    def open_body(self) -> FakeBody:
        body = FakeBody(self)
        self.bodies.append(body)
        return body

    def refuse_mail(self) -> Reply | None:
        return self.mail_refusal

    def pause(self) -> float:
        return self.seconds

    async def recipient(self, envelope: Envelope, address: Address) -> Reply | NewRecipient:
        self.asked.append(address.wire)
        answer = self.answers.get(address.wire)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        if address.domain not in {"example.edu", ""} and not envelope.client.trusted:
            return Reply(554, "5.7.1", "Relay access denied")
        return NewRecipient(address, hint="old", mailbox=address.key)

    async def message(
        self,
        envelope: Envelope,
        recipients: Sequence[NewRecipient],
        body: Any,
        header: HeaderFacts,
        received_at: float,
        *,
        company: int = 0,
    ) -> str:
        self.companies.append(company)
        self.committing.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.message_error is not None:
            raise self.message_error
        self.messages.append(Kept(envelope, tuple(recipients), bytes(body.content), header, received_at))
        return f"Q{len(self.messages)}"


class Recorder(Observer):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.gone = asyncio.Event()

    def connected(self, client: Client) -> None:
        self.events.append(("connected", client))

    def disconnected(self, client: Client, reason: str) -> None:
        self.events.append(("disconnected", reason))
        self.gone.set()

    def rejected(self, client: Client, stage: str, reply: Reply, sender: str, recipient: str, helo: str) -> None:
        self.events.append(("rejected", stage, str(reply), sender, recipient, helo))

    def accepted(
        self,
        queue_id: str,
        envelope: Envelope,
        recipients: Sequence[NewRecipient],
        size: int,
        header: HeaderFacts,
    ) -> None:
        self.events.append(("accepted", queue_id, len(recipients), size))

    def named(self, kind: str) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] == kind]


class Wire:
    """A raw SMTP client: what is sent is exactly what the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await self.writer.drain()

    async def reply(self) -> str:
        """One whole reply, lines joined by a line feed; '' when the server has closed."""
        lines = []
        while True:
            try:
                line = await asyncio.wait_for(self.reader.readline(), 60)
            except ConnectionError:
                line = b""
            lines.append(line.decode().rstrip("\r\n"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    async def replies(self, count: int) -> list[str]:
        return [await self.reply() for _ in range(count)]

    async def ask(self, command: str) -> str:
        await self.send(command + "\r\n")
        return await self.reply()

    async def turn(self) -> None:
        """Let the event loop, and with it the server, go round once."""
        await asyncio.sleep(0)

    async def hello(self) -> str:
        return await self.ask("EHLO client.example.com")

    async def to_data(self, recipient: str = "user@example.edu", sender: str = "sender@example.com") -> None:
        """Through a whole envelope to 354."""
        await self.hello()
        assert (await self.ask(f"MAIL FROM:<{sender}>")).startswith("250 2.1.0")
        assert (await self.ask(f"RCPT TO:<{recipient}>")).startswith("250 2.1.5")
        assert (await self.ask("DATA")).startswith("354 ")

    async def rest(self, patience: float = 60) -> bytes:
        """Everything up to the end of the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), patience)
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Go without a goodbye."""
        self.writer.transport.abort()


@dataclass
class Site:
    """A running set of listeners."""

    house: House
    observer: Recorder
    listeners: ListenerSet
    services: Services
    address: tuple[str, int]
    wires: list[Wire] = field(default_factory=list)

    async def dial(self, *, greeted: bool = True) -> Wire:
        wire = Wire(*await asyncio.open_connection(*self.address))
        self.wires.append(wire)
        if greeted:
            assert (await wire.reply()) == "220 mx.example.edu ESMTP Sluice"
        return wire


LOOPBACK = (ip_network("127.0.0.0/8"),)

Start = Callable[..., Awaitable[Site]]


def bind() -> socket.socket:
    """A socket on a free port of the loopback."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def make_services(
    house: House,
    *,
    limits: Limits | None = None,
    trusted: Sequence[Any] = (),
    relays: Sequence[Any] = (),
    hook: Filter | None = None,
    hook_deadline: float = 5.0,
    size: int = 1_000_000,
    smtputf8: bool = False,
    drain_limit: int = 1_000_000,
) -> Services:
    """What a session is handed, with a `Recorder` that watches."""
    limits = limits or Limits()
    extra: dict[str, Any] = {} if hook is None else {"filter": GuardedFilter(hook, hook_deadline)}
    return Services(
        hostname="mx.example.edu",
        limits=limits,
        message_size_limit=size,
        policy=AccessPolicy(trusted, relays),
        admission=Admission(limits),
        reception=house,
        open_body=house.open_body,
        clock=FakeClock(),
        smtputf8=smtputf8,
        observer=Recorder(),
        drain_limit=drain_limit,
        **extra,
    )


async def open_site(*, house: House | None = None, endpoint: Endpoint | None = None, **options: Any) -> Site:
    """A listening site on a free port of the loopback; `options` are those of `make_services`."""
    house = house or House()
    services = make_services(house, **options)
    listeners = ListenerSet(services)
    sock = bind()
    await listeners.open([BoundListener(sock, endpoint or Endpoint())])
    assert isinstance(services.observer, Recorder)
    return Site(house, services.observer, listeners, services, sock.getsockname()[:2])


async def close_site(site: Site) -> None:
    """Tear it down; no session or place may be left behind."""
    for wire in site.wires:
        wire.close()
    if site.house.gate is not None:
        site.house.gate.set()
    await site.listeners.drain(5)
    assert not site.listeners.roster.sessions
    assert site.services.admission.total == 0
