"""
A search as octets (RFC 4511 4.5.1), and an answer to it as entries.

ldap3 can do both. It makes a tree of objects of each request, and a text of that tree again, and of each entry two
dictionaries; that took four fifths of the processor time of a search for a few people.

Guarantees: pure. What is sent is what ldap3 would send; reading is left to its decoder.

On failure: `FilterSyntaxError` or another `ValueError` for a question that cannot be written; whatever the decoder
raises for octets that are no answer.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ldap3.utils.asn1 import decode_message_fast, decode_sequence, ldap_result_to_dict_fast
from ldap3.utils.conv import to_unicode

from router.model.directory import RawEntry
from router.model.ldap_filter import Combined, Filter, Item, parse_filter

PAGED = "1.2.840.113556.1.4.319"

_ENTRY, _DONE, _REFERENCE, _INTERMEDIATE = 4, 5, 19, 25
"""Tags of what comes back (RFC 4511 4.5.2, 4.13)."""
_NEVER_ALIASES, _NO_LIMIT, _ONE, _TREE = 0, 0, 0, 2
_OPERATORS = {"&": 0xA0, "|": 0xA1, "!": 0xA2}
_COMPARISONS = {"=": 0xA3, ">=": 0xA5, "<=": 0xA6, "~=": 0xA8}
_FALSE, _TRUE = b"\x01\x01\x00", b"\x01\x01\xff"

Control = tuple[str, bool, bytes | None]
"""Its name, whether a server must know it, and its value."""


@dataclass(frozen=True, slots=True)
class Question:
    """A search. `filter` is RFC 4515 text, its values escaped. `whole`: the tree below `base`, or only that entry."""

    base: str
    filter: str
    attributes: tuple[str, ...]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """The last message of an answer: the result's code and text, and the cookie of a paged search."""

    code: int
    text: str
    cookie: bytes


class Elsewhere:
    """A part of what was asked for is on another server."""


def search_message(number: int, question: Question, seconds: int, controls: Sequence[Control] = ()) -> bytes:
    """The message with that number; the server may take so many seconds. Raises `ValueError`."""
    request = _sequence(
        0x63,
        _octets(question.base.encode()),
        _number(0x0A, _TREE if question.whole else _ONE),
        _number(0x0A, _NEVER_ALIASES),
        _number(0x02, _NO_LIMIT),
        _number(0x02, seconds),
        _FALSE,
        _filter(parse_filter(question.filter)),
        _sequence(0x30, *(_octets(name.encode()) for name in question.attributes)),
    )
    tail = [_sequence(0xA0, *map(_control, controls))] if controls else []
    return _sequence(0x30, _number(0x02, number), request, *tail)


def paging(size: int, cookie: bytes) -> Control:
    """At most so many entries, from where the cookie says (RFC 2696); a server that cannot must refuse."""
    return PAGED, True, _sequence(0x30, _number(0x02, size), _octets(cookie))


def told_by(message: bytes, number: int) -> RawEntry | Elsewhere | End | None:
    """What one message says to the request of that number; None for what is of no account. Raises any error."""
    read = decode_message_fast(message)
    kind, payload = read["protocolOp"], read["payload"]
    if read["messageID"] != number:
        raise ValueError(
            "the server ends the session" if read["messageID"] == 0 else "an answer to no question of ours"
        )
    if kind == _ENTRY:
        return _entry(payload)
    if kind == _DONE:
        result = ldap_result_to_dict_fast(payload)
        return End(result["result"], result["message"] or "", _cookie(read["controls"]))
    if kind == _REFERENCE:
        return Elsewhere()
    if kind == _INTERMEDIATE:
        return None
    raise ValueError("an answer of another kind than the question")


def _entry(payload: Sequence[Any]) -> RawEntry:
    """
    As it was sent, but with names in lower case.

    An attribute too long for one answer comes as `name;range=0-1499` (Active Directory): its beginning, under its name.
    """
    attributes: dict[str, tuple[bytes, ...]] = {}
    for _, _, _, (given, values) in payload[1][3]:
        name = to_unicode(given[3], from_server=True).lower()
        plain = name.partition(";range=")[0]
        attributes[plain] = attributes.get(plain, ()) + tuple(value[3] for value in values[3])
        if plain != name:
            attributes[name] = ()  # tells that it is a part
    return RawEntry(to_unicode(payload[0][3], from_server=True), attributes)


def _cookie(controls: Iterable[Any] | None) -> bytes:
    for _, _, _, control in controls or ():
        if control[0][3] == PAGED.encode():
            value = control[-1][3]
            (_, _, _, (_, cookie)), *_ = decode_sequence(value, 0, len(value))
            return bytes(cookie[3])
    return b""


def _control(control: Control) -> bytes:
    name, must, value = control
    parts = [_octets(name.encode()), *([_TRUE] if must else []), *([] if value is None else [_octets(value)])]
    return _sequence(0x30, *parts)


def _filter(wanted: Filter) -> bytes:
    if isinstance(wanted, Combined):
        return _sequence(_OPERATORS[wanted.operator], *map(_filter, wanted.inner))
    name = wanted.name.encode()
    if wanted.rule:
        return _sequence(0xA9, *_extensible(wanted))
    if len(wanted.parts) == 1:
        return _sequence(_COMPARISONS[wanted.kind], _octets(name), _octets(wanted.parts[0]))
    pieces = list(_pieces(wanted.parts))
    if not pieces:
        return _tagged(0x87, name)
    return _sequence(0xA4, _octets(name), _sequence(0x30, *pieces))


def _extensible(wanted: Item) -> Iterator[bytes]:
    words = wanted.rule.split(":")
    with_dn = words[0] == "dn"
    if words[with_dn:]:
        yield _tagged(0x81, words[-1].encode())
    if wanted.name:
        yield _tagged(0x82, wanted.name.encode())
    yield _tagged(0x83, wanted.parts[0])
    if with_dn:
        yield _tagged(0x84, b"\xff")


def _pieces(parts: Sequence[bytes]) -> Iterator[bytes]:
    """What stands at the beginning, anywhere, and at the end; nothing at all for a presence."""
    last = len(parts) - 1
    for place, part in enumerate(parts):
        if part:
            yield _tagged(0x80 if place == 0 else 0x82 if place == last else 0x81, part)


def _sequence(tag: int, *parts: bytes) -> bytes:
    return _tagged(tag, b"".join(parts))


def _octets(value: bytes) -> bytes:
    return _tagged(0x04, value)


def _number(tag: int, value: int) -> bytes:
    return _tagged(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _tagged(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value
