"""Delivery status notifications, read back with the standard library's parser."""

import re
from collections.abc import Callable
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage, Message

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.model.address import Address
from router.model.envelope import Client, Envelope, HeaderFacts, QueuedMessage, QueuedRecipient
from router.model.reply import HopReply
from router.report.dsn import HEAD_LIMIT, report_for
from router.report.dsn_fields import decode_xtext, status_code
from router.report.notice import Notice, Origin, Told, wanted

MakeMessage = Callable[..., QueuedMessage]
MakeRecipient = Callable[..., QueuedRecipient]

ORIGIN = Origin("mx.example.edu")
NOW = 1_795_400_000.0
HEAD = b"From: Bob <bob@example.net>\r\nSubject: hello\r\nMessage-ID: <abc@example.net>\r\n\r\nbody\r\n"
REFUSED = HopReply(550, "5.1.1", "<alice@example.edu>: no such user", "new.example.edu[10.0.0.2]:25")
SILENT = HopReply(451, "4.4.1", "connection refused", said_by_hop=False)


def failed(recipient: QueuedRecipient, reply: HopReply = REFUSED) -> Told:
    return Told(recipient, Notice.FAILURE, reply, NOW - 60)


def build(message: QueuedMessage, *told: Told, head: bytes = HEAD) -> EmailMessage:
    report = report_for(message, told, head, ORIGIN, NOW)
    assert report is not None
    assert report.envelope.sender == ""
    assert report.recipient.address.wire == message.envelope.sender
    return parse(report.content)


def parse(content: bytes) -> EmailMessage:
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", content)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    parsed = message_from_bytes(content, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return parsed


def blocks(parsed: EmailMessage) -> list[dict[str, str]]:
    status = list(parsed.iter_parts())[1]
    assert status.get_content_type() == "message/delivery-status"
    groups = status.get_payload()
    assert isinstance(groups, list)
    return [{key: str(value) for key, value in group.items()} for group in groups if isinstance(group, Message)]


def test_inv_75_a_failure_notice(message: MakeMessage, recipient: MakeRecipient) -> None:
    original = message(envid="QQ+2B314", size=len(HEAD))
    parsed = build(original, failed(recipient(orcpt="rfc822;Al+2Bice@example.edu")))
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert str(parsed["From"]) == "Mail Delivery System <MAILER-DAEMON@mx.example.edu>"
    assert str(parsed["To"]) == "bob@example.net"
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed["Message-ID"] == "<1A2B3C.failed.1795400000@mx.example.edu>"
    assert parsed["In-Reply-To"] == "<abc@example.net>"
    assert parsed["Date"].datetime.timestamp() == NOW
    assert parsed["Subject"] == "Undelivered Mail Returned to Sender"
    first, second = blocks(parsed)
    assert first == {
        "Reporting-MTA": "dns; mx.example.edu",
        "Original-Envelope-Id": "QQ+314",
        "Arrival-Date": "Sun, 22 Nov 2026 01:02:03 +0000",
    }
    assert second == {
        "Original-Recipient": "rfc822; Al+ice@example.edu",
        "Final-Recipient": "rfc822; alice@example.edu",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; new.example.edu",
        "Diagnostic-Code": "smtp; 550 5.1.1 <alice@example.edu>: no such user",
        "Last-Attempt-Date": "Mon, 23 Nov 2026 02:12:20 +0000",
    }


def test_words_for_a_person_name_the_recipient_and_the_reply(message: MakeMessage, recipient: MakeRecipient) -> None:
    text = next(iter(build(message(), failed(recipient())).iter_parts())).get_content()
    assert "<alice@example.edu>:" in text
    assert "host new.example.edu said: 550 5.1.1" in text
    assert "1A2B3C" in text


def test_only_words_of_a_server_are_quoted_as_such(message: MakeMessage, recipient: MakeRecipient) -> None:
    parsed = build(message(), failed(recipient(), SILENT))
    fields = blocks(parsed)[1]
    assert "Diagnostic-Code" not in fields
    assert "Remote-MTA" not in fields
    assert fields["Status"] == "5.4.7"
    assert "said:" not in next(iter(parsed.iter_parts())).get_content()


def test_a_delay_notice_says_how_long_it_goes_on(message: MakeMessage, recipient: MakeRecipient) -> None:
    told = Told(recipient(), Notice.DELAY, SILENT, NOW, retry_until=NOW + 86400)
    parsed = build(message(ret="FULL", size=len(HEAD)), told)
    fields = blocks(parsed)[1]
    assert (fields["Action"], fields["Status"]) == ("delayed", "4.4.1")
    assert fields["Will-Retry-Until"] == "Tue, 24 Nov 2026 02:13:20 +0000"
    assert "YOU DO NOT NEED TO SEND IT AGAIN" in " ".join(next(iter(parsed.iter_parts())).get_content().split())
    assert list(parsed.iter_parts())[2].get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(("kind", "action"), [(Notice.RELAYED, "relayed"), (Notice.SUCCESS, "delivered")])
