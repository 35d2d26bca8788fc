"""The DATA decoder against a naive reference, in every segmentation."""

import itertools
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.accept.data_reader import DataDecoder

END = b"\r\n.\r\n"
SMUGGLED = b"MAIL FROM:<smuggled@evil.example>\r\n"
NOT_AN_END = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\x85.\r\n",
    b"\r\n..\r\n",
    b"\r\n. \r\n",
    b"\n\n.\r\n",
    b"\n\r.\r\n",
]


def reference(stream: bytes, *, normalise: bool) -> tuple[bytes, bool, bytes, bool]:
    """Content, finished, leftover, stray: of the whole stream at once, line by line."""
    text = b"\r\n" + stream
    end = text.find(END)
    finished = end >= 0
    raw, leftover = (text[: end + 2], text[end + 5 :]) if finished else (text, b"")
    lines = raw.split(b"\r\n")
    stray = any(b"\r" in line or b"\n" in line for line in lines)
    first, *others = lines
    assert first == b""
    content = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in others)
    if normalise:
        content = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return content, finished, leftover, stray


def run(pieces: list[bytes], *, normalise: bool) -> tuple[bytes, DataDecoder]:
    decoder = DataDecoder(normalise=normalise)
    content = b""
    for index, piece in enumerate(pieces):
        content += decoder.feed(piece)
        if decoder.finished:
            decoder.leftover += b"".join(pieces[index + 1 :])
            break
    return content, decoder


PARTS = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\0", b"\r\n.\r\n", b"..", b"line"]), max_size=25
).map(b"".join)


@given(PARTS, st.lists(st.integers(0, 80), max_size=8), st.booleans())
def test_any_segmentation_gives_what_the_reference_gives(stream: bytes, cuts: list[int], normalise: bool) -> None:
    stream += END
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    content, decoder = run(pieces, normalise=normalise)
    wanted, finished, leftover, stray = reference(stream, normalise=normalise)
    assert finished
    assert decoder.finished
    assert decoder.leftover == leftover
    assert decoder.stray == stray
    if normalise or not stray:
        assert content == wanted


@given(PARTS)
def test_octet_by_octet_is_the_same_as_at_once(stream: bytes) -> None:
    stream += END
    one, first = run([stream], normalise=True)
    many, second = run([stream[i : i + 1] for i in range(len(stream))], normalise=True)
    assert one == many
    assert first.leftover == second.leftover


@pytest.mark.parametrize("variant", NOT_AN_END)
def test_inv_63_nothing_else_ends_a_message_however_it_is_cut(variant: bytes) -> None:
    stream = b"Subject: x\r\n\r\nbody" + variant + SMUGGLED + b"."
    for normalise in (False, True):
        for cut in range(1, len(stream)):
            decoder = DataDecoder(normalise=normalise)
            decoder.feed(stream[:cut])
            decoder.feed(stream[cut:])
            assert not decoder.finished, (variant, cut)


@pytest.mark.parametrize("variant", NOT_AN_END)
def test_inv_63_what_is_kept_has_no_bare_cr_or_lf(variant: bytes) -> None:
    stream = b"body" + variant + SMUGGLED + END
    for cut in range(1, len(stream)):
        content, decoder = run([stream[:cut], stream[cut:]], normalise=True)
        assert decoder.finished
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", content)


def test_rx18_a_bare_lf_is_noticed_and_yields_nothing_more() -> None:
    decoder = DataDecoder(normalise=False)
    assert decoder.feed(b"one\r\n") == b"one"
    assert decoder.feed(b"two\nthree\r\nfour") == b""
    assert decoder.stray
    assert decoder.feed(END) == b""
    assert decoder.finished


def test_rx18_a_dot_after_a_bare_lf_is_content() -> None:
    content, _ = run([b"a\n.b\r\n..c" + END], normalise=True)
    assert content == b"a\r\n.b\r\n.c\r\n"


@pytest.mark.parametrize(
    ("stream", "content"),
    [
        (b".\r\n", b""),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"\r\n.\r\n", b"\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\0b\r\n.\r\n", b"a\0b\r\n"),
    ],
)
def test_small_messages(stream: bytes, content: bytes) -> None:
    for cut in range(len(stream)):
        got, decoder = run([stream[:cut], stream[cut:]], normalise=False)
        assert (got, decoder.finished, decoder.leftover) == (content, True, b"")


def test_commands_behind_the_final_dot_are_left_over() -> None:
    _, decoder = run([b"a\r\n.\r\nQUIT\r\n"], normalise=False)
    assert decoder.leftover == b"QUIT\r\n"


def test_rx10_a_line_of_any_length_is_content() -> None:
    line = b"x" * 1_000_000
    content, _ = run([line, b"\r\n.\r\n"], normalise=False)
    assert content == line + b"\r\n"


def test_rx7_an_endless_line_costs_one_block() -> None:
    block = b"x" * 65536
    decoder = DataDecoder(normalise=True)
    decoder.feed(block)
    tracemalloc.start()
    for _ in range(500):
        decoder.feed(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * len(block)
