"""
A next hop that does what a test says: one knob per command, over plain streams and none of our SMTP code.

`hop = Hop(dict(rcpt=["250 ok", "550 5.1.1 no"], dot="CLOSE"))`, `await hop.start()`: each knob is a reply, a list of
replies (used in turn, the last one for ever), or one of the words in `ACTIONS`. `hop.heal()` takes all knobs off and
cuts the connections that are stuck in one.

`messages` are the octets of DATA as they came, dots and all; `arrivals()` is what the ledger wants to know.
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from router.deliver.connection import Endpoint
from router.ledger.arrival import Arrival, Tape
from router.ledger.unstuff import Unstuffer

ACTIONS = {
    "CLOSE": "end the connection without a reply",
    "RST": "reset the connection",
    "HALF": "shut down the sending side and go on reading",
    "HANG": "say nothing, ever",
    "ENDLESS": "continuation lines without end",
    "DRIBBLE": "a reply that comes octet by octet and never ends",
    "FLOOD": "octets without a line end, without end",
}
STREAMS = {"ENDLESS": b"250-more\r\n" * 1000, "DRIBBLE": b"2", "FLOOD": b"2" * 10_000}
LONGEST = 32 * 1024
OFFERS = ("PIPELINING", "SIZE 0", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


@dataclass
class Taken:
    """One message as it came; `codes` has a number for each reply to its dot, 0 for what is none."""

    began: float
    at: float
    sender: str
    recipients: tuple[str, ...]
    octets: bytes
    codes: list[int] = field(default_factory=list)

    def arrival(self, store: str) -> Arrival:
        """For the ledger."""
        tape = Tape()
        tape.feed(Unstuffer().feed(self.octets))
        digest, _ = tape.finish()
        codes = self.codes if len(self.codes) > 1 else self.codes * len(self.recipients)
        codes = [*codes, *[0] * (len(self.recipients) - len(codes))]
        people = tuple(zip(self.recipients, codes, strict=True))
        return Arrival(store, self.began, self.at, self.sender, people, tape.tag, digest, tape.size, tape.trace)


@dataclass
class Hop:
    """What to say, and what was heard. `commands` are lines without CRLF, in order, over all connections."""

    knobs: dict[str, Any]
    offers: Sequence[str] = OFFERS
    lmtp: bool = False
    context: ssl.SSLContext | None = None
    name: str = "hop.example"
    commands: list[bytes] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    connections: int = 0
    resets: int = 0
    port: int = 0
    reached: dict[str, asyncio.Event] = field(default_factory=dict)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    server: asyncio.Server | None = None

    @property
    def messages(self) -> list[bytes]:
        return [one.octets for one in self.taken]

    def arrivals(self) -> list[Arrival]:
        return [one.arrival(self.name) for one in self.taken]

    async def start(self) -> int:
        """Listen on a port of loopback; the port."""
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=512)
        self.port = int(self.server.sockets[0].getsockname()[1])
        return self.port

    async def stop(self) -> None:
        """End every connection, and listen no more. Idempotent."""
        if self.server is not None:
            self.server.close()
        await self.cut()

    async def cut(self) -> None:
        """End every connection."""
        for task in tuple(self.tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def heal(self) -> None:
        """Be a good store from now on."""
        self.knobs.clear()
        await self.cut()

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
        self.began = 0.0
        self.sender = ""
        self.recipients: list[str] = []

    async def run(self) -> None:
        await self.say("connect", f"220 {self.hop.name} ESMTP")
        while line := await self.reader.readline():
            self.hop.commands.append(line.rstrip(b"\r\n"))
            self.line = line.decode("utf-8", "replace")
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
            if (await self.say("rcpt", "250 2.1.5 ok")).startswith("2"):
                self.accepted += 1
                self.recipients.append(path(self.line))
        elif verb == "QUIT":
            await self.say("quit", "221 2.0.0 bye")
            raise Gone
        else:
            self.reset()
            await self.say(verb.lower(), "250 2.0.0 ok")

    def reset(self) -> None:
        self.accepted = 0
        self.recipients = []
        self.sender, self.began = path(self.line), time.monotonic()

    @property
    def secure(self) -> bool:
        return self.writer.get_extra_info("sslcontext") is not None

    async def starttls(self) -> None:
        if (await self.say("starttls", "220 2.0.0 go ahead")).startswith("220") and self.hop.context:
            await self.say("tls", "")
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
        taken = Taken(self.began, time.monotonic(), self.sender, tuple(self.recipients), body)
        self.hop.taken.append(taken)
        for _ in range(self.accepted if self.hop.lmtp else 1):
            taken.codes.append(0)
            reply = await self.say("dot", "250 2.0.0 queued as X1")
            taken.codes[-1] = code(reply)
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
        while action in STREAMS:
            self.writer.write(STREAMS[action])
            await self.writer.drain()
            await asyncio.sleep(0.02)
        await asyncio.Event().wait()


def path(line: str) -> str:
    """What is between the brackets of MAIL or RCPT."""
    return line.partition("<")[2].rpartition(">")[0]


def code(reply: str) -> int:
    """The code of a reply, 0 for what is none after the dot: nonsense, unfinished, or longer than anybody reads."""
    rows = reply.split("\r\n")
    whole = len({row[:3] for row in rows}) == 1 and rows[-1][3:4] != "-" and len(reply) < LONGEST
    return int(reply[:3]) if whole and re.match(r"[245][0-9][0-9](?![0-9])", reply) else 0


def lines(code: int, texts: Sequence[str]) -> list[str]:
    return [f"{code}{'-' if n < len(texts) - 1 else ' '}{text}" for n, text in enumerate(texts)]
