r"""
LDAP filters as text and as values (RFC 4515): parsing, escaping, and judging an entry without asking the server.

Guarantees: pure; `escape` makes any text a literal, so no address can become a wildcard or a second condition. An
entry is judged in three values: None means that only the server can know (a matching rule that is not known here).

On failure: `FilterSyntaxError`, never anything else, whatever the input.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from router.model.dn import DnSyntaxError, parse_dn

DEEPEST = 50
"""Levels of brackets; a filter written by hand has three."""
BIT_AND, BIT_OR = "1.2.840.113556.1.4.803", "1.2.840.113556.1.4.804"
"""Active Directory's matching rules: all of the bits, any of the bits."""

_MUST_ESCAPE = frozenset(b"\\*()\0")
_ATTRIBUTE = r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)(?:;[A-Za-z0-9-]+)*"
_NAME = re.compile(_ATTRIBUTE)
_ITEM = re.compile(
    rf"(?P<name>{_ATTRIBUTE})?(?P<rule>(?::dn)?(?::[A-Za-z0-9.-]+)?:)?(?P<kind>[~<>]?=)(?P<value>.*)", re.DOTALL
)
_ESCAPED = re.compile(rb"\\([0-9a-fA-F]{2})|(\\)|([()\0])")
_SPACES = re.compile(" +")
_SUPERIORS = {"inetorgperson": ("organizationalperson", "person"), "organizationalperson": ("person",)}
"""Classes that servers count in though entries need not name them (RFC 2798, RFC 4519)."""

Attributes = Mapping[str, tuple[bytes, ...]]


class FilterSyntaxError(ValueError):
    """The text is no filter; the message says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One comparison. `parts` are the literal pieces between wildcards: one piece is equality, `('', '')` presence."""

    name: str
    kind: str
    rule: str
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Combined:
    """`&`, `|` or `!` over others."""

    operator: str
    inner: "tuple[Filter, ...]"


Filter = Item | Combined


def escape(text: str) -> str:
    r"""
    The text as a literal of a filter (RFC 4515 3): whatever is special or not printable ASCII becomes `\xx`.

    Spaces at either end are escaped too, because servers and libraries strip them.

    >>> escape("a)(uid=*")
    'a\\29\\28uid=\\2a'
    """
    raw = text.encode("utf-8", "backslashreplace")
    start, end = len(raw) - len(raw.lstrip(b" ")), len(raw.rstrip(b" "))
    return "".join(_escaped(octet, inside=start <= place < end) for place, octet in enumerate(raw))


def _escaped(octet: int, *, inside: bool) -> str:
    plain = 0x20 < octet < 0x7F or (octet == 0x20 and inside)
    return chr(octet) if plain and octet not in _MUST_ESCAPE else f"\\{octet:02x}"


def is_attribute_name(text: str) -> bool:
    """Whether the text is an attribute description (RFC 4512 2.5)."""
    return _NAME.fullmatch(text) is not None


def parse_filter(text: str) -> Filter:
    """The filter, with its outermost brackets. Raises `FilterSyntaxError`."""
    found, rest = _parse(text, 0, 0)
    if rest != len(text):
        raise FilterSyntaxError("something follows the closing bracket")
    return found


def names_in(wanted: Filter) -> Iterator[str]:
    """The attributes that a filter looks at."""
    if isinstance(wanted, Item):
        if wanted.name:
            yield wanted.name
    else:
        for one in wanted.inner:
            yield from names_in(one)


def matches(wanted: Filter, attributes: Attributes) -> bool | None:
    """Whether an entry's attributes (names in lower case) match; None when that cannot be told here."""
    if isinstance(wanted, Item):
        return _item_matches(wanted, attributes)
    found = [matches(one, attributes) for one in wanted.inner]
    if wanted.operator == "!":
        return None if found[0] is None else not found[0]
    decisive = wanted.operator == "|"
    if decisive in found:
        return decisive
    return None if None in found else not decisive


