"""The final dot has the longest time of all for its reply: late is still yes, later than that is in doubt (inv_16)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from router.deliver.connection import Endpoint, Timeouts

QUICK = 0.15
DOT = 0.6


@pytest.fixture
async def hop() -> AsyncIterator[Callable[[float], Any]]:
    """`await hop(seconds)`: a next hop that answers the final dot so late, and everything else at once."""
    servers = []

    async def make(late: float) -> Endpoint:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 x\r\n")
            replies = {b"DATA": b"354 go\r\n", b".": b"250 2.0.0 late\r\n"}
            reading = False
            while line := await reader.readline():
                word = line.split()[0][:4] if line.split() else b""
                if reading and line != b".\r\n":
                    continue
                if line == b".\r\n":
                    await asyncio.sleep(late)
                reading = word == b"DATA"
                writer.write(replies.get(word, b"250 ok\r\n"))
            writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return Endpoint("late.example", "127.0.0.1", servers[-1].sockets[0].getsockname()[1])

    yield make
    for server in servers:
        server.close()


@pytest.mark.parametrize(("late", "taken"), [(DOT / 2, True), (DOT * 2, False)])
async def test_inv_16_a_late_reply_to_the_dot(
    late: float, taken: bool, hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    timeouts = replace(Timeouts(*[QUICK] * 11), dot=DOT)
    for _ in range(10):
        began = time.monotonic()
        (verdict,) = await make_sender(await hop(late), timeouts=timeouts).send(make_parcel(), permit())
        if time.monotonic() - began < min(late, DOT) + QUICK / 2:
            break  # else the machine stood still, and the time for anything else may have been up as well
    assert (verdict.reply.positive, verdict.in_doubt) == (taken, not taken)
    assert taken or verdict.reply.code // 100 == 4


def test_inv_16_the_times_are_those_of_rfc_5321() -> None:
    """4.5.3.2, as least values: the greeting and commands 5 minutes, DATA 2, a block 3, the final dot 10."""
    times = Timeouts()
    assert (times.greeting, times.mail, times.rcpt) == (300.0, 300.0, 300.0)
    assert (times.data, times.block, times.dot) == (120.0, 180.0, 600.0)
