"""
A change that is made at most once, though its owner may die before it has told anybody: its name, how many recipients
it was for, and how many of them it changed are remembered in the transaction that makes it.

Guarantees: with a name that is remembered nothing is changed, and the count of then is told. The last `KEPT` names are
remembered, more than a worker is asked for at once without having answered.

On failure: what the operation raises; nothing is remembered then.
"""

import json
import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from router.spool.batch import Batch
from router.spool.writer import Operation

KEPT = 100
_ROW = "requests"


class Made(NamedTuple):
    """What became of a change."""

    asked: int
    """Recipients that it was for."""
    changed: int
    """How many of them it has changed."""


@dataclass(frozen=True, slots=True)
class Once:
    """An operation for `asked` recipients, with a name that no other change ever has."""

    operation: Operation[int]
    name: str
    asked: int

    @property
    def lazy(self) -> bool:
        return self.operation.lazy

    @property
    def essential(self) -> bool:
        return self.operation.essential

    def apply(self, batch: Batch) -> int:
        """The number of recipients that it changes, or has changed."""
        known = _all(batch.connection)
        if self.name in known:
            return known[self.name].changed
        count = self.operation.apply(batch)
        known[self.name] = Made(self.asked, count)
        kept = json.dumps(dict(list(known.items())[-KEPT:]))
        batch.connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (_ROW, kept))
        return count


def made(connection: sqlite3.Connection, name: str) -> Made | None:
    """What became of the change of that name; None if it was not made, or long ago. For `Reader.call`."""
    return _all(connection).get(name)


def _all(connection: sqlite3.Connection) -> dict[str, Made]:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (_ROW,)).fetchone()
    try:
        return {name: Made(*told) for name, told in json.loads(row[0]).items()} if row is not None else {}
    except (ValueError, TypeError, AttributeError):  # damaged: better done twice than not at all
        return {}
