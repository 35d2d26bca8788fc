# Invariant: whatever octets a client sends and however they are cut, it hears one printable reply for each command, and
# the messages that are kept are exactly those, with sender, recipients and content, that an independent reading of the
# same octets and replies says were answered 250; no valid recipient hears a 5xx, no error comes out of the session, and
# nothing of it is left behind when the connection ends.
"""
A fuzzer over the SMTP session, guided by coverage: hypothesis keeps and changes the inputs that reach most of
`router/accept` (its `target`). The transport is in memory, so that every cut is exactly what was drawn.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, seed, settings, target
from hypothesis import strategies as st
from support.coverage_guide import Guide
from support.lives import minutes
from support.session_judge import judge
from support.smtp_site import House, make_services

import router.accept
from router.accept.inbox import HIGH
from router.accept.services import Endpoint, Roster
from router.accept.session import SmtpSession
from router.settings.schema import Limits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400 + 60 * minutes())]

SIZE = 3_000
LIMITS = Limits(recipients=100, errors=8, junk_commands=6)
GUIDE = Guide(Path(router.accept.__file__).parent)
SEEN: dict[str, int] = {"runs": 0, "messages": 0, "most steps": 0}
SHORT = 150
"""Inputs of the short run."""

ENVELOPE = b"EHLO c.example\r\n", b"MAIL FROM:<s@out.example>\r\n", b"RCPT TO:<u1@example.edu>\r\n", b"DATA\r\n"
COMMANDS = (
    *ENVELOPE, b"".join(ENVELOPE[1:3]), b"HELO c\r\n", b"RCPT TO:<u2@example.edu> NOTIFY=NEVER\r\n",
    b"RCPT TO:<x@elsewhere.example>\r\n", b"RCPT TO:<\xc3\xa4@example.edu>\r\n", b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n",
    b"MAIL FROM:<> SIZE=10 BODY=8BITMIME RET=HDRS ENVID=x\r\n", b"MAIL FROM:<a@b.c> SIZE=99999\r\n", b"VRFY x\r\n",
    b"RCPT TO:<Postmaster>\r\n", b'RCPT TO:<"a\\" b"@example.edu> ORCPT=rfc822;x\r\n', b"STARTTLS\r\n", b"EHLO\r\n",
    b"BDAT 3 LAST\r\n", b"GET / HTTP/1.1\r\n", b"XCLIENT ADDR=1.2.3.4\r\n", b"AUTH PLAIN x\r\n", b"HELP\r\n",
    b"RSET\r\nRCPT TO:<u1@example.edu>\r\n", b"RSET\r\nDATA\r\n", b"x" * 600, b"x" * 9_000,
)  # fmt: skip
TEXTS = (
    b".\r\n", b"\r\n.\r\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\n.\n", b"..\r\n", b".x\r\n", b"\r\n.",
    b"\r\n", b"\n", b"\r", b"\0", b".", b"Subject: x\r\n", b"Received: by x\r\n", b" folded\r\n", b"x" * 1500,
)  # fmt: skip
Pieces = list[tuple[bytes, int]]
TURNS = st.integers(0, 4)
WORD = st.tuples(st.one_of(st.sampled_from(COMMANDS), st.sampled_from(TEXTS), st.binary(max_size=12)), TURNS)
TEXT = st.lists(
    st.tuples(st.one_of(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.binary(max_size=12)), TURNS),
    min_size=1,
    max_size=8,
)
MESSAGE = st.builds(
    lambda text, early, end, late: [(b"".join(ENVELOPE[1:3]), 0), (ENVELOPE[3], early), *text, (end, late)],
    TEXT,
    st.sampled_from([2, 2, 2, 1, 0]),
    st.sampled_from([b"\r\n.\r\n"] * 4 + [b""]),
    TURNS,
)
PIECES = st.builds(
    lambda hello, parts: [*hello, *(piece for part in parts for piece in part)],
    st.sampled_from([[(ENVELOPE[0], 2)]] * 3 + [[]]),
    st.lists(st.one_of(WORD.map(lambda one: [one]), MESSAGE), max_size=12),
)
"""Octets, and the turns of the event loop before the next ones come; 0: in the same segment."""


class Memory(asyncio.Transport):
    """The other end of a session: what it wrote, and whether it closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__({"peername": ("192.0.2.77", 4711)})
        self.loop = loop
        self.session: SmtpSession
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.session.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """A session this small is never paused."""

    resume_reading = pause_reading


