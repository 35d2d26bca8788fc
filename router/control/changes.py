"""
The change tail: what members follow (barrier.md, "State").

Guarantees: the epoch is taken by updating one counter row in the transaction that makes the change, so 7 is never
seen before 6. All changes of one transaction share its epoch. A follower that missed pruned rows, or is so far behind
that telling everything is not worth it, gets one RESYNC with *all* open holds.

On failure: whatever the transaction raises; nothing of it stays.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from router.control import mailboxes, schema
from router.model.change import Change, ChangeKind, ChangeSet

LIMIT = 5000
"""Changes told one by one; above, a RESYNC is cheaper for everybody."""
KEEP = 20_000
"""Epochs whose rows are kept for followers that lag."""
_T, _COUNTER, _STORES = schema.changes, schema.counter, schema.stores
# Built once: every member executes them at each look.
_COUNT = select(_COUNTER.c.value).where(_COUNTER.c.name == bindparam("counted"))
_ADD = insert(_T)
_NEXT = update(_COUNTER).where(_COUNTER.c.name == schema.EPOCH).values(value=_COUNTER.c.value + 1)
_PAUSED = select(_STORES.c.name).where(_STORES.c.paused != 0)
_SINCE = (
    select(_T.c.epoch, _T.c.kind, _T.c.key)
    .where(_T.c.epoch > bindparam("applied"))
    .order_by(_T.c.epoch)
    .limit(bindparam("most"))
)


def current_epoch(connection: Connection) -> int:
    """The newest epoch of this snapshot."""
    return _read(connection, schema.EPOCH)


def floor(connection: Connection) -> int:
    """The highest epoch whose rows are gone: who has applied less must resynchronise."""
    return _read(connection, schema.FLOOR)


def take_epoch(connection: Connection) -> int:
    """The next epoch, for this transaction alone (the counter's row stays locked until it ends)."""
    connection.execute(_NEXT)
    return current_epoch(connection)


def record(connection: Connection, epoch: int, kind: ChangeKind, keys: Iterable[str], now: float) -> None:
    """Write one row per key. A key that this transaction has recorded already must not come twice."""
    record_all(connection, epoch, {kind: keys}, now)


def record_all(connection: Connection, epoch: int, told: Mapping[ChangeKind, Iterable[str]], now: float) -> None:
    """The same for keys of several kinds."""
    named = [(kind.value, key) for kind, keys in told.items() for key in dict.fromkeys(keys)]
    rows = [{"epoch": epoch, "kind": kind, "key": key, "at": now} for kind, key in named]
    if rows:
        connection.execute(_ADD, rows)


def since(connection: Connection, epoch: int, limit: int = LIMIT) -> ChangeSet:
    """Everything after `epoch` in this snapshot, with the holds of the mailboxes it names (all of them at a RESYNC)."""
    newest = current_epoch(connection)
    paused = paused_stores(connection)
    if epoch == newest:
        return ChangeSet(newest, (), {}, paused)
    rows = connection.execute(_SINCE, {"applied": epoch, "most": limit + 1})
    found = [Change(row.epoch, ChangeKind(row.kind), row.key) for row in rows]
    missed = epoch < floor(connection) or len(found) > limit or epoch > newest
    if missed or any(change.kind is ChangeKind.RESYNC for change in found):
        everything = mailboxes.all_open_holds(connection)
        return ChangeSet(newest, (Change(newest, ChangeKind.RESYNC, ""),), dict(everything), paused)
    named = dict.fromkeys(change.key for change in found if change.kind is ChangeKind.MAILBOX)
    open_ones = mailboxes.open_hold_of(connection, named)
    return ChangeSet(newest, tuple(found), {key: open_ones.get(key) for key in named}, paused)


def prune(connection: Connection, keep: int = KEEP, most: int = 5000) -> int:
    """Remove rows older than `keep` epochs, at most `most` epochs at a time; the floor moves in step."""
    low = floor(connection)
    line = min(current_epoch(connection) - keep, low + most)
    if line <= low:
        return 0
    connection.execute(update(_COUNTER).where(_COUNTER.c.name == schema.FLOOR).values(value=line))
    return connection.execute(delete(_T).where(_T.c.epoch <= line)).rowcount


def paused_stores(connection: Connection) -> frozenset[str]:
    """Names of all paused stores."""
    return frozenset(connection.execute(_PAUSED).scalars())


def _read(connection: Connection, name: str) -> int:
    return int(connection.execute(_COUNT, {"counted": name}).scalar_one())
