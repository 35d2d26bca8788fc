"""
Clients that send without end, or many at once: memory and descriptors stay within a limit that the kernel enforces,
each flood hears its refusal, and an ordinary client is served meanwhile (inv 33, 48, 50, 51, 52, 67).

The relay is in a control group of `MEMORY` octets: more, and the kernel kills it, which fails the test.
"""

import asyncio
import contextlib
import statistics
from collections.abc import Awaitable, Callable

import pytest
from support.lives import minutes
from support.siege import Siege
from support.smtp_site import Wire

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

FILES = 512
SETTINGS = {"message_size_limit": "4 MiB"}
AT_ONCE = 100 if minutes() else 12
EACH = 512 << 10
"""
Octets that one client may cost while it floods. Either a read of the event loop (250 KiB, not ours to choose) and two
blocks of 64 KiB, or a thousand recipients of 250 octets; and what the allocator cannot give back of the former while
the latter come. Seen with a hundred: 250 KiB each for recipients, 300 KiB each for text, 500 KiB each for all floods
one after the other.
"""
MEMORY = (144 << 20) + AT_ONCE * EACH
"""
Octets of supervisor, nursery and worker, file cache included: 150 MiB for 12 clients, 194 MiB for a hundred. They have
106 to 117 MiB when they begin (what forks share counts once), 9 MiB more after any floods, and the kernel 4 MiB for
them. What is left has to do as file cache.
"""
BLOCK = 1 << 16
SLOW = 0.75 + AT_ONCE * 0.02
"""
Seconds that an ordinary client may need for a whole message while floods go on, in the median: 1 s beside 12, 2.75 s
beside a hundred. A message takes about a dozen turns of the event loop, and each flood has up to 50 commands answered
in each: 600 for each flood, of 10 us if nobody else uses the processors, which test and relay share in any case.
"""
TIMES = 150
"""As many times as without floods it may be, too, on a machine that is slow without them."""
TRIES = 3
"""Floods of a kind until others are served in time: a machine that stands still does not do so in each of them."""
GROWTH = (16 << 20) + AT_ONCE * (256 << 10)
"""
Octets of memory that may be held more than before, after all is over: 19 MiB for 12 clients, 41 MiB for a hundred. What
has been freed in between smaller things stays with the allocator until the next flood uses it again: 25 MiB were seen
after recipients, 30 MiB after text, and none more when the same floods came again.
"""
PATIENCE = 60 + AT_ONCE * 0.3
"""Seconds that a flood may take: a hundred clients have 200,000 recipients looked up."""


async def pour(wire: Wire, block: bytes, blocks: int) -> str:
    """Send blocks until they are all sent or the relay has had enough; all it said."""
    heard = asyncio.ensure_future(wire.rest(PATIENCE))
    with contextlib.suppress(ConnectionError):
        for _ in range(blocks):
            if heard.done():
                break
            await wire.send(block)
        wire.writer.write_eof()
    with contextlib.suppress(TimeoutError):
        return (await heard).decode()
    return ""


async def opened(siege: Siege) -> Wire:
    wire = await siege.dial()
    await wire.hello()
    return wire


async def endless_line(siege: Siege) -> None:
    """A command of 10 MiB without an end."""
    said = await pour(await opened(siege), b"NOOP" + b" " * BLOCK, 160)
    assert said in {"", "500 5.5.2 Command line too long\r\n"}


async def endless_recipients(siege: Siege) -> None:
    """A thousand are taken, a thousand more put off, then the connection ends. Nobody hears a 5xx (G1)."""
    wire = await opened(siege)
    await wire.ask("MAIL FROM:<a@b.c>")
    said = await pour(wire, b"".join(b"RCPT TO:<ann+%d@example.edu>\r\n" % n for n in range(2001)), 1)
    codes = [line[:9] for line in said.split("\r\n") if line]
    assert codes == ["250 2.1.5"] * 1000 + ["452 4.5.3"] * 1000 + ["421 4.7.0"]


async def endless_junk(siege: Siege) -> None:
    said = await pour(await opened(siege), b"NOOP\r\n" * 10_000, 5)
    assert said.count("\r\n") <= 150
    assert said[-200:].endswith("421 4.7.0 Too many errors\r\n") or not said


