"""
Delivery status notifications: one multipart/report message (RFC 6522, 3464, 6533 with SMTPUTF8) to a sender.

Guarantees: the null sender as envelope, `Auto-Submitted: auto-replied`, three parts (words for a person, fields for a
program, the header or the whole of the original); the same inputs give the same octets; the result has no bare CR or
LF and no line over 998 octets, so any next hop takes it. At most `HEAD_LIMIT` octets of the original go back, and the
whole of it only when RET=FULL asked for it and something failed (RFC 3461 4.3).
On failure: a sender that cannot be parsed gets no notice (`report_for` returns None); nothing raises.
"""

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from router.model.address import Address, AddressSyntaxError, parse_address
from router.model.envelope import Client, Envelope, NewRecipient, QueuedMessage
from router.model.parcel import Report
from router.report.dsn_fields import delivery_status
from router.report.dsn_text import SUBJECTS, explanation
from router.report.escape import host_name
from router.report.notice import Notice, Origin, Told, told_to_sender
from router.report.received import rfc5322_date

HEAD_LIMIT = 50 * 1024
"""How many octets of the original to read for a notice."""

_LONG_LINE = 998
_MESSAGE_ID = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]{1,200}>")
_ORDER = (Notice.FAILURE, Notice.DELAY, Notice.RELAYED, Notice.EXPANDED, Notice.SUCCESS)


@dataclass(frozen=True, slots=True)
class _Part:
    """One body part: its header fields and content, both with CRLF line ends."""

    fields: tuple[str, ...]
    content: bytes

    def __bytes__(self) -> bytes:
        return "".join(f"{line}\r\n" for line in self.fields).encode() + b"\r\n" + self.content


def report_for(message: QueuedMessage, items: Sequence[Told], head: bytes, origin: Origin, now: float) -> Report | None:
    """
    The notice that the sender of `message` wants about `items`, ready to be queued, or None if it wants none.

    `head` is the first `HEAD_LIMIT` octets of the original (all of it when it is shorter). All recipients that are
    told of at one time belong into one call: one notice per message.
    """
    told = told_to_sender(message, items)
    if not told:
        return None
    try:
        sender = parse_address(message.envelope.sender)
    except AddressSyntaxError:
        return None
    content = notice(message, told, head, origin, now)
    own = Client(address="", helo=host_name(origin.hostname), protocol="local", trusted=True)
    envelope = Envelope(sender="", client=own, body="" if content.isascii() else "8BITMIME", smtputf8=not sender.ascii)
    return Report(envelope, NewRecipient(sender), content, message_id(message, told[0].notice, origin, now))


def notice(message: QueuedMessage, told: tuple[Told, ...], head: bytes, origin: Origin, now: float) -> bytes:
    """The octets of a notice about `told` (not empty), dated `now` (wall-clock seconds)."""
    utf8 = message.envelope.smtputf8
    told = tuple(sorted(told, key=lambda item: _ORDER.index(item.notice)))
    parts = [
        _text_part(explanation(message, told, origin, utf8=utf8), "text/plain; charset=utf-8", "Notification"),
        _text_part(
            delivery_status(message, told, origin, utf8=utf8),
            "message/global-delivery-status" if utf8 else "message/delivery-status",
            "Delivery report",
        ),
        _original_part(head, full=_full_wanted(message, told, head), utf8=utf8),
    ]
    encoded = [bytes(part) for part in parts]
    boundary = _boundary(message, encoded)
    lines = _header(message, told, origin, now, boundary)
    opening = "".join(f"{line}\r\n" for line in lines).encode()
    preamble = b"\r\nThis is a delivery report in MIME format.\r\n"
    separator = b"\r\n--" + boundary.encode()
    body = b"".join(separator + b"\r\n" + part for part in encoded)
    return opening + preamble + body + separator + b"--\r\n"


def message_id(message: QueuedMessage, kind: Notice, origin: Origin, now: float) -> str:
    """Of the notice about `message`, with its brackets."""
    return f"<{message.queue_id}.{kind.value}.{int(now)}@{host_name(origin.hostname)}>"


