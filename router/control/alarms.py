"""
Alarms: one row per kind and key, opened once and counted from then on, until somebody clears it.

Guarantees: raising an open alarm again only moves `last` and `count`; a cleared one that comes back starts anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, update

from router.control import schema
from router.control.rows import RUN, in_run, slices

_T = schema.alarms
# Built once: a worker clears alarms with every change of what it sees.
_CLEAR = (
    update(_T)
    .where(_T.c.kind == bindparam("of_kind"), in_run(_T.c.key), _T.c.cleared_at.is_(None))
    .values(cleared_at=bindparam("now"))
)


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm; `cleared_at` is None while it is open."""

    kind: str
    key: str
    text: str
    first: float
    last: float
    count: int
    cleared_at: float | None = None


def raise_alarm(connection: Connection, kind: str, key: str, text: str, now: float, count: int = 1) -> bool:
    """Open it, or count it; True when it was not open before (time for the one log line)."""
    same = (_T.c.kind == kind) & (_T.c.key == key)
    found = connection.execute(select(_T.c.cleared_at).where(same)).first()
    if found is None:
        row = {"kind": kind, "key": key, "text": text, "first": now, "last": now, "count": count}
        connection.execute(insert(_T).values(**row))
        return True
    if found.cleared_at is not None:
        fresh = {"text": text, "first": now, "last": now, "count": count, "cleared_at": None}
        connection.execute(update(_T).where(same).values(**fresh))
        return True
    connection.execute(update(_T).where(same).values(text=text, last=now, count=_T.c.count + count))
    return False


def clear_alarm(connection: Connection, kind: str, key: str, now: float) -> bool:
    """Close it; False when it was not open."""
    return clear_all(connection, kind, [key], now) > 0


def clear_all(connection: Connection, kind: str, keys: Sequence[str], now: float) -> int:
    """Close those of these keys that are open; how many."""
    asked = ({"of_kind": kind, RUN: run, "now": now} for run in slices(keys))
    return sum(connection.execute(_CLEAR, values).rowcount for values in asked)


def open_alarms(connection: Connection, limit: int = 1000) -> Sequence[Alarm]:
    """All open alarms, oldest first."""
    query = select(_T).where(_T.c.cleared_at.is_(None)).order_by(_T.c.first).limit(limit)
    return [Alarm(*row) for row in connection.execute(query)]


def is_open(connection: Connection, kind: str, keys: Iterable[str]) -> set[str]:
    """Those of the keys for which an alarm of that kind is open."""
    query = select(_T.c.key).where(_T.c.kind == kind, _T.c.key.in_(list(keys)), _T.c.cleared_at.is_(None))
    return set(connection.execute(query).scalars())
