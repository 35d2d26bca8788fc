"""A small SMTP client on a raw socket, to talk to recording stores by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> str:
        lines = []
        while True:
            line = (await self.reader.readuntil(b"\r\n")).decode()
            lines.append(line)
            if line[3] != "-":
                return "".join(lines)

    async def say(self, line: str) -> str:
        self.writer.write(f"{line}\r\n".encode())
        return await self.reply()

    async def close(self) -> None:
        self.writer.transport.abort()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[int], Awaitable[Client]]]:
    async with AsyncExitStack() as stack:

        async def open_client(port: int) -> Client:
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            stack.push_async_callback(client.close)
            assert (await client.reply()).startswith("220")
            return client

        yield open_client
