"""
Pausing a store: nothing is delivered to it, its mail waits; mail is still accepted.

Guarantees: a pause is a STORE change with an epoch, applied by every member like a hold; repeating one changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from router.control import audit, changes, schema
from router.control.audit import Act
from router.model.change import ChangeKind

_T = schema.stores


@dataclass(frozen=True, slots=True)
class Pause:
    """A paused store: who, why, since when."""

    store: str
    reason: str
    actor: str
    at: float


def pause(connection: Connection, store: str, act: Act) -> int:
    """Pause it; returns the epoch members have to apply (the current one when it is paused already)."""
    return _set(connection, store, act, paused=True)


def resume(connection: Connection, store: str, act: Act) -> int:
    """End the pause; returns the epoch as `pause` does."""
    return _set(connection, store, act, paused=False)


def _set(connection: Connection, store: str, act: Act, *, paused: bool) -> int:
    found = connection.execute(select(_T.c.paused).where(_T.c.name == store)).scalar()
    if bool(found) == paused:
        return changes.current_epoch(connection)
    values = {"paused": int(paused), "reason": act.reason, "actor": act.actor, "at": act.at}
    if found is None:
        connection.execute(insert(_T).values(name=store, **values))
    else:
        connection.execute(update(_T).where(_T.c.name == store).values(**values))
    epoch = changes.take_epoch(connection)
    changes.record(connection, epoch, ChangeKind.STORE, [store], act.at)
    audit.write(
        connection, act, "store pause" if paused else "store resume", store, {"paused": not paused}, {"paused": paused}
    )
    return epoch


def paused(connection: Connection) -> Sequence[Pause]:
    """All paused stores."""
    query = select(_T.c.name, _T.c.reason, _T.c.actor, _T.c.at).where(_T.c.paused != 0).order_by(_T.c.name)
    return [Pause(*row) for row in connection.execute(query)]
