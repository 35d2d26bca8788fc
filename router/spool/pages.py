"""
Rows straight from the pages of an SQLite file, without SQLite: what is left to read when it refuses a damaged database.

Each leaf page of a table is understood by itself, so a destroyed page costs its own rows and no others, and neither the
header of the file nor an inner page is needed. Rows are recognised by how many columns they have; whether one is what
was written is for its checksum to say.

Guarantees: nothing here is executed or trusted, memory is bounded by a row. On failure: what makes no sense is left
out; `Row.values` is None for a row of which only the number can be read.

Format: https://www.sqlite.org/fileformat2.html
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from router.spool.schema import PAGE_SIZE

Value = int | float | str | bytes | None
Fetch = Callable[[int], bytes | None]
"""A page by number, for what a row has beyond its own page."""

_TABLE_LEAF, _INDEX_LEAF = 13, 10
_FILE_HEADER = 100
_LONGEST_ROW = 1 << 24
_FREE = 2
_PER_MAP = PAGE_SIZE // 5
_FIXED = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
_LARGEST = {_TABLE_LEAF: PAGE_SIZE - 35, _INDEX_LEAF: (PAGE_SIZE - 12) * 64 // 255 - 23}
_SMALLEST = (PAGE_SIZE - 12) * 32 // 255 - 23


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its number (0 in a table without), its values, and where it lies in its page."""

    number: int
    values: tuple[Value, ...] | None
    start: int
    end: int


class _Nonsense(Exception):
    """The octets are no row."""


def rows(page: bytes, fetch: Fetch, *, first: bool = False) -> Iterator[Row]:
    """All rows of a page that is a leaf; none of any other page. `first`: it is page 1 of its file."""
    start = _FILE_HEADER if first else 0
    kind = page[start] if len(page) == PAGE_SIZE else 0
    if kind not in _LARGEST:
        return
    (count,) = struct.unpack_from(">H", page, start + 3)
    for place in range(min(count, (PAGE_SIZE - start - 8) // 2)):
        (offset,) = struct.unpack_from(">H", page, start + 8 + 2 * place)
        try:
            yield _row(page, offset, kind, fetch)
        except (_Nonsense, IndexError, struct.error):
            continue


def is_leaf(page: bytes, *, first: bool = False) -> bool:
    """Whether it says that it is a leaf."""
    return len(page) == PAGE_SIZE and page[_FILE_HEADER if first else 0] in _LARGEST


def map_place(number: int) -> tuple[int, int]:
    """Number of the page that says what page `number` is used for, and where in it."""
    found = 2 + (number - 2) // (_PER_MAP + 1) * (_PER_MAP + 1)
    return found, 5 * (number - found - 1)


def is_free(number: int, fetch: Fetch) -> bool:
    """Whether a page is marked as not in use (`auto_vacuum` keeps a map): what it holds is deleted, or elsewhere."""
    if number < 3:
        return False
    where, place = map_place(number)
    page = fetch(where)
    return where != number and page is not None and page[place] == _FREE


def _row(page: bytes, offset: int, kind: int, fetch: Fetch) -> Row:
    start = offset
    length, offset = _varint(page, offset)
    number = 0
    if kind == _TABLE_LEAF:
        number, offset = _varint(page, offset)
        number -= (number >> 63) << 64
    here = _local(length, _LARGEST[kind])
    if length > _LONGEST_ROW or offset + here > len(page):
        raise _Nonsense
    end = offset + here + (4 if here < length else 0)
    try:
        payload = _payload(page, offset, here, length, fetch)
        return Row(number, _values(payload), start, end)
    except (_Nonsense, IndexError, struct.error):
        return Row(number, None, start, end)


def _local(length: int, largest: int) -> int:
    """How much of a row is in its own page."""
    if length <= largest:
        return length
    surplus = _SMALLEST + (length - _SMALLEST) % (PAGE_SIZE - 4)
    return surplus if surplus <= largest else _SMALLEST


def _payload(page: bytes, offset: int, here: int, length: int, fetch: Fetch) -> bytes:
    parts, left = [page[offset : offset + here]], length - here
    following = struct.unpack_from(">I", page, offset + here)[0] if left else 0
    while left > 0:
        more = fetch(following) if following else None
        if more is None:
            raise _Nonsense
        part = more[4 : 4 + left]
        parts.append(part)
        left -= len(part)
        following = struct.unpack_from(">I", more, 0)[0]
    return b"".join(parts)


def _values(payload: bytes) -> tuple[Value, ...]:
    header, offset = _varint(payload, 0)
    kinds = []
    while offset < header:
        kind, offset = _varint(payload, offset)
        kinds.append(kind)
    found: list[Value] = []
    for kind in kinds:
        size = _FIXED.get(kind, (kind - 12) // 2)
        if size < 0 or offset + size > len(payload):
            raise _Nonsense
        found.append(_value(kind, payload[offset : offset + size]))
        offset += size
    if offset != len(payload):
        raise _Nonsense
    return tuple(found)


def _value(kind: int, raw: bytes) -> Value:
    if kind == 0:
        return None
    if kind <= 6:
        return int.from_bytes(raw, "big", signed=True)
    if kind == 7:
        return float(struct.unpack(">d", raw)[0])
    if kind in {8, 9}:
        return kind - 8
    return raw.decode("utf-8", "surrogateescape") if kind % 2 else raw


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """A number of variable length, and where it ends. Raises `IndexError`."""
    value = 0
    for place in range(8):
        octet = data[offset + place]
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, offset + place + 1
    return value << 8 | data[offset + 8], offset + 9
