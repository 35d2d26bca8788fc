"""
Clients that say what they like, and remember in short what they heard.

Guarantees: a caller costs little memory whatever it hears, and never waits longer than its limit.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

_LINE = 1 << 20
_PATIENCE = 20.0


@dataclass(slots=True)
class Caller:
    """One connection. `codes` are the distinct codes heard, in order of their first time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    codes: dict[str, int] = field(default_factory=dict)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at each whole reply."""
    listening: asyncio.Task[None] | None = None

    @classmethod
    async def dial(cls, port: int, host: str) -> "Caller":
        """Connect from an address of loopback. Raises `OSError` or `TimeoutError`."""
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0), limit=_LINE)
        caller = cls(reader, writer)
        caller.listening = asyncio.create_task(caller._listen())
        return caller

    async def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await self.reader.readline():
                if line[3:4] != b"-":
                    code = line[:3].decode("latin-1")
                    self.codes[code] = self.codes.get(code, 0) + 1
                    self.heard.set()
        self.closed.set()

    async def ask(self, command: bytes, patience: float = _PATIENCE) -> None:
        """Say something and wait for one reply, or the end of the connection."""
        self.heard.clear()
        await self.send(command)
        await self._first(self.heard, self.closed, patience=patience)

    async def greeting(self) -> None:
        """Wait for the first reply."""
        if not self.codes:
            await self._first(self.heard, self.closed, patience=_PATIENCE)

    async def send(self, octets: bytes) -> None:
        if self.writer.transport.is_closing():
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                self.writer.write(octets)
                await self.writer.drain()

    async def pour(self, block: bytes, blocks: int) -> None:
        """Send blocks until they are all sent or the relay has closed; then say that nothing follows, and listen."""
        for _ in range(blocks):
            if self.closed.is_set() or self.writer.transport.is_closing():
                break
            await self.send(block)
        with contextlib.suppress(OSError):
            self.writer.write_eof()
        await self._first(self.closed, patience=_PATIENCE)

    async def ended(self, patience: float) -> bool:
        """Whether the relay closes within so many seconds."""
        await self._first(self.closed, patience=patience)
        return self.closed.is_set()

    async def _first(self, *events: asyncio.Event, patience: float) -> None:
        tasks = [asyncio.create_task(event.wait()) for event in events]
        await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    def said(self) -> str:
        """`220 250 421, closed`."""
        end = "closed" if self.closed.is_set() else "open"
        return f"{' '.join(self.codes) or 'nothing'}, {end}"

    async def hang_up(self) -> None:
        self.writer.transport.abort()
        if self.listening is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self.listening


@dataclass(slots=True)
class Ordinary:
    """An ordinary client: one message after the other, tried again until it is taken."""

    port: int
    times: list[float] = field(default_factory=list)
    turned_away: int = 0
    given_up: int = 0

    async def run(self, stop: asyncio.Event, patience: float) -> None:
        """Until `stop`, and at least one message; each has `patience` seconds."""
        while not self.times + [0.0] * self.given_up or not stop.is_set():
            await self._one(patience)
            await asyncio.sleep(0.05)

    async def _one(self, patience: float) -> None:
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not await self._tried():
                    self.turned_away += 1
                    await asyncio.sleep(0.25)
                self.times.append(time.monotonic() - began)
                return
        self.given_up += 1

    async def _tried(self) -> bool:
        try:
            caller = await Caller.dial(self.port, "127.0.0.9")
        except OSError:
            return False
        try:
            await caller.greeting()
            for command in (b"EHLO ordinary.example\r\n", b"MAIL FROM:<a@outside.example>\r\n"):
                await caller.ask(command)
            await caller.ask(b"RCPT TO:<p0@example.edu>\r\n")
            await caller.ask(b"DATA\r\n")
            await caller.ask(b"Subject: ordinary\r\n\r\nx\r\n.\r\n")
            await caller.send(b"QUIT\r\n")
            return caller.codes.get("250", 0) == 4 and "354" in caller.codes
        finally:
            await caller.hang_up()
