"""
A client's SMTP connection over raw sockets, for the load generator: no code shared with the relay.

On failure: `Gone`, for a connection that ended, was refused, or says what cannot be read; the connection is then of
no use any more.
"""

import asyncio
from contextlib import suppress
from typing import Self

_REPLY_LIMIT = 64 * 1024


class Gone(Exception):
    """The connection ended."""


class Connection:
    """Raw SMTP: lines out, replies in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.gone = False
        self.pipelining = False

    @classmethod
    async def open(cls, host: str, port: int, helo: str) -> Self:
        """Connect and greet. Raises `OSError`, or `Gone` for a relay that does not want us now."""
        reader, writer = await asyncio.open_connection(host, port, limit=_REPLY_LIMIT)
        connection = cls(reader, writer)
        welcome = False
        try:
            welcome = await connection._greet(helo)
        finally:
            if not welcome:
                writer.transport.abort()
        if not welcome:
            raise Gone
        return connection

    async def _greet(self, helo: str) -> bool:
        code, _ = await self.reply()
        if code != 220:
            return False
        await self.write(f"EHLO {helo}\r\n".encode())
        code, text = await self.reply()
        self.pipelining = "PIPELINING" in text
        return code == 250

    async def write(self, data: bytes) -> None:
        """Send octets as they are. Raises `Gone`."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            self.gone = True
            raise Gone from error

    async def reply(self) -> tuple[int, str]:
        """One reply, continuation lines joined. Raises `Gone` for a lost connection or something unreadable."""
        lines = []
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
                code = int(line[:3])
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                self.gone = True
                raise Gone from error
            lines.append(line[4:].decode("utf-8", "replace").strip())
            if line[3:4] != b"-":
                if code == 421:
                    self.gone = True
                return code, " ".join(lines)

    async def close(self) -> None:
        """Say goodbye if anybody is there. Never raises for a lost connection."""
        if not self.gone:
            with suppress(OSError):
                self._writer.write(b"QUIT\r\n")
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
