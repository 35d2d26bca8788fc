"""
The machine-readable part of a notice: `message/delivery-status` (RFC 3464), or its internationalised form (RFC 6533).

Guarantees: every field is one logical line of printable text, folded at 78 where it has spaces; a Diagnostic-Code or
Remote-MTA is given only for words that a server really said; Status agrees with Action. Never fails.
"""

import re
from urllib.parse import unquote_to_bytes

from router.model.envelope import QueuedMessage
from router.model.reply import HopReply
from router.report.escape import ascii_line, host_name, one_line
from router.report.notice import Notice, Origin, Told
from router.report.received import PREFERRED_LINE, rfc5322_date

_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_HEX_PAIR = re.compile(r"\+([0-9A-F]{2})")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9\-]{1,40}")
_EXPIRED = "5.4.7"
"""Delivery time expired (RFC 3463 3.5), for a failure whose last reply was a temporary one."""
_TEXT_LIMIT = 500


def delivery_status(message: QueuedMessage, items: tuple[Told, ...], origin: Origin, *, utf8: bool) -> str:
    """The whole part, lines ended by CRLF: one block about the message, then one for each recipient."""
    blocks = [_message_fields(message, origin, utf8=utf8)]
    blocks += [_recipient_fields(item, utf8=utf8) for item in items]
    return "\r\n".join("".join(f"{_fold(line)}\r\n" for line in block) for block in blocks)


def status_code(reply: HopReply, notice: Notice) -> str:
    """
    The Status field: the hop's enhanced code where its class fits the notice, else a general one of that class.

    >>> status_code(HopReply(550, "5.1.1", "no such user"), Notice.FAILURE)
    '5.1.1'
    """
    if notice is Notice.FAILURE and 400 <= reply.code < 500:
        return _EXPIRED
    if _STATUS.fullmatch(reply.enhanced) and reply.enhanced[0] == notice.status_class:
        return reply.enhanced
    return f"{notice.status_class}.0.0"


def decode_xtext(text: str) -> str:
    """RFC 3461 4: `+2B` is a plus sign. Anything malformed stays as it is."""
    raw = unquote_to_bytes(_HEX_PAIR.sub(r"%\1", text.replace("%", "%25")))
    return raw.decode("utf-8", "replace")


def _message_fields(message: QueuedMessage, origin: Origin, *, utf8: bool) -> list[str]:
    fields = [f"Reporting-MTA: dns; {host_name(origin.hostname)}"]
    if message.envelope.envid:
        fields.append(f"Original-Envelope-Id: {_text(decode_xtext(message.envelope.envid), utf8=utf8)}")
    fields.append(f"Arrival-Date: {rfc5322_date(message.received_at)}")
    return fields


def _recipient_fields(item: Told, *, utf8: bool) -> list[str]:
    fields = []
    original = _original_recipient(item.recipient.orcpt, utf8=utf8)
    if original:
        fields.append(f"Original-Recipient: {original}")
    fields.append(f"Final-Recipient: {_typed(item.recipient.address.wire, utf8=utf8)}")
    fields.append(f"Action: {item.notice.value}")
    fields.append(f"Status: {status_code(item.reply, item.notice)}")
    if item.reply.said_by_hop:
        fields += _hop_fields(item.reply, utf8=utf8)
    fields.append(f"Last-Attempt-Date: {rfc5322_date(item.at)}")
    if item.notice is Notice.DELAY and item.retry_until is not None:
        fields.append(f"Will-Retry-Until: {rfc5322_date(item.retry_until)}")
    return fields


def _hop_fields(reply: HopReply, *, utf8: bool) -> list[str]:
    fields = []
    host = reply.remote.partition("[")[0]
    if host and reply.remote != "none":
        fields.append(f"Remote-MTA: dns; {host_name(host)}")
    fields.append(f"Diagnostic-Code: smtp; {_text(str(reply), utf8=utf8)}")
    return fields


def _original_recipient(orcpt: str, *, utf8: bool) -> str:
    """ORCPT is `type;xtext` (RFC 3461 4.2), and `type; address` in a notice; utf-8 ones keep their own encoding."""
    kind, semicolon, address = orcpt.partition(";")
    if not semicolon or not _ADDRESS_TYPE.fullmatch(kind):
        return ""
    plain = address if kind.lower() == "utf-8" else decode_xtext(address)
    return f"{kind}; {_text(plain, utf8=utf8)}"


def _typed(address: str, *, utf8: bool) -> str:
    """An address with its type; one that is not ASCII is written in the 7-bit form of RFC 6533 3 where needed."""
    if address.isascii():
        return f"rfc822; {_text(address, utf8=False)}"
    if utf8:
        return f"utf-8; {_text(address, utf8=True)}"
    encoded = "".join(c if c.isascii() and c.isprintable() else f"\\x{{{ord(c):X}}}" for c in address)
    return f"utf-8; {encoded[:_TEXT_LIMIT]}"


def _text(text: str, *, utf8: bool) -> str:
    """Text that is printable already goes out unchanged: an escaped backslash would be another address."""
    if text.isprintable() and (utf8 or text.isascii()):
        return text[:_TEXT_LIMIT]
    return one_line(text, _TEXT_LIMIT) if utf8 else ascii_line(text, _TEXT_LIMIT)


def _fold(line: str) -> str:
    if len(line) <= PREFERRED_LINE:
        return line
    current, *words = line.split(" ")
    lines = []
    for word in words:
        if word and current.strip() and len(current) + len(word) >= PREFERRED_LINE:
            lines.append(current)
            current = ""
        current += f" {word}"
    return "\r\n".join([*lines, current])
