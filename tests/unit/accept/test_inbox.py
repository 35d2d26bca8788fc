"""The buffer between the event loop and the session: order, segmentation, bound."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.accept.inbox import HIGH, MAX_PENDING_LINE, Inbox
from router.accept.replies import HangUp
from router.accept.stepper import Stepper


class Waiting:
    """Somebody who waits once, from the next turn of the loop on."""

    def __init__(self, inbox: Inbox) -> None:
        self.over = False
        Stepper(asyncio.get_running_loop(), self._wait(inbox))

    async def _wait(self, inbox: Inbox) -> None:
        await inbox.wait()
        self.over = True


class Tap(asyncio.ReadTransport):
    """A transport that only knows whether it is to read."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert not self.closing
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


@pytest.fixture
async def inbox() -> Inbox:
    made = Inbox()
    made.attach(Tap())
    return made


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"NOOP\r\n"]), max_size=30), st.booleans())
def test_lines_do_not_depend_on_the_segmentation(pieces: list[bytes], greedy: bool) -> None:
    inbox = Inbox()
    lines = []
    for piece in pieces:
        inbox.feed(piece)
        while (line := inbox.line()) is not None:
            lines.append(line)
            if not greedy:
                break
    while (line := inbox.line()) is not None:
        lines.append(line)
    *wanted, rest = b"".join(pieces).split(b"\r\n")
    assert lines == wanted
    assert inbox.take() == rest
    assert not inbox.pending


@given(st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 12), st.booleans()), max_size=30))
def test_octets_come_out_once_and_in_order(steps: list[tuple[bytes, int, bool]]) -> None:
    inbox = Inbox()
    out = b""
    for data, size, back in steps:
        inbox.feed(data)
        block = inbox.take(size)
        assert len(block) <= size
        if back:
            inbox.put_back(block)
        else:
            out += block
    assert out + inbox.take(10_000) == b"".join(data for data, _, _ in steps)


async def test_inv_48_reading_stops_above_the_mark_and_goes_on_when_all_is_consumed() -> None:
    tap, inbox = Tap(), Inbox()
    inbox.attach(tap)
    inbox.feed(b"x" * HIGH)
    assert tap.reading
    inbox.feed(b"x")
    assert not tap.reading
    assert len(inbox.take()) == HIGH
    assert inbox.take() == b"x"
    waiting = Waiting(inbox)
    await asyncio.sleep(0)
    assert tap.reading
    assert not waiting.over
    inbox.feed(b"more")
    await asyncio.sleep(0)
    assert waiting.over


async def test_inv_48_whoever_is_busy_reads_no_more_until_it_waits() -> None:
    tap, inbox = Tap(), Inbox()
    inbox.pause()  # there is nobody yet
    inbox.attach(tap)
    inbox.pause()
    inbox.pause()
    assert not tap.reading
    Waiting(inbox)
    await asyncio.sleep(0)
    assert tap.reading


async def test_a_connection_that_is_closing_is_left_alone() -> None:
    """uvloop raises when such a one is to be paused."""
    tap, inbox = Tap(), Inbox()
    inbox.attach(tap)
    tap.closing = True
    inbox.pause()
    assert tap.reading


async def test_after_starttls_it_is_the_new_transport_that_is_paused() -> None:
    plain, secure, inbox = Tap(), Tap(), Inbox()
    inbox.attach(plain)
    inbox.feed(b"x" * (HIGH + 1))
    inbox.attach(secure)
    assert plain.reading
    inbox.feed(b"x")
    assert plain.reading
    assert not secure.reading


async def test_a_line_without_end_is_given_up(inbox: Inbox) -> None:
    inbox.feed(b"x" * MAX_PENDING_LINE)
    assert inbox.line() is None
    inbox.feed(b"x")
    with pytest.raises(HangUp):
        inbox.line()


async def test_the_first_reason_to_end_is_the_one_that_counts(inbox: Inbox) -> None:
    first, second = HangUp(), HangUp()
    waiting = Waiting(inbox)
    await asyncio.sleep(0)
    inbox.fail(first)
    inbox.fail(second)
    await asyncio.sleep(0)
    assert waiting.over
    with pytest.raises(HangUp) as caught:
        await inbox.wait()
    assert caught.value is first


async def test_the_reader_that_the_proxy_parser_wants(inbox: Inbox) -> None:
    inbox.feed(b"12345line\nrest")
    assert await inbox.readexactly(5) == b"12345"
    assert await inbox.readuntil() == b"line\n"
    assert await inbox.read(2) == b"re"
    assert await inbox.read(100) == b"st"
    inbox.feed(b"x" * (MAX_PENDING_LINE + 1))
    with pytest.raises(HangUp):
        await inbox.readuntil()
