"""
Journal rows as text: one JSON object a line, the same in the table and in the monthly files.

A field may be added with a default, never renamed: files of older versions stay readable. Control characters and
line ends inside values are escaped by JSON, so one row is always one line.

On failure: `parse_line` raises `ValueError` for anything that is no such row.
"""

import json
from dataclasses import MISSING, fields, replace
from typing import Any

from router.model.envelope import QueuedMessage
from router.model.outcome import JournalRow
from router.spool.batch import Batch

_FIELDS = tuple(one.name for one in fields(JournalRow))
_DEFAULTS = {one.name: one.default for one in fields(JournalRow) if one.default is not MISSING}
_REQUIRED = frozenset(_FIELDS) - frozenset(_DEFAULTS)
_TEXTS = frozenset(one.name for one in fields(JournalRow) if one.type is str)
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def append_journal(batch: Batch, message: QueuedMessage, row: JournalRow) -> None:
    """Give the row its number and insert it."""
    numbered = replace(row, number=batch.next_journal(), queue_id=message.queue_id)
    batch.connection.execute(
        "INSERT INTO journal (id, at, line) VALUES (?, ?, ?)", (numbered.number, numbered.at, format_line(numbered))
    )


def format_line(row: JournalRow) -> str:
    """One line without its line end; optional fields at their default are left out."""
    facts: dict[str, Any] = {}
    for name in _FIELDS:
        value = getattr(row, name)
        if name not in _DEFAULTS or value != _DEFAULTS[name]:
            facts[name] = value
    return _encode(facts)


def parse_line(line: str | bytes) -> JournalRow:
    """The row of a line; fields of later versions are ignored. Raises `ValueError`."""
    try:
        facts = json.loads(line)
    except RecursionError as error:
        raise ValueError("not a journal row") from error
    if not isinstance(facts, dict) or not facts.keys() >= _REQUIRED or not isinstance(facts["number"], int):
        raise ValueError("not a journal row")
    known = {name: facts[name] for name in _FIELDS if name in facts}
    if any(not isinstance(known[name], str) for name in _TEXTS & known.keys()):
        raise ValueError("not a journal row")
    return JournalRow(**known)
