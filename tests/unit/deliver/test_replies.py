"""The pure part of reading replies."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.deliver.replies import (
    MAX_REPLY,
    RawReply,
    ReplyParser,
    ReplySyntaxError,
    hop_reply,
    recipient_refusal,
    sanitise,
)

STREAM = b"250 a\r\n250-b\r\n250-c\r\n250 d\r\n354\r\n550-5.1.1 x\n550 5.1.1 y\n"
REPLIES = [RawReply(250, b"a"), RawReply(250, b"b\nc\nd"), RawReply(354, b""), RawReply(550, b"5.1.1 x\n5.1.1 y")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_same_replies_however_they_are_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    parser = ReplyParser()
    found = [reply for a, b in itertools.pairwise(places) for reply in parser.feed(STREAM[a:b])]
    assert found == REPLIES


@given(st.binary(max_size=300))
def test_nothing_but_replies_or_a_syntax_error(data: bytes) -> None:
    try:
        for reply in ReplyParser().feed(data):
            assert 100 <= reply.code < 600
    except ReplySyntaxError:
        pass


def test_replies_before_the_nonsense_are_handed_over() -> None:
    replies = ReplyParser().feed(b"250 one\r\nnonsense\r\n")
    assert next(replies) == RawReply(250, b"one")
    with pytest.raises(ReplySyntaxError):
        next(replies)


@pytest.mark.parametrize("line", [b"-50 x", b"999 x", b"99 x", b"250x", b"", b" 250 x", b"2 0 x", b"\xb2\xb5\xb0 x"])
def test_tx1_no_reply_code(line: bytes) -> None:
    with pytest.raises(ReplySyntaxError):
        list(ReplyParser().feed(line + b"\r\n"))


@pytest.mark.parametrize("data", [b"250-x\r\n" * 8000, b"2" * (MAX_REPLY + 1)])
def test_a_reply_has_an_end(data: bytes) -> None:
    with pytest.raises(ReplySyntaxError):
        list(ReplyParser().feed(data))


@given(st.text() | st.binary())
def test_tx11_inv_80_sanitised_text_is_one_printable_line(text: str | bytes) -> None:
    safe = sanitise(text)
    assert safe.isprintable()
    assert len(safe) <= 500


@pytest.mark.parametrize(
    ("code", "text", "enhanced", "words"),
    [
        (250, b"2.1.5 fine", "2.1.5", "fine"),
        (250, b"fine", "", "fine"),
        (550, b"5.1.1 no\n5.1.1 body", "5.1.1", "no body"),
        (550, b"4.1.1 wrong class", "", "4.1.1 wrong class"),
        (550, b"5.1.1", "5.1.1", ""),
        (550, b"5.1.1.1 not a code", "", "5.1.1.1 not a code"),
        (452, b"4.5.3\ttabbed", "4.5.3", "tabbed"),
    ],
)
def test_enhanced_codes(code: int, text: bytes, enhanced: str, words: str) -> None:
    reply = hop_reply(RawReply(code, text), "h[1.2.3.4]:25")
    assert (reply.code, reply.enhanced, reply.text) == (code, enhanced, words)
    assert reply.said_by_hop


def test_552_for_too_many_recipients_means_452() -> None:
    assert recipient_refusal(RawReply(552, b"5.5.3 too many recipients"), "h").code == 452
    assert recipient_refusal(RawReply(552, b"5.2.2 mailbox full"), "h").code == 552
