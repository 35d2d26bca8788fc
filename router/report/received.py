"""
The one Received field that Sluice puts on top of a message, written at delivery with the time of receipt.

    Received: from HELO (RDNS [IP])
    <TAB>by HOST (Sluice) with PROTO id QID
    <TAB>(mark TOKEN TOKEN)
    <TAB>for <addr>; DATE

Without marks and without `for`, the `;` ends the clause before.
Guarantees: a well-formed field of RFC 5321 4.4 whatever the client said; no line over 998 octets, and none over 78
but for long names; text of the client holds no parentheses, so that neither `(Sluice)` nor a mark can be forged by a
HELO; the same inputs give the same octets. A message of our own (a client without address) has no `from` clause and
says `with local`. Never fails, except for a loop mark that is none, which would be a mistake of ours.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from math import floor
from time import gmtime

from router.model.envelope import QueuedMessage
from router.report.escape import host_name

PREFERRED_LINE = 78
"""Octets without CRLF, RFC 5322 2.1.1."""

_PROTOCOL = re.compile(r"[A-Z0-9]{1,20}")
_TOKEN = re.compile(r"[A-Za-z0-9_\-]{1,200}")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def received_field(
    message: QueuedMessage, hostname: str, recipient_for: str | None = None, tokens: Sequence[str] = ()
) -> bytes:
    """
    The field with its CRLF.

    `recipient_for` is given only when the transaction has a single recipient, so that no recipient learns of
    another (RFC 5321 7.6). `tokens` are loop marks. Raises `ValueError` for a token with characters of other kinds
    than letters, digits, `_` and `-`.
    """
    client = message.envelope.client
    came_from, protocol = _origin(client.address, client.name, client.helo, client.protocol)
    lines = [f"Received: {came_from}by {hostname} (Sluice) with {protocol} id {message.queue_id}"]
    if tokens:
        lines.append(_mark_clause(tokens))
    date = rfc5322_date(message.received_at)
    if recipient_for is not None and _nameable(recipient_for, utf8=message.envelope.smtputf8):
        fold = " " if len(recipient_for) + len(date) + 9 <= PREFERRED_LINE else "\r\n\t"
        lines.append(f"for <{recipient_for}>;{fold}{date}")
    else:
        lines[-1] += ";"
        lines.append(date)
    return ("\r\n\t".join(lines) + "\r\n").encode("utf-8", "replace")


def rfc5322_date(seconds: float) -> str:
    """
    A wall-clock time as RFC 5322 3.3 date-time in UTC.

    >>> rfc5322_date(0)
    'Thu, 01 Jan 1970 00:00:00 +0000'
    """
    return _date(floor(seconds))


@lru_cache(maxsize=64)
def _date(second: int) -> str:
    t = gmtime(second)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"
    )


@lru_cache(maxsize=256)
def _origin(address: str, name: str, said: str, protocol: str) -> tuple[str, str]:
    """The `from` clause and the protocol; a client sends many messages, on one connection or on many."""
    if not address:
        return "", "local"
    helo = host_name(said)
    peer = f"({host_name(name)} [{_literal(address)}])"
    fold = " " if len(helo) + len(peer) + 16 <= PREFERRED_LINE else "\r\n\t"
    return f"from {helo}{fold}{peer}\r\n\t", protocol if _PROTOCOL.fullmatch(protocol) else "SMTP"


def _literal(address: str) -> str:
    """RFC 5321 4.1.3, without the brackets."""
    if ":" not in address:
        return host_name(address)
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return host_name(address)
    return f"IPv6:{parsed.compressed.partition('%')[0]}"


def _mark_clause(tokens: Sequence[str]) -> str:
    text, column = "(mark", 14
    for token in tokens:
        if not _TOKEN.fullmatch(token):
            raise ValueError("a loop mark has a character that marks do not have")
        column += len(token) + 1
        if column > PREFERRED_LINE:
            text, column = f"{text}\r\n\t{token}", 2 + len(token)
        else:
            text = f"{text} {token}"
    return text + ")"


def _nameable(recipient: str, *, utf8: bool) -> bool:
    return recipient.isprintable() and (utf8 or recipient.isascii())
