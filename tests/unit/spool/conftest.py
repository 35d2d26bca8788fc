"""Spools in temporary directories, and short ways to say what goes in and out of them."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient, QueuedMessage, Work
from router.model.outcome import Disposition, Outcome
from router.model.reply import HopReply
from router.spool.options import SpoolOptions
from router.spool.spool import Spool
from router.spool.upkeep import Pace

ENVELOPE = Envelope("Sender@Example.org", Client("192.0.2.1", 25, "c.example", "helo", "ESMTP"))
HEADER = HeaderFacts("<m@example.org>", 2, marks=("00010000000A:abc,def",))
OK = HopReply(250, "2.0.0", "taken", "store[127.0.0.1]:25")
LATER = HopReply(451, "4.3.0", "come back", "store[127.0.0.1]:25")
QUIET = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0, pace=Pace(period=3600))

OpenSpool = Callable[..., Awaitable[Spool]]


def rcpt(address: str, *, lane: str = "cliff", mailbox: str | None = None, held: bool = False) -> NewRecipient:
    parsed = parse_address(address)
    return NewRecipient(parsed, hint=lane, mailbox=parsed.key if mailbox is None else mailbox, held=held)


async def put(
    spool: Spool, *recipients: NewRecipient, body: bytes = b"Subject: x\r\n\r\nhello\r\n", at: float = 100.0
) -> Work:
    writer = spool.open_body()
    for start in range(0, len(body), 65536):
        await writer.write(body[start : start + 65536])
    return await spool.accept(ENVELOPE, recipients or (rcpt("a@example.edu"),), writer, HEADER, at)


def outcome(number: int, disposition: Disposition, **more: object) -> Outcome:
    values: dict[str, object] = {"at": 200.0, "reply": OK if disposition.closing else LATER} | more
    return Outcome(number, disposition, **values)  # type: ignore[arg-type]


async def read(spool: Spool, message: QueuedMessage) -> bytes:
    return b"".join([block async for block in await spool.body(message)])


def column(directory: Path, query: str, *values: object) -> list[object]:
    """Look into the database past the spool's own code, read-only."""
    connection = sqlite3.connect(f"file:{directory / 'queue.db'}?mode=ro", uri=True)
    try:
        return [row[0] for row in connection.execute(query, values)]
    finally:
        connection.close()


def damage(directory: Path, statement: str, *values: object) -> None:
    """Change the database of a closed spool behind its back."""
    connection = sqlite3.connect(directory / "queue.db")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


class Kit:
    """The helpers above, for tests that cannot import their neighbours (import mode importlib)."""

    ENVELOPE, HEADER, OK, LATER, QUIET = ENVELOPE, HEADER, OK, LATER, QUIET
    rcpt = staticmethod(rcpt)
    put = staticmethod(put)
    outcome = staticmethod(outcome)
    read = staticmethod(read)
    column = staticmethod(column)
    damage = staticmethod(damage)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "0001"


@pytest.fixture
async def open_spool(directory: Path) -> AsyncIterator[OpenSpool]:
    async with AsyncExitStack() as stack:

        async def opened(*, create: bool = True, options: SpoolOptions = QUIET, at: Path = directory) -> Spool:
            spool = await Spool.open(at, 1, create=create, options=options)
            stack.push_async_callback(spool.close)
            return spool

        yield opened
    await asyncio.sleep(0)


@pytest.fixture
async def spool(open_spool: OpenSpool) -> Spool:
    return await open_spool()
