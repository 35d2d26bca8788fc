"""
Envelope addresses: one strict RFC 5321 path parser for everything that enters Sluice.

Guarantees: what is sent onward is exactly the text that was received (`wire`); what is compared is the folded
`key`. Header-style parsers (comments, encoded words, display names) are never applied to an envelope, because
each of them can turn one address into another (CVE-2023-27043).

On failure: `AddressSyntaxError`, never anything else, whatever the input.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

import idna

MAX_PATH = 320
"""Octets between the angle brackets. RFC 5321 4.5.3.1.3 asks for at least 256; list managers' tokens need more."""
MAX_DOMAIN = 255

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_STRING = re.compile(rf"[{_ATEXT}\u0080-\U0010ffff]+(?:\.[{_ATEXT}\u0080-\U0010ffff]+)*")
_QUOTED = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*"')
_SOURCE_ROUTE = re.compile(r"(?:@[A-Za-z0-9.\-]+)(?:,@[A-Za-z0-9.\-]+)*:")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?")


class AddressSyntaxError(ValueError):
    """The text is no RFC 5321 mailbox; the message says why, without quoting the text."""


@dataclass(frozen=True, slots=True)
class Address:
    """
    One mailbox of an envelope.

    `wire` is the text as received, without brackets and source route; `local` is the local part unquoted and in
    lower case; `domain` is lower case and an A-label (or an address literal in brackets, or empty for the bare
    `postmaster` of RFC 5321 4.5.1).
    """

    wire: str
    local: str
    domain: str

    @property
    def key(self) -> str:
        """What two spellings of one address have in common: `local@domain`."""
        return f"{self.local}@{self.domain}"

    @property
    def ascii(self) -> bool:
        """Whether the address can travel without SMTPUTF8 (RFC 6531)."""
        return self.wire.isascii()

    def __str__(self) -> str:
        return self.wire


def parse_address(text: str) -> Address:
    """
    Parse `local@domain` (no brackets). Raises `AddressSyntaxError`.

    >>> parse_address("John.Doe@Example.EDU").key
    'john.doe@example.edu'
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PATH:
        raise AddressSyntaxError("the address is too long")
    match = _QUOTED.match(text) or _DOT_STRING.match(text)
    if match is None:
        raise AddressSyntaxError("the local part is not a dot-string or quoted string")
    local, rest = match.group(), text[match.end() :]
    if not rest:
        if local.lower() == "postmaster":
            return Address(text, "postmaster", "")
        raise AddressSyntaxError("the domain is missing")
    if not rest.startswith("@"):
        raise AddressSyntaxError("a character is not allowed in the local part")
    return Address(text, _fold_local(local), parse_domain(rest[1:]))


def parse_path(text: str) -> Address | None:
    """
    Parse the path of MAIL or RCPT with its brackets; `None` is the null path `<>` (RFC 5321 4.1.2).

    A source route is accepted and ignored, as RFC 5321 appendix C asks. Raises `AddressSyntaxError`.
    """
    if not (text.startswith("<") and text.endswith(">")):
        raise AddressSyntaxError("the path is not in angle brackets")
    inner = text[1:-1]
    if not inner:
        return None
    if inner.startswith("@"):
        route = _SOURCE_ROUTE.match(inner)
        if route is None:
            raise AddressSyntaxError("the source route is malformed")
        inner = inner[route.end() :]
    return parse_address(inner)


def parse_domain(text: str) -> str:
    """The domain in lower case as an A-label, or an address literal; `AddressSyntaxError` if it is neither."""
    if text.startswith("["):
        return _parse_literal(text)
    if not text or len(text) > MAX_DOMAIN:
        raise AddressSyntaxError("the domain is empty or too long")
    lowered = text.lower()
    if not lowered.isascii():
        lowered = _to_a_label(lowered)
    if any(not _LABEL.fullmatch(label) for label in lowered.split(".")):
        raise AddressSyntaxError("the domain has a malformed label")
    return lowered


def _fold_local(local: str) -> str:
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    return local.lower()


def _to_a_label(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise AddressSyntaxError("the domain is not a valid internationalised name") from error


def _parse_literal(text: str) -> str:
    if not text.endswith("]"):
        raise AddressSyntaxError("the address literal is not closed")
    inner = text[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[ipv6:{IPv6Address(inner[5:]).compressed}]"
        return f"[{ip_address(inner)}]"
    except ValueError as error:
        raise AddressSyntaxError("the address literal is no IP address") from error