async def the_same_again(siege: Siege) -> None:
    """One recipient, ever again: a thousand times more than once, then put off, then the end."""
    wire = await opened(siege)
    await wire.ask("MAIL FROM:<a@b.c>")
    said = await pour(wire, b"RCPT TO:<ann@example.edu>\r\n" * 2002, 1)
    codes = [line[:3] for line in said.split("\r\n") if line]
    assert codes == ["250"] * 1001 + ["452"] * 1000 + ["421"]


async def endless_text(siege: Siege) -> None:
    """One line of 32 MiB, 28 more than a message may have."""
    wire = await opened(siege)
    await wire.to_data("bob@example.edu")
    said = await pour(wire, b"x" * BLOCK, 512)
    assert said in {"", "421 4.3.4 Far more data than can be accepted, closing the connection\r\n"}


async def endless_header(siege: Siege) -> None:
    """Fields without end, until the message is too big; then its end comes, and it is refused."""
    wire = await opened(siege)
    await wire.to_data("bob@example.edu")
    for _ in range(80):
        await wire.send(b"Received: from x by y; now\r\nX-Field: " + b"y" * 990 + b"\r\n" + b"X: y\r\n" * 9000)
    await wire.send(b"\r\n.\r\n")
    assert (await wire.reply()).startswith("552 5.3.4")


async def many_fields(siege: Siege) -> None:
    """A hundred thousand header fields below the limit are a message like any other (inv 67)."""
    wire = await opened(siege)
    letter = siege.letter("bob@example.edu", content=b"")
    head = letter.content.partition(b"\r\n\r\n")[0]
    whole = head + b"\r\n" + b"X-Field: some value\r\n" * 100_000 + b"\r\nbody\r\n"
    await siege.envelope(wire, letter)
    await wire.send(whole + b".\r\n")
    reply = await wire.reply()
    assert reply.startswith("250 2.0.0")
    siege.noted(letter, reply, whole)


async def deaf(siege: Siege) -> None:
    """Asks and asks from many transactions, and never reads an answer; then it is gone."""
    wire = await opened(siege)
    wire.reader._transport.pause_reading()  # type: ignore[attr-defined]  # the test's own end
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(1.5):
            while True:
                await wire.send(b"MAIL FROM:<a@b.c>\r\n" + b"RCPT TO:<ann@example.edu>\r\n" * 1000 + b"RSET\r\n")
    wire.reset()


async def hangs_up_in_text(siege: Siege) -> None:
    for _ in range(10):
        wire = await opened(siege)
        await wire.to_data("bob@example.edu")
        await wire.send(b"x" * BLOCK * 4)
        wire.reset()


FLOODS: list[Callable[[Siege], Awaitable[None]]] = [
    endless_line,
    endless_recipients,
    endless_junk,
    the_same_again,
    endless_text,
    endless_header,
    many_fields,
    deaf,
    hangs_up_in_text,
]


@pytest.mark.parametrize("flood", FLOODS)
async def test_inv_48_inv_51_a_flood_costs_neither_memory_nor_others_their_turn(
    siege: Siege, flood: Callable[[Siege], Awaitable[None]]
) -> None:
    await siege.good("ann@example.edu")
    calm = statistics.median([await siege.good("ann@example.edu") for _ in range(3)])
    slow = max(SLOW, TIMES * calm)
    before = siege.group.resident()
    for _ in range(TRIES):
        times = await served_meanwhile(siege, [flood(siege) for _ in range(AT_ONCE if flood is not many_fields else 6)])
        if statistics.median(times) < slow and max(times) < 3 * slow:
            break
    await siege.judge()
    grown = siege.group.resident() - before
    print(  # noqa: T201 - the figures
        f"{flood.__name__}: slowest of {len(times)} others {max(times):.2f} s, {calm:.3f} s before, {siege.figures()}"
    )
    assert statistics.median(times) < slow
    assert max(times) < 3 * slow
    assert grown < GROWTH, f"{grown >> 20} MiB more than before"


async def served_meanwhile(siege: Siege, floods: list[Awaitable[None]]) -> list[float]:
    """Ordinary mail, one after the other, while floods go on; how long each took."""
    running = asyncio.gather(*floods)
    times = [await siege.good("ann@example.edu")]
    while not running.done():
        times.append(await siege.good("ann@example.edu"))
        await asyncio.sleep(0.02)
    await running
    return times
