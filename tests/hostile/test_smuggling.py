"""
SMTP smuggling through a whole relay, in and out (inv 63): nothing but <CR><LF>.<CR><LF> ends a message, and what goes
on to a store cannot be misread by one that is less strict. Judged are the octets that came to the store.

Every cut of a sequence is also tried without a relay around it, in test_data_command.py and test_data_reader.py of
tests/unit/accept, and of an outgoing one in test_data_stream.py of tests/unit/deliver.
"""

import asyncio
import re

import pytest
from support.siege import STRANGER, TRUSTED, Siege
from support.smtp_site import Wire
from support.smuggling import BARE, STOLEN, VARIANTS, ways

from router.ledger.load import stuffed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]


def repaired(content: bytes) -> bytes:
    """What a relay that repairs line ends makes of it: every CR, LF or CRLF is one CRLF."""
    return re.sub(rb"\r\n|\r|\n", b"\r\n", content)


async def in_pieces(wire: Wire, pieces: list[bytes]) -> None:
    for piece in pieces:
        await wire.send(piece)
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("host", [STRANGER, TRUSTED])
async def test_inv_63_what_only_looks_like_the_end_of_a_message_never_is(siege: Siege, host: str) -> None:
    """A stranger's bare CR or LF is refused, a trusted host's is repaired; there is one message and one reply."""

    async def one(variant: bytes) -> int:
        wire = await siege.dial(host)
        await wire.hello()
        shown = b"one\r\ntwo" + variant + STOLEN
        cases = list(ways(shown, variant))
        for pieces in cases:
            letter = siege.letter("ann@example.edu", content=shown)
            await siege.envelope(wire, letter)
            head = letter.content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            await in_pieces(wire, [head + pieces[0], *pieces[1:], b".\r\n"])
            reply = await wire.reply()
            refused = BARE.search(shown) is not None and host == STRANGER
            assert reply.startswith("550 5.5.2" if refused else "250 2.0.0"), (variant, pieces, reply)
            siege.noted(letter, reply, repaired(unstuffed(letter.content)))
            assert (await wire.ask("NOOP")).startswith("250 2.0.0"), "a second reply was there"
        wire.close()
        return len(cases)

    tried = sum(await asyncio.gather(*map(one, VARIANTS)))
    print(f"{tried} messages from {host}")  # noqa: T201 - shown by ./dev crash
    await siege.judge()
    for octets in siege.hops["old"].messages:
        assert fault(octets) == ""
    assert not [one for one in siege.hops["old"].taken if "evil" in one.sender or "eve" in one.recipients[0]]


def unstuffed(content: bytes) -> bytes:
    """The content that these octets of DATA stand for."""
    return content.replace(b"\r\n.", b"\r\n")


async def test_inv_63_every_block_border_of_a_large_message_going_out(siege: Siege) -> None:
    """Lines of dots, eleven octets a round: the borders of 64 KiB fall on each place of CRLF . CRLF in turn."""
    rows = b".\r\n..\r\n.x\r\n"
    assert 65536 % len(rows)
    for head in (b"", b".", b"x"):
        letter = siege.letter("bob@example.edu", content=head + rows * 80_000)
        wire = await siege.dial()
        await wire.hello()
        assert (await siege.hand_over(wire, letter, stuffed(letter.content))).startswith("250 ")
        wire.close()
    await siege.judge()
    sent = [one.octets for one in siege.hops["old"].taken if one.recipients == ("bob@example.edu",)]
    assert [fault(octets) for octets in sent] == ["", "", ""]


def fault(octets: bytes) -> str:
    """Why a careless store might see the end of the message too early, or ''."""
    if BARE.search(octets):
        return "a bare CR or LF"
    lines = octets.split(b"\r\n")
    if lines[-2:] != [b".", b""]:
        return "no final dot"
    single = [line for line in lines[:-2] if line.startswith(b".") and not line.startswith(b"..")]
    return f"a dot that is not doubled: {single[0]!r}" if single else ""


@pytest.mark.parametrize("octets", [b"a\n.\r\n", b"a\r\n.b\r\n.\r\n", b".\r\n.\r\n", b"a\r\n", b"a\r\r\n.\r\n"])
async def test_the_judge_sees_what_is_wrong(octets: bytes) -> None:
    assert fault(octets)
    assert not fault(b"..\r\na\r\n..b\r\n.\r\n")
