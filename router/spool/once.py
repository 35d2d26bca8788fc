"""
A change that is made at most once, though its owner may die before it has told anybody: its name and its count are
remembered in the transaction that makes it.

Guarantees: with a name that is remembered nothing is changed, and the count of then is told. The last `KEPT` names are
remembered, more than a worker is asked for at once without having answered.

On failure: what the operation raises; nothing is remembered then.
"""

import json
from dataclasses import dataclass

from router.spool.batch import Batch
from router.spool.writer import Operation

KEPT = 100
_ROW = "requests"


@dataclass(frozen=True, slots=True)
class Once:
    """An operation with a name that no other change ever has."""

    operation: Operation[int]
    name: str

    @property
    def lazy(self) -> bool:
        return self.operation.lazy

    @property
    def essential(self) -> bool:
        return self.operation.essential

    def apply(self, batch: Batch) -> int:
        """The number of recipients that it changes, or has changed."""
        made = _made(batch)
        if self.name in made:
            return made[self.name]
        made[self.name] = count = self.operation.apply(batch)
        kept = json.dumps(dict(list(made.items())[-KEPT:]))
        batch.connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (_ROW, kept))
        return count


def _made(batch: Batch) -> dict[str, int]:
    row = batch.connection.execute("SELECT value FROM meta WHERE name = ?", (_ROW,)).fetchone()
    try:
        found = json.loads(row[0]) if row is not None else {}
    except ValueError:  # damaged: better done twice than not at all
        return {}
    return found if isinstance(found, dict) else {}
