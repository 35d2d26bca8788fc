"""What is noted of a header section, and what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.accept.header_scan import MAX_HEADER, HeaderScan, read_header
from router.model.envelope import HeaderFacts


def scan(message: bytes, size: int = 7) -> HeaderFacts:
    scanner = HeaderScan()
    for start in range(0, len(message), size):
        if not scanner.done:
            scanner.feed(message[start : start + size])
    return scanner.facts()


MARKED = (
    b"Received: from client.example.com (unknown [192.0.2.7]) by mx.example.edu (Sluice) with ESMTP id 0A1-zX9\r\n"
    b"\t(mark aB3_-x\r\n\tQQQ); Thu, 1 Jan 2026 00:00:00 +0000\r\n"
)


def test_the_ordinary_fields() -> None:
    facts = scan(
        b"Received: from a by b; x\r\nreceived: from c\r\n\tby d\r\nMessage-ID:\r\n <one@example.edu>\r\n"
        b"Auto-Submitted: auto-replied\r\nSubject: x\r\n\r\nReceived: in the body\r\nMessage-ID: <no>\r\n"
    )
    assert facts == HeaderFacts("<one@example.edu>", 2, auto_submitted=True)


@pytest.mark.parametrize(
    ("value", "automatic"),
    [("no", False), ("No (really)", False), ("no; x=y", False), ("", False), ("auto-generated", True), ("x", True)],
)
def test_auto_submitted(value: str, automatic: bool) -> None:
    assert scan(f"Auto-Submitted: {value}\r\n\r\n".encode()).auto_submitted is automatic


def test_marks_of_our_own_fields_top_first() -> None:
    message = MARKED + MARKED.replace(b"0A1-zX9", b"0B2") + b"Received: from x (Sluice) by y; z\r\n\r\n"
    facts = scan(message)
    assert facts.marks == ("0A1-zX9:aB3_-x,QQQ", "0B2:aB3_-x,QQQ")
    assert facts.received_count == 3


@pytest.mark.parametrize(
    "field",
    [
        MARKED.replace(b"(Sluice)", b"(Postfix)"),
        MARKED.replace(b"(mark ", b"(bark "),
        MARKED.replace(b"Received", b"X-Received"),
        MARKED.replace(b"aB3_-x", b"a,b"),
    ],
)
def test_what_is_no_mark(field: bytes) -> None:
    assert scan(field + b"\r\n").marks == ()


def test_inv_72_received_counts_in_the_top_header_section_only() -> None:
    assert scan(b"Subject: x\r\n\r\n" + b"Received: from a by b\r\n" * 99).received_count == 0
    assert scan(b"no header here\r\n" + b"Received: from a by b\r\n" * 99).received_count == 0
    assert scan(b"\r\n" + b"Received: from a by b\r\n" * 99).received_count == 0
    assert scan(b"Received: from a by b\r\n" * 99 + b"\r\n").received_count == 99


@pytest.mark.parametrize("first", [b"From someone@x Thu Jan  1 00:00:00 1970\r\n", b">From x\r\n", b""])
def test_inv_67_a_mailbox_line_at_the_top_is_stepped_over(first: bytes) -> None:
    assert scan(first + b"Received: from a by b\r\n\r\n").received_count == 1


def test_inv_67_a_message_that_is_all_header() -> None:
    assert scan(b"Received: from a by b\r\nMessage-ID: <x@y>\r\n") == HeaderFacts("<x@y>", 1)


def test_inv_66_a_message_id_is_made_fit_for_a_log() -> None:
    facts = scan(b"Message-ID: <a\x1b[31m\xff\x00b" + b"x" * 400 + b">\r\n\r\n", 4096)
    assert facts.message_id.startswith("<a?[31m\ufffd?bxxx")
    assert len(facts.message_id) == 255


def test_inv_67_a_huge_header_is_looked_at_once_and_bounded() -> None:
    scanner = HeaderScan()
    blocks = 0
    while not scanner.done:
        scanner.feed(b"X-Filler: " + b"y" * 65526)
        blocks += 1
    assert blocks <= MAX_HEADER // 65536 + 1
    assert read_header(b"Received: from a by b\r\n" * 100_000).received_count == 100_000


def test_hostile_marks_cost_one_pass() -> None:
    hostile = b"Received: (Sluice) " + b"by x (Sluice) with y id z (mark " * 4000 + b"\r\n"
    assert read_header(hostile).marks == ()
    assert read_header(b"Received: (sluice) by" + b" " * 100_000 + b"\r\n").marks == ()


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_octets_in_any_pieces(data: bytes, size: int) -> None:
    message = b"Message-ID: <x@y>\r\n" + data.replace(b"\r", b"").replace(b"\n", b"\r\n")
    assert scan(message, size) == scan(message, len(message))
