"""The Received field: its shape, and that nothing a client says can change it."""

import re
from collections.abc import Callable
from dataclasses import replace
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.envelope import Client, Envelope, HeaderFacts, QueuedMessage
from router.report.received import received_field, rfc5322_date

MakeMessage = Callable[..., QueuedMessage]
HOST = "mx.example.edu"


def test_the_shape(message: MakeMessage) -> None:
    field = received_field(message(), HOST, "alice@example.edu", ("zimAbC-_1", "t2"))
    assert field == (
        b"Received: from helo.example.net (mail.example.net [192.0.2.10])\r\n"
        b"\tby mx.example.edu (Sluice) with ESMTPS id 1A2B3C\r\n"
        b"\t(mark zimAbC-_1 t2)\r\n"
        b"\tfor <alice@example.edu>; Sun, 22 Nov 2026 01:02:03 +0000\r\n"
    )


def test_without_marks_and_for(message: MakeMessage) -> None:
    field = received_field(message(), HOST).decode()
    assert field.endswith("with ESMTPS id 1A2B3C;\r\n\tSun, 22 Nov 2026 01:02:03 +0000\r\n")


@pytest.mark.parametrize("to", [None, "alice@example.edu", "a" * 60 + "@example.edu", "é@example.edu"])
@pytest.mark.parametrize("tokens", [(), ("t",)])
def test_the_date_after_the_semicolon_is_that_of_the_receipt(
    message: MakeMessage, to: str | None, tokens: tuple[str, ...]
) -> None:
    header = message_from_bytes(received_field(message(), HOST, to, tokens), policy=policy.default)
    date = str(header["Received"]).rpartition(";")[2]
    assert parsedate_to_datetime(date.strip()).timestamp() == message().received_at


def test_ipv6_peers_are_literals(message: MakeMessage) -> None:
    client = Client("2001:DB8::1", 25, "unknown", "[IPv6:2001:db8::1]", "UTF8SMTP")
    assert b"from [IPv6:2001:db8::1] (unknown [IPv6:2001:db8::1])\r\n" in received_field(message(client=client), HOST)


def test_our_own_messages_come_from_nowhere(message: MakeMessage) -> None:
    field = received_field(message(client=Client("")), HOST)
    assert field.startswith(b"Received: by mx.example.edu (Sluice) with local id 1A2B3C;\r\n\t")


def test_inv_66_a_helo_cannot_forge_a_mark(message: MakeMessage) -> None:
    helo = "x\r\nX-Inj: y (a) by mx (Sluice) with SMTP id 9 (mark forged)\x00\x1b\u00e9"
    client = Client("192.0.2.1", 1, helo, helo, "EVIL; (x)\r\n")
    field = received_field(message(client=client), HOST)
    assert field.count(b"(Sluice)") == 1
    assert b"(mark" not in field
    assert b"with SMTP id 1A2B3C" in field
    assert len(message_from_bytes(field + b"\r\n").keys()) == 1


def test_many_marks_are_folded(message: MakeMessage) -> None:
    tokens = [f"token{n:03d}xxxxxxxxxxxxxxxx" for n in range(100)]
    field = received_field(message(), HOST, None, tokens)
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))
    unfolded = field.replace(b"\r\n\t", b" ").decode()
    found = re.search(r"\(mark ([^)]*)\)", unfolded)
    assert found
    assert found.group(1).split() == tokens


@pytest.mark.parametrize("token", ["", "a b", "a)", "a,b", "a\r\n", "é"])
def test_what_is_no_mark_is_an_error(message: MakeMessage, token: str) -> None:
    with pytest.raises(ValueError, match="mark"):
        received_field(message(), HOST, None, (token,))


def test_an_international_recipient_is_named_only_with_smtputf8(message: MakeMessage) -> None:
    assert b"for <" not in received_field(message(), HOST, "é@example.edu")
    assert "for <é@example.edu>;".encode() in received_field(message(smtputf8=True), HOST, "é@example.edu")


def test_dates_have_english_names_and_two_digits() -> None:
    assert rfc5322_date(951782400) == "Tue, 29 Feb 2000 00:00:00 +0000"


@given(helo=st.text(max_size=400), name=st.text(max_size=400), protocol=st.text(max_size=30), to=st.text(max_size=330))
def test_one_well_formed_field_whatever_the_client_said(helo: str, name: str, protocol: str, to: str) -> None:
    client = Client("192.0.2.1", 1, name, helo, protocol)
    message = QueuedMessage(1, "Q1", 0.0, Envelope("", client), 1, HeaderFacts())
    field = received_field(message, HOST, to, ("t",))
    lines = field.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) <= 998 for line in lines)
    assert all(line.startswith(b"\t") for line in lines[1:])
    assert not re.search(rb"[^\t\x20-\x7e]", b"".join(lines))
    assert field.count(b"(Sluice)") == 1 or "(Sluice)" in to
    assert received_field(replace(message), HOST, to, ("t",)) == field
