"""
Hostile clients: the floods and tricks of `tests/hostile`, at each relay with its own limits.

Each attack meets a relay of its own. Meanwhile an ordinary client from another address sends mail, and tries again when
it is turned away; memory is that of all processes of the relay, without file cache.
"""

import asyncio
import contextlib
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable

from compare.bout import Bout, Make
from compare.callers import Caller, Ordinary
from compare.figures import Attack

HOST = "127.0.0.8"
AT_ONCE = 12
IDLE = 2_000
DRIPS = 100
LASTS = 20.0
"""Seconds that idle and dripping clients stay."""
PATIENCE = 60.0
BLOCK = 1 << 16
TEXT = b"X-Ledger: hostile\r\nSubject: hostile\r\n\r\nx\r\n.\r\n"
ENVELOPE = b"MAIL FROM:<hostile@evil.example>\r\nRCPT TO:<p1@example.edu>\r\nDATA\r\n"
STOLEN = ENVELOPE + TEXT


class Field:
    """Where an attack happens: the port, and what its clients heard."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers: Counter[str] = Counter()

    async def each(self, count: int, play: Callable[[Caller], Awaitable[None]], hosts: int = 1) -> None:
        """So many clients at once, from so many addresses, each of which plays its part."""
        await asyncio.gather(*(self._one(play, _address(number % hosts)) for number in range(count)))

    async def _one(self, play: Callable[[Caller], Awaitable[None]], host: str) -> None:
        try:
            caller = await Caller.dial(self._port, host)
        except (OSError, TimeoutError):
            self.answers["no connection"] += 1
            return
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await play(caller)
            self.answers[caller.said()] += 1
        finally:
            await caller.hang_up()


async def endless_line(field: Field) -> None:
    """12 x a command of 10 MiB without an end"""

    async def play(caller: Caller) -> None:
        await _opened(caller)
        await caller.pour(b"NOOP" + b" " * BLOCK, 160)

    await field.each(AT_ONCE, play)


async def endless_recipients(field: Field) -> None:
    """12 x 2,001 recipients in one transaction"""

    async def play(caller: Caller) -> None:
        await _opened(caller)
        await caller.ask(b"MAIL FROM:<hostile@evil.example>\r\n")
        await caller.pour(b"".join(b"RCPT TO:<p1+%d@example.edu>\r\n" % n for n in range(2001)), 1)

    await field.each(AT_ONCE, play)


async def endless_greetings(field: Field) -> None:
    """12 x 50,000 EHLO"""

    async def play(caller: Caller) -> None:
        await caller.greeting()
        await caller.pour(b"EHLO x.example\r\n" * 1000, 50)

    await field.each(AT_ONCE, play)


async def endless_noops(field: Field) -> None:
    """12 x 50,000 NOOP"""

    async def play(caller: Caller) -> None:
        await _opened(caller)
        await caller.pour(b"NOOP\r\n" * 1000, 50)

    await field.each(AT_ONCE, play)


async def endless_text(field: Field) -> None:
    """12 x a message of 32 MiB in one line, three times the limit"""

    async def play(caller: Caller) -> None:
        await _opened(caller)
        for command in ENVELOPE.splitlines(keepends=True):
            await caller.ask(command)
        await caller.pour(b"x" * BLOCK, 512)

    await field.each(AT_ONCE, play)


async def out_of_turn(field: Field) -> None:
    """12 x EHLO, envelope and text in one segment"""

    async def play(caller: Caller) -> None:
        await caller.greeting()
        await caller.send(b"EHLO evil.example\r\n" + STOLEN)
        await caller.ended(3)

    await field.each(AT_ONCE, play)


async def web_form(field: Field) -> None:
    """12 x POST of HTTP with SMTP in its body"""

    async def play(caller: Caller) -> None:
        await caller.greeting()
        await caller.send(b"POST / HTTP/1.1\r\nHost: mx\r\nContent-Type: text/plain\r\n\r\nEHLO x\r\n" + STOLEN)
        await caller.ended(3)

    await field.each(AT_ONCE, play)


async def early_talk(field: Field) -> None:
    """30 x all of it before the greeting"""

    async def play(caller: Caller) -> None:
        await caller.send(b"EHLO evil.example\r\n" + STOLEN)
        await caller.ended(5)

    await field.each(30, play)


async def slow_drip(field: Field) -> None:
    """100 x one octet a second, from 10 addresses"""

    async def play(caller: Caller) -> None:
        for _ in range(int(LASTS)):
            await caller.send(b"x")
            if await caller.ended(1):
                return

    await field.each(DRIPS, play, hosts=10)


async def idle_from_one(field: Field) -> None:
    """2,000 x nothing, from one address"""
    await field.each(IDLE, _silent)


async def idle_from_many(field: Field) -> None:
    """2,000 x nothing, from 100 addresses"""
    await field.each(IDLE, _silent, hosts=100)


ATTACKS: tuple[Callable[[Field], Awaitable[None]], ...] = (
    endless_line,
    endless_recipients,
    endless_greetings,
    endless_noops,
    endless_text,
    out_of_turn,
    web_form,
    early_talk,
    slow_drip,
    idle_from_one,
    idle_from_many,
)


async def attacked(make: Make, attack: Callable[[Field], Awaitable[None]]) -> Attack:
    """One attack at a relay that has just been started, and an ordinary client beside it."""
    async with Bout(make) as bout:
        await bout.start()
        port = bout.relay.port
        warm, over = Ordinary(port), asyncio.Event()
        over.set()
        await warm.run(over, PATIENCE)
        idle = bout.group.resident()
        field, other, over = Field(port), Ordinary(port), asyncio.Event()
        memory = asyncio.create_task(_most(bout, over))
        served = asyncio.create_task(other.run(over, PATIENCE))
        await attack(field)
        over.set()
        await served
        most = await memory
        await bout.drained(20)
        taken = sum("evil" in one.sender for records in bout.records.values() for one in records)
        times = other.times or [-1.0]
        return Attack(
            dict(field.answers), taken, len(other.times), other.turned_away + other.given_up,
            statistics.median(times), max(times), most, idle,
        )  # fmt: skip


async def _most(bout: Bout, over: asyncio.Event) -> int:
    most = 0
    while not over.is_set():
        most = max(most, bout.group.resident())
        await asyncio.sleep(0.05)
    return most


async def _opened(caller: Caller) -> None:
    await caller.greeting()
    await caller.ask(b"EHLO evil.example\r\n")


async def _silent(caller: Caller) -> None:
    await caller.ended(LASTS)


def _address(number: int) -> str:
    return f"127.0.1.{number + 1}" if number else HOST
