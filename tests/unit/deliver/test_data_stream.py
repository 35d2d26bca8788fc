"""Dot-stuffing across every block border (inv 63), and the one-piece frame."""

import itertools
import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.deliver.data_stream import DotStuffer, frame, stream

TRICKY = b".a\r\n.\r\n..\r\n\r\n.\r\nb.\r\n.\r\n.c"
LINES = st.lists(st.sampled_from([b"", b".", b"..", b"a", b".a", b"a.", b"a" * 70]), max_size=12)


def plain(message: bytes) -> bytes:
    """By the book: double the dot of each line that begins with one, end the last line."""
    doubled = re.sub(rb"(?m)^\.", b"..", message)
    return doubled if doubled.endswith(b"\r\n") or not doubled else doubled + b"\r\n"


def cut(message: bytes, places: list[int]) -> bytes:
    stuffer = DotStuffer()
    borders = [0, *sorted(min(place, len(message)) for place in places), len(message)]
    return b"".join(stuffer.stuff(message[a:b]) for a, b in itertools.pairwise(borders)) + stuffer.ending()


def test_inv_63_every_pair_of_borders() -> None:
    for first in range(len(TRICKY) + 1):
        for second in range(first, len(TRICKY) + 1):
            assert cut(TRICKY, [first, second]) == plain(TRICKY)


def test_one_octet_at_a_time() -> None:
    assert cut(TRICKY, list(range(len(TRICKY)))) == plain(TRICKY)


@given(LINES, st.lists(st.integers(0, 200), max_size=8))
def test_inv_63_any_message_in_any_pieces(rows: list[bytes], places: list[int]) -> None:
    message = b"\r\n".join(rows)
    sent = cut(message, places)
    assert sent == plain(message)
    assert b"\r\n.\r\n" not in b"\r\n" + sent
    assert frame(b"R: x\r\n", message) == b"R: x\r\n" + sent + b".\r\n"


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200001])
async def test_written_in_pieces_of_64_kib(size: int) -> None:
    pieces: list[bytes] = []

    async def write(piece: bytes) -> None:
        pieces.append(piece)

    async def blocks() -> AsyncIterator[bytes]:
        yield b"." * size

    total = await stream(b"R: x\r\n", blocks(), write)
    body = (b".." + b"." * (size - 1) + b"\r\n") if size else b""
    assert b"".join(pieces) == b"R: x\r\n" + body
    assert total == 6 + size
    assert max(map(len, pieces)) <= 65537
