"""
What a next hop offers in its EHLO or LHLO reply (RFC 5321 4.1.1.1).

Guarantees: unknown or malformed keywords are ignored; an offer that cannot be read counts as not made.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extensions:
    """The offers that matter to a transaction. `size_limit` is in octets, 0 when none was stated (RFC 1870 4)."""

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    starttls: bool = False
    size: bool = False
    size_limit: int = 0


def parse_extensions(text: bytes) -> Extensions:
    """The extensions of an EHLO reply's text; its first line is the host's name and no keyword."""
    offers: dict[str, str] = {}
    for line in text.split(b"\n")[1:]:
        keyword, _, value = line.decode("ascii", "replace").strip().partition(" ")
        offers[keyword.upper()] = value.strip()
    limit = offers.get("SIZE", "")
    return Extensions(
        pipelining="PIPELINING" in offers,
        eight_bit="8BITMIME" in offers,
        smtputf8="SMTPUTF8" in offers,
        dsn="DSN" in offers,
        starttls="STARTTLS" in offers,
        size="SIZE" in offers,
        size_limit=int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 20 else 0,
    )


def announced_name(text: bytes) -> str:
    """The host name at the start of a greeting or EHLO reply, in lower case; '' when there is none."""
    words = text.split(b"\n", 1)[0].split(maxsplit=1)
    return words[0].decode("ascii", "replace").lower().rstrip(".") if words else ""
