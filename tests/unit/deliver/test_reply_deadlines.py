"""One timer serves all deadlines of a connection to a next hop: none ends early, none is forgotten."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from router.deliver.protocol import Broken, NextHopProtocol
from router.deliver.replies import RawReply


class Hands:
    """A loop whose clock is turned by hand; it counts timers, too."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[tuple[float, Callable[[], None], asyncio.Event]] = []
        self.set = 0

    def time(self) -> float:
        return self._now

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().create_future()

    def call_at(self, when: float, call: Callable[[], None]) -> Any:
        self.set += 1
        timer = (when, call, asyncio.Event())
        self._timers.append(timer)
        return type("Handle", (), {"cancel": lambda _: self._timers.remove(timer) if timer in self._timers else None})()

    def turn(self, seconds: float) -> None:
        self._now += seconds
        for timer in [one for one in self._timers if one[0] <= self._now]:
            self._timers.remove(timer)
            timer[1]()


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def protocol(hands: Hands) -> AsyncIterator[NextHopProtocol]:
    with socket.socket() as unused:
        made = NextHopProtocol(hands, unused)  # type: ignore[arg-type]  # what it needs of a loop
        made._expected = 10
        yield made


async def asked(protocol: NextHopProtocol, seconds: float) -> "asyncio.Task[RawReply]":
    task = asyncio.ensure_future(protocol.reply(seconds))
    await asyncio.sleep(0)
    return task


async def test_a_long_deadline_after_a_short_one_is_kept_in_full(protocol: NextHopProtocol, hands: Hands) -> None:
    first = await asked(protocol, 5)
    hands.turn(4)
    protocol.data_received(b"250 in time\r\n")
    await first
    second = await asked(protocol, 60)
    hands.turn(59)
    assert not second.done()
    protocol.data_received(b"250 late\r\n")
    assert (await second).text == b"late"
    protocol.check()


async def test_the_later_deadline_ends_what_the_timer_of_the_earlier_one_let_pass(
    protocol: NextHopProtocol, hands: Hands
) -> None:
    first = await asked(protocol, 5)
    protocol.data_received(b"250 in time\r\n")
    await first
    second = await asked(protocol, 60)
    hands.turn(5)
    hands.turn(54)
    await asyncio.sleep(0)
    assert not second.done()
    hands.turn(1)
    with pytest.raises(Broken, match="timed out"):
        await second


async def test_a_short_deadline_after_a_long_one_is_kept(protocol: NextHopProtocol, hands: Hands) -> None:
    first = await asked(protocol, 300)
    protocol.data_received(b"250 in time\r\n")
    await first
    second = await asked(protocol, 5)
    hands.turn(5)
    with pytest.raises(Broken, match="timed out"):
        await second


async def test_an_idle_connection_does_not_time_out(protocol: NextHopProtocol, hands: Hands) -> None:
    first = await asked(protocol, 5)
    protocol.data_received(b"250 in time\r\n")
    await first
    hands.turn(1000)
    protocol.check()


async def test_a_reply_that_came_before_the_timer_was_in_time(protocol: NextHopProtocol, hands: Hands) -> None:
    """After a pause of the machine both are due in one turn of the loop."""
    first = await asked(protocol, 5)
    protocol.data_received(b"250 in time\r\n")
    hands.turn(5)
    assert (await first).text == b"in time"
    protocol.check()


async def test_a_timer_for_each_reply_is_not_set(protocol: NextHopProtocol, hands: Hands) -> None:
    for seconds in (300, 600, 300, 600):
        waiting = await asked(protocol, seconds)
        hands.turn(0.1)
        protocol.data_received(b"250 ok\r\n")
        await waiting
    assert hands.set == 1


async def test_no_timer_is_left_behind(protocol: NextHopProtocol, hands: Hands) -> None:
    await asked(protocol, 5)
    protocol.abort()
    assert not hands._timers