async def converse(pieces: Pieces, house: House) -> tuple[bytes, bytes]:
    """What was sent, and what was said."""
    loop = asyncio.get_running_loop()
    services, roster = make_services(house, limits=LIMITS, size=SIZE), Roster()
    session, transport = SmtpSession(loop, services, Endpoint(), roster), Memory(loop)
    transport.session = session
    session.connection_made(transport)
    sent = segment = b""
    for octets, turns in [(b"", 4), *pieces, (b"", 1)]:
        segment += octets
        if turns and not transport.closed:
            if segment:
                session.data_received(segment)
            sent, segment = sent + segment, b""
            for _ in range(turns):
                await asyncio.sleep(0)
    await still(transport)
    assert len(session._inbox._data) <= HIGH + len(sent)
    if not transport.closed:
        session.eof_received()
    await still(transport)
    assert transport.closed
    assert not roster.sessions
    assert services.admission.total == 0
    return sent, transport.written


async def still(transport: Memory) -> None:
    """Until nothing more is said in a few turns of the loop."""
    said = -1
    while said != len(transport.written):
        said = len(transport.written)
        for _ in range(8):
            await asyncio.sleep(0)


def run(pieces: Pieces, caplog: pytest.LogCaptureFixture) -> None:
    """One conversation, guided and judged."""
    house = House()
    caplog.clear()
    with asyncio.Runner() as runner:
        runner.get_loop().set_debug(False)
        with GUIDE:
            sent, said = runner.run(converse(pieces, house))
    judge(sent, said, house.messages, SIZE)
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []
    kept = {id(body) for body in house.bodies if not body.discarded}
    assert len(kept) == len(house.messages), "a body was neither kept nor discarded"
    SEEN["runs"] += 1
    SEEN["messages"] += len(house.messages)
    SEEN["most steps"] = max(SEEN["most steps"], GUIDE.steps)
    target(float(GUIDE.steps), label="steps of router/accept")
    target(float(len(house.messages)), label="messages kept")


def fuzz(examples: int, number: int, caplog: pytest.LogCaptureFixture) -> None:
    """So many inputs from one seed."""

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        derandomize=False,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.target, *([Phase.shrink] if minutes() else [])),
        suppress_health_check=list(HealthCheck),
    )
    @example([(word, 3) for word in (*ENVELOPE, b"Subject: x\r\n\r\n..a\r\n.\r\n", b"QUIT\r\n")])
    @example([(word, 3) for word in (*ENVELOPE, b"text without an end")])
    @example([(word, 3) for word in (*ENVELOPE[:3], b"RSET\r\n", b"DATA\r\n", b"x\r\n.\r\n")])
    @given(PIECES)
    def one(pieces: Pieces) -> None:
        run(pieces, caplog)

    one()


def test_inv_48_inv_63_inv_64_any_octets_in_any_cuts(caplog: pytest.LogCaptureFixture) -> None:
    end, number = time.monotonic() + 60 * minutes() / 4, 0
    while number == 0 or time.monotonic() < end:
        number += 1
        fuzz(SHORT if not minutes() else 3_000, number, caplog)
    print(f"{SEEN}, {len(GUIDE.known)} steps known, {number} seeds")  # noqa: T201 - shown by ./dev crash
    assert SEEN["messages"] > SEEN["runs"] / 20, "hardly anything gets as far as a message"
