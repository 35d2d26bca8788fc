"""
The audit: who did what to which mailbox or store, when and why, with the state before and after.

Guarantees: the row is written in the transaction of the change it speaks of; it is never changed afterwards.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from router.control import schema
from router.control.rows import from_json, to_json

_ADD = insert(schema.audit)


@dataclass(frozen=True, slots=True)
class Act:
    """Who acts and why: goes with every change. `at` is wall-clock seconds."""

    actor: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the audit; `before` and `after` are JSON values, or None."""

    number: int
    at: float
    actor: str
    verb: str
    key: str
    reason: str
    before: Any
    after: Any


def write(connection: Connection, act: Act, verb: str, key: str, before: object = None, after: object = None) -> None:
    """Add a row about `key` (a mailbox, a store, or '')."""
    write_all(connection, act, verb, [(key, before, after)])


def write_all(connection: Connection, act: Act, verb: str, facts: Iterable[tuple[str, object, object]]) -> None:
    """The same for several, each with its key, its state before and its state after; numbered in this order."""
    values = [
        {
            "at": act.at,
            "actor": act.actor,
            "verb": verb,
            "key": key,
            "reason": act.reason,
            "before": "" if before is None else to_json(before),
            "after": "" if after is None else to_json(after),
        }
        for key, before, after in facts
    ]
    if values:
        connection.execute(_ADD, values)


def rows(
    connection: Connection, *, key: str = "", actor: str = "", verb: str = "", before: int = 0, limit: int = 100
) -> Sequence[AuditRow]:
    """Newest first; `before` is the number of the last row of the previous page."""
    table = schema.audit.c
    query = select(schema.audit).order_by(table.number.desc()).limit(limit)
    for column, wanted in ((table.key, key), (table.actor, actor), (table.verb, verb)):
        if wanted:
            query = query.where(column == wanted)
    if before:
        query = query.where(table.number < before)
    return [
        AuditRow(r.number, r.at, r.actor, r.verb, r.key, r.reason, from_json(r.before), from_json(r.after))
        for r in connection.execute(query)
    ]