def test_inv_77_success_when_asked_for(
    message: MakeMessage, recipient: MakeRecipient, kind: Notice, action: str
) -> None:
    reply = HopReply(250, "2.0.0", "Ok", "new.example.edu[10.0.0.2]:25")
    assert report_for(message(), [Told(recipient(), kind, reply, NOW)], HEAD, ORIGIN, NOW) is None
    fields = blocks(build(message(), Told(recipient(notify="SUCCESS,FAILURE"), kind, reply, NOW)))[1]
    assert (fields["Action"], fields["Status"]) == (action, "2.0.0")


def test_one_notice_for_all_recipients_the_worst_first(message: MakeMessage, recipient: MakeRecipient) -> None:
    reply = HopReply(250, "2.0.0", "Ok", "new.example.edu[10.0.0.2]:25")
    parsed = build(
        message(),
        Told(recipient("carol@example.edu", notify="SUCCESS"), Notice.RELAYED, reply, NOW),
        failed(recipient("dave@example.edu", notify="NEVER")),
        failed(recipient()),
    )
    assert parsed["Subject"] == "Undelivered Mail Returned to Sender"
    found = [(block["Final-Recipient"], block["Action"]) for block in blocks(parsed)[1:]]
    assert found == [("rfc822; alice@example.edu", "failed"), ("rfc822; carol@example.edu", "relayed")]


def test_headers_go_back_by_default(message: MakeMessage, recipient: MakeRecipient) -> None:
    part = list(build(message(size=len(HEAD)), failed(recipient())).iter_parts())[2]
    assert part.get_content_type() == "text/rfc822-headers"
    assert part.get_payload(decode=True) == HEAD.partition(b"\r\n\r\n")[0] + b"\r\n"


def test_the_whole_goes_back_byte_for_byte_when_asked_for(message: MakeMessage, recipient: MakeRecipient) -> None:
    head = HEAD + "8-bit: é\r\n".encode()
    report = report_for(message(size=len(head), ret="FULL"), [failed(recipient())], head, ORIGIN, NOW)
    assert report is not None
    part = list(parse(report.content).iter_parts())[2]
    assert part.get_content_type() == "message/rfc822"
    assert part["Content-Transfer-Encoding"] == "8bit"
    assert head + b"\r\n--" in report.content
    assert report.envelope.body == "8BITMIME"


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"x" * 1200 + b"\r\n",
        HEAD + b"nul \0\r\n",
        HEAD + b"bare \n newline\r\n",
        b"A: b\r\n\r\n" + b"0123456789abcde\r\n" * 4000,
    ],
)
def test_a_message_not_fit_to_be_enclosed_is_cut_to_its_header(
    message: MakeMessage, recipient: MakeRecipient, head: bytes
) -> None:
    original = message(size=len(head), ret="FULL")
    part = list(build(original, failed(recipient()), head=head[:HEAD_LIMIT]).iter_parts())[2]
    assert part.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(
    "header", [b"Subject: caf\xe9\r\n", b"X: " + b"y" * 2000 + b"\r\n", b"A: \0\x1b\r\n", b"A: b\rc\nd \r\n.\r\n"]
)
def test_a_header_not_fit_for_transport_is_encoded(
    message: MakeMessage, recipient: MakeRecipient, header: bytes
) -> None:
    report = report_for(message(), [failed(recipient())], header + b"\r\nbody\r\n", ORIGIN, NOW)
    assert report is not None
    assert report.content.isascii()
    part = list(parse(report.content).iter_parts())[2]
    assert part["Content-Transfer-Encoding"] == "quoted-printable"
    assert part.get_payload(decode=True) == header


@pytest.mark.parametrize("head", [b"", b"\r\nbody only\r\n", b"A: cut in the midd"])
def test_odd_headers(message: MakeMessage, recipient: MakeRecipient, head: bytes) -> None:
    assert len(list(build(message(), failed(recipient()), head=head).iter_parts())) == 3


def test_an_international_message_uses_the_international_parts(message: MakeMessage) -> None:
    address = Address("é@example.edu", "é", "example.edu")
    told = failed(QueuedRecipient(1, address))
    report = report_for(message("ü@example.net", smtputf8=True), [told], HEAD, ORIGIN, NOW)
    assert report is not None
    assert report.envelope.smtputf8
    assert report.envelope.body == "8BITMIME"
    kinds = [part.get_content_type() for part in parse(report.content).iter_parts()]
    assert kinds == ["text/plain", "message/global-delivery-status", "message/global-headers"]
    assert "Final-Recipient: utf-8; é@example.edu".encode() in report.content


