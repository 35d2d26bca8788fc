r"""
Distinguished names (RFC 4514), only as far as they are read here: syntax, attribute and value of each part.

Guarantees: pure. A DN is never compared or written anew: what goes back to a server is what came from it.

On failure: `DnSyntaxError`, never anything else, whatever the input.
"""

import re

_KEY = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)")
_HEX = re.compile(r"#(?:[0-9a-fA-F]{2})+")
_PAIR = re.compile(rb'\\(?:([0-9a-fA-F]{2})|([ "#+,;<=>\\]))|(\\)')

Rdn = tuple[tuple[str, str], ...]
"""One part: attribute (lower case) and value, several of them where `+` joins them."""


class DnSyntaxError(ValueError):
    """The text is no distinguished name; the message says why."""


def parse_dn(text: str) -> tuple[Rdn, ...]:
    r"""
    The parts, the entry's own first; none for the empty DN. Raises `DnSyntaxError`.

    >>> parse_dn("cn=Doe\\, John,dc=example")
    ((('cn', 'Doe, John'),), (('dc', 'example'),))
    """
    if "\0" in text:
        raise DnSyntaxError("it has a NUL")
    if not text.strip(" "):
        return ()
    return tuple(tuple(_attribute_and_value(piece) for piece in _split(part, "+")) for part in _split(text, ",;"))


def _split(text: str, separators: str) -> list[str]:
    """At separators that are neither escaped nor (as RFC 2253 allowed) in quotes."""
    pieces, begin, at, quoted = [], 0, 0, False
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif character == '"':
            quoted = not quoted
        elif character in separators and not quoted:
            pieces.append(text[begin:at])
            begin = at + 1
        at += 1
    if quoted:
        raise DnSyntaxError("a quote is not closed")
    return [*pieces, text[begin:]]


def _attribute_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name = name.strip(" ")
    if not equals or not _KEY.fullmatch(name):
        raise DnSyntaxError("a part is not attribute=value")
    return name.lower(), _value(value.strip(" ") if not value.rstrip(" ").endswith("\\") else value.lstrip(" "))


def _value(text: str) -> str:
    if text.startswith("#"):
        if not _HEX.fullmatch(text):
            raise DnSyntaxError("# is not followed by pairs of hexadecimal digits")
        return text
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        text = text[1:-1]

    def replace(found: re.Match[bytes]) -> bytes:
        if found[3]:
            raise DnSyntaxError("a backslash stands before nothing that needs one")
        return bytes.fromhex(found[1].decode("ascii")) if found[1] else found[2]

    return _PAIR.sub(replace, text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