def _parse(text: str, at: int, depth: int) -> tuple[Filter, int]:
    if depth > DEEPEST:
        raise FilterSyntaxError("the brackets are nested too deeply")
    if not text.startswith("(", at):
        raise FilterSyntaxError("an opening bracket is missing")
    operator = text[at + 1 : at + 2]
    if operator and operator in "&|!":
        return _parse_combined(text, at + 2, operator, depth)
    end = text.find(")", at)
    if end < 0:
        raise FilterSyntaxError("a closing bracket is missing")
    return _parse_item(text[at + 1 : end]), end + 1


def _parse_combined(text: str, at: int, operator: str, depth: int) -> tuple[Filter, int]:
    inner: list[Filter] = []
    while text.startswith("(", at):
        one, at = _parse(text, at, depth + 1)
        inner.append(one)
    if not text.startswith(")", at):
        raise FilterSyntaxError("a bracket is missing")
    if not inner or (operator == "!" and len(inner) > 1):
        raise FilterSyntaxError(f"{operator} has nothing, or too much, to go with it")
    return Combined(operator, tuple(inner)), at + 1


def _parse_item(text: str) -> Item:
    found = _ITEM.fullmatch(text)
    if found is None:
        raise FilterSyntaxError("a condition is not attribute=value")
    name, rule, kind = found["name"] or "", (found["rule"] or "").strip(":"), found["kind"]
    if not name and not rule:
        raise FilterSyntaxError("a condition has no attribute")
    if found["rule"] and kind != "=":
        raise FilterSyntaxError("a matching rule goes with := only")
    value = found["value"]
    parts = value.split("*") if kind == "=" and not rule else [value]
    return Item(name, kind, rule, tuple(_unescaped(part) for part in parts))


def _unescaped(text: str) -> bytes:
    def replace(found: re.Match[bytes]) -> bytes:
        if found[1] is None:
            raise FilterSyntaxError("a backslash, bracket or NUL is not written as two hexadecimal digits")
        return bytes.fromhex(found[1].decode("ascii"))

    return _ESCAPED.sub(replace, text.encode("utf-8", "surrogateescape"))


def _item_matches(item: Item, attributes: Attributes) -> bool | None:
    values = [_folded(value) for value in attributes.get(item.name.lower(), ())]
    if item.rule:
        return _bits_match(item, values)
    if item.parts == (b"", b""):
        return bool(values)
    wanted = [_folded(part) for part in item.parts]
    if item.kind in {">=", "<="}:
        return any(_in_order(wanted[0], value, item.kind) for value in values)
    if len(wanted) > 1:
        pattern = re.compile(".*".join(map(re.escape, wanted)), re.DOTALL)
        return any(pattern.fullmatch(value) for value in values)
    return wanted[0] in _implied(item.name.lower(), values)


def _implied(name: str, values: list[str]) -> list[str]:
    """What a server compares with besides the values themselves."""
    if name == "objectclass":
        return [*values, *(superior for value in values for superior in _SUPERIORS.get(value, ()))]
    if name == "objectcategory":  # Active Directory takes the class's name for its DN
        return [*values, *(first for value in values for first in _first_value(value))]
    return values


def _first_value(dn: str) -> list[str]:
    try:
        return [value.lower() for _, value in parse_dn(dn)[0]]
    except (DnSyntaxError, IndexError):
        return []


def _bits_match(item: Item, values: list[str]) -> bool | None:
    if item.rule not in {BIT_AND, BIT_OR}:
        return None
    try:
        bits, numbers = int(item.parts[0]), [int(value) for value in values]
    except ValueError:
        return None
    if item.rule == BIT_AND:
        return any(number & bits == bits for number in numbers)
    return any(number & bits for number in numbers)


def _in_order(wanted: str, value: str, kind: str) -> bool:
    pair = (int(value), int(wanted)) if _is_number(value) and _is_number(wanted) else (value, wanted)
    return pair[0] >= pair[1] if kind == ">=" else pair[0] <= pair[1]  # type: ignore[operator]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 40


def _folded(value: bytes) -> str:
    """As caseIgnoreMatch compares (RFC 4517 4.2.11), near enough: case and runs of spaces do not count."""
    text = value.decode("utf-8", "surrogateescape").strip(" ").lower()
    return _SPACES.sub(" ", text) if "  " in text else text
