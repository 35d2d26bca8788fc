"""
Envelope addresses: one strict RFC 5321 path parser for everything that enters Sluice.

Guarantees: what is sent onward is exactly the text that was received (`wire`); what is compared is the folded
`key`. Header-style parsers (comments, encoded words, display names) are never applied to an envelope, because
each of them can turn one address into another (CVE-2023-27043).

On failure: `AddressSyntaxError`, never anything else, whatever the input.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

import idna

MAX_PATH = 320
"""Octets between the angle brackets. RFC 5321 4.5.3.1.3 asks for at least 256; list managers' tokens need more."""
MAX_DOMAIN = 255
_REMEMBERED = 4096
"""Addresses, and domains, whose parse is remembered: 4 us and 1 us each, several times per message."""

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
# UTF8-non-ascii (RFC 6531 3.3) without what would break a line or change how it reads in a log (C1 controls, line and
# paragraph separator, directional overrides), and without lone surrogates, which are no characters at all.
_BEYOND = r"\u00a0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\U0010ffff"
_DOT_STRING = re.compile(rf"[{_ATEXT}{_BEYOND}]+(?:\.[{_ATEXT}{_BEYOND}]+)*")
_QUOTED = re.compile(rf'"(?:[\x20\x21\x23-\x5b\x5d-\x7e{_BEYOND}]|\\[\x20-\x7e])+"')
_SOURCE_ROUTE = re.compile(r"(?:@[A-Za-z0-9.\-]+)(?:,@[A-Za-z0-9.\-]+)*:")
_LITERAL = re.compile(r"\[(?:IPv6:(?P<v6>[0-9A-Fa-f:.]+)|(?P<v4>[0-9.]+))\]", re.IGNORECASE | re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?")


class AddressSyntaxError(ValueError):
    """The text is no RFC 5321 mailbox; the message says why, without quoting the text."""


@dataclass(frozen=True, slots=True)
class Address:
    """
    One mailbox of an envelope.

    `wire` is the text as received, without brackets and source route; `local` is the local part unquoted, in lower
    case and in Unicode's composed form, so that one name written in two ways is one key; `domain` is lower case and
    an A-label (or an address literal in brackets, or empty for the bare `postmaster` of RFC 5321 4.5.1).
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


@lru_cache(_REMEMBERED)
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


@lru_cache(_REMEMBERED)
def parse_domain(text: str) -> str:
    """The domain in lower case as an A-label, or an address literal; `AddressSyntaxError` if it is neither."""
    if text.startswith("["):
        return _parse_literal(text)
    if not text or len(text) > MAX_DOMAIN:
        raise AddressSyntaxError("the domain is empty or too long")
    lowered = text.lower()
    if not lowered.isascii():
        lowered = _to_a_label(lowered)
        if len(lowered) > MAX_DOMAIN:
            raise AddressSyntaxError("the domain is too long")
    if any(not _LABEL.fullmatch(label) for label in lowered.split(".")):
        raise AddressSyntaxError("the domain has a malformed label")
    return lowered


def _fold_local(local: str) -> str:
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    local = local.lower()
    return local if local.isascii() else unicodedata.normalize("NFC", local)


def _to_a_label(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise AddressSyntaxError("the domain is not a valid internationalised name") from error


def _parse_literal(text: str) -> str:
    """
    `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3), in one spelling.

    The characters are checked first, because `ipaddress` takes a zone of any characters whatever after a `%`.
    """
    match = _LITERAL.fullmatch(text)
    if match is None:
        raise AddressSyntaxError("the address literal is malformed")
    try:
        if match["v6"]:
            return f"[ipv6:{IPv6Address(match['v6']).compressed}]"
        return f"[{IPv4Address(match['v4'])}]"
    except ValueError as error:
        raise AddressSyntaxError("the address literal is no IP address") from error
