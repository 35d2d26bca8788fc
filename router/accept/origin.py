"""
Where a connection really comes from: the PROXY protocol and XCLIENT, spoken by hosts in `relays` only.

Guarantees: a value is taken only when it parses; an address that the other side declares unknown is unknown here,
and so never trusted. XCLIENT as Postfix documents it (attribute values are xtext).
On failure: `Refused` for XCLIENT, None for a PROXY header that cannot be used; the caller closes the connection.
"""

import re
from dataclasses import dataclass, replace

from aiosmtpd.proxy_protocol import AF, V2_CMD, get_proxy

from router.accept import replies
from router.accept.inbox import Inbox
from router.accept.policy import fold_address
from router.accept.replies import Refused
from router.accept.sanitise import helo_name

XCLIENT_KEYWORD = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"

_UNKNOWN_VALUES = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_IGNORED = frozenset({"LOGIN", "DESTADDR", "DESTPORT"})
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x7e]|\+[0-9A-Fa-f]{2})*")
_HEX = re.compile(r"\+([0-9A-Fa-f]{2})")
_NAME = re.compile(r"[A-Za-z0-9._\-]{1,255}")


@dataclass(frozen=True, slots=True)
class Origin:
    """The client to speak of. `address` is '' when unknown; `helo` and `protocol` are '' unless a relay gave them."""

    address: str
    port: int = 0
    name: str = "unknown"
    helo: str = ""
    protocol: str = ""


async def read_proxy(inbox: Inbox, peer: Origin) -> Origin | None:
    """The origin that a PROXY header (version 1 or 2) names; the peer itself for UNKNOWN and LOCAL; None if bad."""
    data = await get_proxy(inbox)
    if not data.valid:
        return None
    if data.command == V2_CMD.LOCAL or data.family == AF.UNSPEC:
        return peer
    address = fold_address(str(data.src_addr))
    if data.family not in {AF.INET, AF.INET6} or address is None:
        return None
    return Origin(str(address), data.src_port or 0)


def apply_xclient(argument: bytes, origin: Origin) -> Origin:
    """The origin after `XCLIENT argument`. Raises `Refused`."""
    try:
        words = argument.decode("ascii").split()
    except UnicodeDecodeError:
        raise Refused(replies.BAD_ARGUMENT) from None
    if not words:
        raise Refused(replies.BAD_ARGUMENT)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not _XTEXT.fullmatch(value):
            raise Refused(replies.BAD_ARGUMENT)
        text = _HEX.sub(lambda match: chr(int(match[1], 16)), value)
        origin = _with_attribute(origin, name.upper(), "" if text.upper() in _UNKNOWN_VALUES else text)
    return origin


def _with_attribute(origin: Origin, name: str, value: str) -> Origin:
    match name:
        case "ADDR":
            return replace(origin, address=_address(value))
        case "NAME":
            return replace(origin, name=value if _NAME.fullmatch(value) else "unknown")
        case "PORT":
            return replace(origin, port=_port(value))
        case "HELO":
            return replace(origin, helo=helo_name(value.encode("utf-8")))
        case "PROTO" if value.upper() in {"", "SMTP", "ESMTP"}:
            return replace(origin, protocol=value.upper())
        case _ if name in _IGNORED:
            return origin
    raise Refused(replies.BAD_ARGUMENT)


def _address(value: str) -> str:
    if not value:
        return ""
    address = fold_address(value[5:] if value[:5].upper() == "IPV6:" else value)
    if address is None:
        raise Refused(replies.BAD_ARGUMENT)
    return str(address)


def _port(value: str) -> int:
    if not value:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 65535):
        raise Refused(replies.BAD_ARGUMENT)
    return int(value)
