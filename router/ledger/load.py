"""
A load generator that knows exactly what was acknowledged.

Guarantees: a (message, recipient) counts as acknowledged only after 250 to its RCPT and 250 to the final dot; as
unanswered when any octet of the content was written and no reply to the dot came; as refused when a reply said so; as
not sent otherwise. A message is offered once and never sent again, so that every duplicate is the relay's.
On failure: a relay that is gone is tried again until the run is over; nothing raises for what the relay does.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from router.ledger.connection import Connection, Gone
from router.ledger.traffic import Message, Plan, messages

_RETRY = 0.05
"""Seconds between attempts to connect to a relay that is down."""
_QUEUE_ID = re.compile(r"queued as (\w[\w.\-]*)", re.IGNORECASE)


class Fate(StrEnum):
    """What the relay said about one recipient of one message."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    DECLINED = "declined"
    """A 4xx to the final dot: not acknowledged, but a commit that failed is unknown, so it may still arrive."""
    UNANSWERED = "unanswered"
    NOT_SENT = "not-sent"


@dataclass(frozen=True, slots=True)
class Submission:
    """One message offered: the fate and reply code of each recipient, in order. `at` is CLOCK_MONOTONIC seconds."""

    tag: str
    sender: str
    recipients: tuple[str, ...]
    fates: tuple[Fate, ...]
    codes: tuple[int, ...]
    digest: str
    size: int
    at: float
    seconds: float
    """From MAIL to the reply to the dot."""
    queue_id: str = ""
    dot_code: int = 0


class Load:
    """One run against one relay at `host`:`port`."""

    def __init__(self, host: str, port: int, plan: Plan, *, timeout: float = 60.0) -> None:
        self._host = host
        self._port = port
        self._plan = plan
        self._timeout = timeout
        self._stop = asyncio.Event()
        self._started = 0.0
        self._offered = 0
        self.submissions: list[Submission] = []

    def stop(self) -> None:
        """End the run after the messages that are under way."""
        self._stop.set()

    async def run(self, count: int | None = None) -> list[Submission]:
        """Offer `count` messages, or go on until `stop` (do not cancel it: what is under way would be forgotten)."""
        source = messages(self._plan)
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._plan.connections):
                group.create_task(self._worker(source, count))
        return self.submissions

    def _next(self, source: Iterator[Message], count: int | None) -> Message | None:
        if self._stop.is_set() or (count is not None and self._offered >= count):
            return None
        self._offered += 1
        return next(source)

    async def _worker(self, source: Iterator[Message], count: int | None) -> None:
        while True:
            connection = await self._connect(source_done=lambda: count is not None and self._offered >= count)
            if connection is None:
                return
            try:
                if not await self._use(connection, source, count):
                    return
            finally:
                await connection.close()

    async def _connect(self, source_done: Callable[[], bool]) -> Connection | None:
        while not self._stop.is_set() and not source_done():
            try:
                async with asyncio.timeout(self._timeout):
                    return await Connection.open(self._host, self._port, self._plan.helo)
            except (Gone, OSError, TimeoutError):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _RETRY)
        return None

    async def _use(self, connection: Connection, source: Iterator[Message], count: int | None) -> bool:
        """Send until the connection is used up or gone (True), or there is nothing left to send (False)."""
        for _ in range(self._plan.messages_per_connection):
            message = self._next(source, count)
            if message is None:
                return False
            await self._pace()
            submission = await _offer(connection, message, self._timeout)
            self.submissions.append(submission)
            if connection.gone:
                return True
        return True

    async def _pace(self) -> None:
        if self._plan.rate > 0:
            wait = self._started + self._offered / self._plan.rate - time.monotonic()
            if wait > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait)


class _Offer:
    """What is known of one message while it is offered."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.codes = [0] * len(message.recipients)
        self.writing = False
        self.dot_code = 0
        self.text = ""

    def fates(self) -> tuple[Fate, ...]:
        return tuple(self._fate(code) for code in self.codes)

    def _fate(self, code: int) -> Fate:
        if code >= 400:
            return Fate.REFUSED
        if code == 0 or not self.writing:
            return Fate.NOT_SENT if self.dot_code == 0 else Fate.REFUSED
        return {0: Fate.UNANSWERED, 2: Fate.ACKNOWLEDGED, 5: Fate.REFUSED}.get(self.dot_code // 100, Fate.DECLINED)


async def _offer(connection: Connection, message: Message, timeout: float) -> Submission:  # noqa: ASYNC109 - a limit
    offer = _Offer(message)
    at = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            await _transact(connection, offer)
    except (Gone, TimeoutError):
        connection.gone = True
    found = _QUEUE_ID.search(offer.text)
    return Submission(
        tag=message.tag,
        sender=message.sender,
        recipients=message.recipients,
        fates=offer.fates(),
        codes=tuple(offer.codes),
        digest=message.digest,
        size=len(message.content),
        at=at,
        seconds=time.monotonic() - at,
        queue_id=found.group(1) if found else "",
        dot_code=offer.dot_code,
    )


async def _transact(connection: Connection, offer: _Offer) -> None:
    message = offer.message
    commands = [f"MAIL FROM:<{message.sender}>", *(f"RCPT TO:<{to}>" for to in message.recipients)]
    if connection.pipelining:
        await connection.write("".join(f"{command}\r\n" for command in [*commands, "DATA"]).encode())
    code, _ = await _exchange(connection, commands[0])
    mail_refused = code if code >= 400 else 0
    for index, command in enumerate(commands[1:]):
        code, _ = await _exchange(connection, command)
        offer.codes[index] = mail_refused or code
    if not connection.pipelining and all(code >= 400 for code in offer.codes):
        await connection.write(b"RSET\r\n")
        await connection.reply()
        return
    code, _ = await _exchange(connection, "DATA")
    if code != 354:
        offer.dot_code = code
        if connection.pipelining:
            await connection.write(b"RSET\r\n")
            await connection.reply()
        return
    offer.writing = True
    await connection.write(stuffed(message.content))
    offer.dot_code, offer.text = await connection.reply()


async def _exchange(connection: Connection, command: str) -> tuple[int, str]:
    """The reply to a command, which is written here unless it went out with the pipelined group."""
    if not connection.pipelining:
        await connection.write(f"{command}\r\n".encode())
    return await connection.reply()


def stuffed(content: bytes) -> bytes:
    """The content as DATA sends it, with its final dot."""
    text = content.replace(b"\r\n.", b"\r\n..")
    if text.startswith(b"."):
        text = b"." + text
    return text + (b"" if text.endswith(b"\r\n") or not text else b"\r\n") + b".\r\n"