def test_an_international_recipient_of_an_ascii_message_stays_ascii(message: MakeMessage) -> None:
    told = failed(QueuedRecipient(1, Address("é@example.edu", "é", "example.edu")))
    report = report_for(message(), [told], HEAD, ORIGIN, NOW)
    assert report is not None
    assert report.content.isascii()
    assert not report.envelope.smtputf8
    assert rb"Final-Recipient: utf-8; \x{E9}@example.edu" in report.content


def test_inv_74_never_about_the_null_sender(message: MakeMessage, recipient: MakeRecipient) -> None:
    assert report_for(message(""), [failed(recipient(notify="FAILURE"))], HEAD, ORIGIN, NOW) is None


def test_a_sender_that_is_no_address_gets_nothing(message: MakeMessage, recipient: MakeRecipient) -> None:
    assert report_for(message("not an address"), [failed(recipient())], HEAD, ORIGIN, NOW) is None


def test_the_same_inputs_give_the_same_octets(message: MakeMessage, recipient: MakeRecipient) -> None:
    first = report_for(message(), [failed(recipient())], HEAD, ORIGIN, NOW)
    assert first == report_for(message(), [failed(recipient())], HEAD, ORIGIN, NOW)


def test_a_boundary_inside_the_original_is_avoided(message: MakeMessage, recipient: MakeRecipient) -> None:
    boundary = build(message(), failed(recipient())).get_boundary()
    assert boundary
    head = f"X: {boundary}\r\nY: --{boundary}\r\n\r\n".encode()
    assert build(message(), failed(recipient()), head=head).get_boundary() != boundary


@pytest.mark.parametrize(
    ("notify", "failure", "delay", "success"),
    [
        ("", True, True, False),
        ("NEVER", False, False, False),
        ("never", False, False, False),
        ("FAILURE", True, False, False),
        ("DELAY", False, True, False),
        ("SUCCESS", False, False, True),
        ("success,FAILURE,DELAY", True, True, True),
    ],
)
def test_notify_is_obeyed(notify: str, failure: bool, delay: bool, success: bool) -> None:
    expected = [failure, delay, success, success, success]
    assert [wanted(notify, "bob@example.net", kind) for kind in Notice] == expected
    assert not any(wanted(notify, "", kind) for kind in Notice)


def test_mail_of_programs_is_answered_only_when_it_asks() -> None:
    assert not wanted("", "bob@example.net", Notice.FAILURE, auto_submitted=True)
    assert wanted("FAILURE", "bob@example.net", Notice.FAILURE, auto_submitted=True)


@pytest.mark.parametrize(
    ("reply", "kind", "status"),
    [
        (HopReply(550, "", "x"), Notice.FAILURE, "5.0.0"),
        (HopReply(550, "4.1.1", "x"), Notice.FAILURE, "5.0.0"),
        (HopReply(550, "nonsense", "x"), Notice.FAILURE, "5.0.0"),
        (HopReply(451, "4.2.1", "x"), Notice.FAILURE, "5.4.7"),
        (HopReply(451, "4.2.1", "x"), Notice.DELAY, "4.2.1"),
        (HopReply(550, "5.1.1", "x"), Notice.DELAY, "4.0.0"),
        (HopReply(250, "", "x"), Notice.SUCCESS, "2.0.0"),
    ],
)
def test_status_agrees_with_the_action(reply: HopReply, kind: Notice, status: str) -> None:
    assert status_code(reply, kind) == status


@pytest.mark.parametrize(("text", "plain"), [("a+2Bb", "a+b"), ("a%41", "a%41"), ("+zz+", "+zz+"), ("+C3+A9", "é")])
def test_xtext(text: str, plain: str) -> None:
    assert decode_xtext(text) == plain


odd = st.text(st.one_of(st.characters(), st.sampled_from("\r\n\0\x1b\u2028\ud800;<>()=+% ")), max_size=120)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    words=st.tuples(odd, odd, odd, odd, odd, odd, odd),
    head=st.binary(max_size=300),
    code=st.integers(0, 999),
    flags=st.tuples(st.booleans(), st.booleans()),
    kind=st.sampled_from(list(Notice)),
)
def test_no_input_makes_it_fail(
    words: tuple[str, ...], head: bytes, code: int, flags: tuple[bool, bool], kind: Notice
) -> None:
    address, orcpt, text, enhanced, remote, envid, message_id = words
    utf8, full = flags
    envelope = Envelope("b@example.net", Client("", helo=text), "", utf8, "FULL" if full else "", envid)
    message = QueuedMessage(1, "Q1", 0.0, envelope, len(head), HeaderFacts(message_id=message_id))
    recipient = QueuedRecipient(1, Address(address, address, ""), "SUCCESS,FAILURE,DELAY", orcpt)
    told = Told(recipient, kind, HopReply(code, enhanced, text, remote), 0.0, retry_until=1.0)
    report = report_for(message, [told, replace(told)], head, Origin(remote), NOW)
    assert report is not None
    assert len(list(parse(report.content).iter_parts())) == 3
    assert utf8 or report.content.isascii() or full
