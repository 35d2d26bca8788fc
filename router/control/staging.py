"""
The two tables in which an import waits: laid over the real ones once it is visible, then merged into them in slices.

Guarantees: merging a slice changes nothing for any reader (`mailboxes` reads staged rows first); whoever wants to
write to a mailbox settles it first, so no merge ever undoes a later change. A merge that a crash cut short is carried
on by the next import, and until then readers see the same.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from router.control import claims, mailboxes, schema
from router.control.rows import slices

_M, _A = schema.mailboxes, schema.addresses
_SM, _SA = schema.staged_mailboxes, schema.staged_addresses
_VALUES = tuple(column.name for column in _M.c if column.name != "key")


def settle(connection: Connection, keys: Iterable[str], addresses: Iterable[str] = ()) -> None:
    """Merge what a visible import says about these mailboxes and addresses, before they are changed."""
    number = mailboxes.visible_import(connection)
    if not number:
        return
    wanted = set(keys)
    for run in slices(list(addresses)):
        query = select(_SA.c.row_key).where(_SA.c.import_number == number, _SA.c.address.in_(run))
        wanted.update(connection.execute(query).scalars())
    for run in slices(sorted(wanted)):
        _merge(connection, number, run)


def merge_slice(connection: Connection, size: int) -> bool:
    """Merge the next `size` mailboxes of the visible import; True when nothing is left (and it is over)."""
    number = mailboxes.visible_import(connection)
    if not number:
        return True
    query = select(_SM.c.key).where(_SM.c.import_number == number).order_by(_SM.c.key).limit(size)
    keys = list(connection.execute(query).scalars())
    if keys:
        _merge(connection, number, keys)
    if len(keys) < size:
        connection.execute(update(schema.site).values(visible_import=0))
        return True
    return False


def discard_slice(connection: Connection, size: int) -> bool:
    """Remove up to `size` staged mailboxes of imports that never became visible; True when nothing is left."""
    keep = (mailboxes.visible_import(connection), _staging(connection))
    first = connection.execute(select(_SM.c.import_number).where(_SM.c.import_number.not_in(keep)).limit(1)).scalar()
    if first is None:
        return True
    query = select(_SM.c.key).where(_SM.c.import_number == first).order_by(_SM.c.key).limit(size)
    _forget(connection, first, list(connection.execute(query).scalars()))
    return False


def put(
    connection: Connection, number: int, rows: Sequence[dict[str, Any]], addresses: Sequence[dict[str, Any]]
) -> None:
    """Stage the new state of mailboxes; what this import staged for them before was forgotten by the caller."""
    if rows:
        connection.execute(insert(_SM), [{"import_number": number, **row} for row in rows])
    if addresses:
        connection.execute(insert(_SA), [{"import_number": number, **row} for row in addresses])


def forget(connection: Connection, number: int, keys: Sequence[str]) -> None:
    """Take back what this import staged for these mailboxes."""
    for run in slices(keys):
        _forget(connection, number, run)


def _staging(connection: Connection) -> int:
    return int(connection.execute(select(schema.site.c.staging_import)).scalar_one())


def _merge(connection: Connection, number: int, keys: Sequence[str]) -> None:
    rows = connection.execute(select(_SM).where(_SM.c.import_number == number, _SM.c.key.in_(keys))).mappings().all()
    if not rows:
        return
    known = set(connection.execute(select(_M.c.key).where(_M.c.key.in_(keys))).scalars())
    fresh = [{"key": row["key"], **{name: row[name] for name in _VALUES}} for row in rows if row["key"] not in known]
    if fresh:
        connection.execute(insert(_M), fresh)
    for row in rows:
        if row["key"] in known:
            connection.execute(update(_M).where(_M.c.key == row["key"]).values({name: row[name] for name in _VALUES}))
    _merge_addresses(connection, number, keys)
    _forget(connection, number, keys)


def _merge_addresses(connection: Connection, number: int, keys: Sequence[str]) -> None:
    query = select(_SA.c.address, _SA.c.mailbox, _SA.c.row_key, _SA.c.domain).where(
        _SA.c.import_number == number, _SA.c.row_key.in_(keys)
    )
    staged = connection.execute(query).all()
    for run in slices([row.address for row in staged]):
        # An address that this import gives to somebody else is staged with the new owner: it may be deleted here
        # whoever owns it now, since readers look at the staged row, or at the one inserted below.
        connection.execute(delete(_A).where(_A.c.address.in_(run)))
    given = [{"address": r.address, "mailbox": r.mailbox, "domain": r.domain} for r in staged if r.mailbox is not None]
    if given:
        connection.execute(insert(_A), given)
    claims.settle_claimed(connection, [row.address for row in staged], time.time())


def _forget(connection: Connection, number: int, keys: Sequence[str]) -> None:
    connection.execute(delete(_SA).where(_SA.c.import_number == number, _SA.c.row_key.in_(keys)))
    connection.execute(delete(_SM).where(_SM.c.import_number == number, _SM.c.key.in_(keys)))
