"""Small pieces that all tables share: slices that fit into one statement, records kept as JSON text, names and text."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, bindparam

Item = TypeVar("Item")

SLICE = 500
RUN = "run"
"""Bound parameters of one IN list: SQLite allows 32,766 since 3.32, older builds 999."""
# Built once: `json.dumps` builds one for each call with other than its own settings.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def slices(items: Sequence[Item], size: int = SLICE) -> Iterator[Sequence[Item]]:
    """The items in runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def in_run(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """`column` is one of the values given as `RUN`: for statements built once and executed for many runs."""
    return column.in_(bindparam(RUN, expanding=True))


def domain_of(address: str) -> str:
    """The domain of an address key."""
    return address.rpartition("@")[2]


def storable(text: str) -> str:
    """Text from outside as every database takes it: no NUL, no lone surrogates; they are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys: equal records have equal text."""
    return _ENCODER.encode(value)


def from_json(text: str) -> Any:
    """What `to_json` wrote; None for an empty or damaged field, which must not stop a command that lists rows."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None