def _header(
    message: QueuedMessage, told: tuple[Told, ...], origin: Origin, now: float, boundary: str
) -> tuple[str, ...]:
    host = host_name(origin.hostname)
    kind = told[0].notice
    to = _addressee(message.envelope.sender)
    answers = _MESSAGE_ID.fullmatch(message.header.message_id)
    return (
        f"Date: {rfc5322_date(now)}",
        f"From: Mail Delivery System <MAILER-DAEMON@{host}>",
        f"To: {to}",
        f"Subject: {SUBJECTS[kind]}",
        f"Message-ID: {message_id(message, kind, origin, now)}",
        *((f"In-Reply-To: {answers.group()}",) if answers else ()),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        'Content-Type: multipart/report; report-type="delivery-status";',
        f'\tboundary="{boundary}"',
    )


def _addressee(sender: str) -> str:
    """The sender for the To field; a name in place of an address that a header field cannot carry."""
    try:
        address: Address = parse_address(sender)
    except AddressSyntaxError:
        return "undisclosed-recipients:;"
    return f"<{address.wire}>" if address.wire.isprintable() else "undisclosed-recipients:;"


def _full_wanted(message: QueuedMessage, told: tuple[Told, ...], head: bytes) -> bool:
    """Whole messages go back only for failures, when asked for, and when they are short and fit to be enclosed."""
    return (
        message.envelope.ret.upper() == "FULL"
        and told[0].notice is Notice.FAILURE
        and message.size <= len(head) <= HEAD_LIMIT
        and _sendable(head)
    )


def _text_part(text: str, kind: str, description: str) -> _Part:
    encoding = "7bit" if text.isascii() else "8bit"
    fields = (
        f"Content-Type: {kind}",
        f"Content-Description: {description}",
        f"Content-Transfer-Encoding: {encoding}",
    )
    return _Part(fields, text.encode("utf-8", "replace"))


def _original_part(head: bytes, *, full: bool, utf8: bool) -> _Part:
    if full:
        kind, content = ("message/global" if utf8 else "message/rfc822"), head
        encoding = "7bit" if head.isascii() else "8bit"
    else:
        kind = "message/global-headers" if utf8 else "text/rfc822-headers"
        content, encoding = _headers_only(head[:HEAD_LIMIT])
    description = "Undelivered message" if full else "Header of the message"
    return _Part(
        (
            f"Content-Type: {kind}",
            f"Content-Description: {description}",
            f"Content-Transfer-Encoding: {encoding}",
        ),
        content,
    )


def _headers_only(head: bytes) -> tuple[bytes, str]:
    """
    The header section and its transfer encoding.

    Quoted-printable where the header is not fit for 7-bit transport, as RFC 6522 4 allows for this type only.
    """
    if head.startswith(b"\r\n"):
        return b"", "7bit"
    section, blank, _ = head.partition(b"\r\n\r\n")
    if blank:
        section += b"\r\n"
    elif b"\r\n" in head:  # cut at the limit, or no body: end at a whole line
        section = head[: head.rfind(b"\r\n") + 2]
    if section.isascii() and _sendable(section):
        return section, "7bit"
    lines = section.split(b"\r\n")
    return b"\r\n".join(_quoted_printable(line) for line in lines), "quoted-printable"


def _quoted_printable(line: bytes) -> bytes:
    """One line as RFC 2045 6.7 text: soft line breaks within 76 octets, bare CR and LF encoded."""
    encoded = binascii.b2a_qp(line, quotetabs=False, istext=False)
    return encoded.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _sendable(content: bytes) -> bool:
    """No NUL, no bare CR or LF, no line over the limit of RFC 5321 4.5.3.1.6."""
    lines = content.split(b"\r\n")
    return not any(len(line) > _LONG_LINE or b"\r" in line or b"\n" in line or b"\0" in line for line in lines)


def _boundary(message: QueuedMessage, parts: Sequence[bytes]) -> str:
    """Made of the queue-id, and of as many rounds of a hash as it takes not to occur in the content."""
    seed = f"{message.queue_id}/{message.received_at}"
    while True:
        seed = sha256(seed.encode()).hexdigest()[:24]
        boundary = f"=_sluice_{seed}"
        if not any(boundary.encode() in part for part in parts):
            return boundary
