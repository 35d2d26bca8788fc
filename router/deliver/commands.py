"""
The MAIL and RCPT lines, byte-exact and safe to write.

Guarantees: what stands between the brackets is the text of the parcel, octet for octet; no line carries a control
character, and no address can close its bracket and go on as a parameter (TX5). Only parameters the hop offered are
used. On an address that cannot be written so, `UnsafeText`: the caller defers that recipient, nothing is sent.
"""

import re
from functools import lru_cache

from router.deliver.extensions import Extensions
from router.model.parcel import Parcel, ParcelRecipient

_PATH = re.compile(r'(?:"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"|[^\x00-\x20\x7f<>"\\])*')
_PARAMETER = re.compile(r"[^\x00-\x20\x7f]+")


class UnsafeText(ValueError):
    """The address would break out of its brackets or its line."""


def mail_line(parcel: Parcel, offers: Extensions) -> bytes:
    """`MAIL FROM:<...>` with SIZE, BODY, SMTPUTF8, RET and ENVID as offered. Raises `UnsafeText`."""
    words = [b"MAIL FROM:<" + safe_path(parcel.sender) + b">"]
    if offers.size:
        words.append(b"SIZE=%d" % parcel.size)
    if parcel.body_type and offers.eight_bit:
        words += _given(b"BODY=", parcel.body_type)
    # RFC 6531 3.4: an address alone asks for it, too, such as one that an ASCII message was forwarded to.
    if offers.smtputf8 and (parcel.smtputf8 or not all(one.wire.isascii() for one in parcel.recipients)):
        words.append(b"SMTPUTF8")
    if offers.dsn:
        words += _given(b"RET=", parcel.ret) + _given(b"ENVID=", parcel.envid)
    return b" ".join(words) + b"\r\n"


def rcpt_line(recipient: ParcelRecipient, offers: Extensions) -> bytes:
    """`RCPT TO:<...>` with NOTIFY and ORCPT if DSN is offered (RFC 3461 4.1, 4.2). Raises `UnsafeText`."""
    line = b"RCPT TO:<" + safe_path(recipient.wire) + b">"
    if offers.dsn and (recipient.notify or recipient.orcpt):
        # An ORCPT in UTF-8 (RFC 6533 3) may go only where SMTPUTF8 is offered.
        orcpt = recipient.orcpt if offers.smtputf8 or recipient.orcpt.isascii() else ""
        line = b" ".join([line, *_given(b"NOTIFY=", recipient.notify), *_given(b"ORCPT=", orcpt)])
    return line + b"\r\n"


@lru_cache(maxsize=2048)
def safe_path(text: str) -> bytes:
    """The octets between the brackets. Raises `UnsafeText`."""
    if _PATH.fullmatch(text) is None:
        raise UnsafeText("the address cannot be written between brackets")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UnsafeText("the address has no octets") from error


def _given(keyword: bytes, value: str) -> list[bytes]:
    """The parameter if it was given. One that is damaged is left out: it must not cost the message."""
    return [keyword + value.encode("utf-8", "replace")] if value and _PARAMETER.fullmatch(value) else []
