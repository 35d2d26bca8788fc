"""
Numbers of spools, and whether a spool belongs to this control database as it stands.

Guarantees: a number is given once and never reused, so queue-ids never repeat. A restored or foreign database is
recognised by uuid and epoch; until an operator accepts it, spools must deliver nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, delete, insert, select, update

from router.control import audit, changes, schema
from router.control.audit import Act
from router.control.database import site_uuid
from router.model.change import ChangeKind

_T = schema.spools
DOUBTED = "doubted"


@dataclass(frozen=True, slots=True)
class Spool:
    """A spool that this site has ever had."""

    number: int
    node: str
    path: str
    created_at: float


class Standing(StrEnum):
    """What a spool's memory of the control database says about the one we see."""

    OK = "ok"
    OLDER = "restored-older"
    FOREIGN = "foreign"


def allocate(connection: Connection, node: str, path: str, now: float) -> int:
    """The number of the spool at that place; a new one when it has none."""
    same = (_T.c.node == node) & (_T.c.path == path)
    found = connection.execute(select(_T.c.number).where(same)).scalar()
    if found is not None:
        return int(found)
    new = insert(_T).values(node=node, path=path, created_at=now).returning(_T.c.number)
    return int(connection.execute(new).scalar_one())


def all_spools(connection: Connection) -> Sequence[Spool]:
    """In the order of their numbers."""
    return [Spool(*row) for row in connection.execute(select(_T).order_by(_T.c.number))]


def check_spool(connection: Connection, uuid: str, highest_epoch: int) -> Standing:
    """Compare what a spool remembers ('' and 0 for a new one) with this database."""
    if not uuid:
        return Standing.OK
    if uuid != site_uuid(connection):
        return Standing.FOREIGN
    if _is_doubted(connection) or changes.current_epoch(connection) < highest_epoch:
        return Standing.OLDER
    return Standing.OK


def doubt(connection: Connection) -> None:
    """
    Remember that this database was found to be an older copy, until `accept_restored`.

    Whoever corrects it before that raises its epoch, and would hide what it is.
    """
    if not _is_doubted(connection):
        connection.execute(insert(schema.counter).values(name=DOUBTED, value=1))


def _is_doubted(connection: Connection) -> bool:
    found = select(schema.counter.c.value).where(schema.counter.c.name == DOUBTED)
    return connection.execute(found).first() is not None


def accept_restored(connection: Connection, highest_epoch: int, act: Act) -> int:
    """
    Take this database as the truth: its epoch rises above every epoch that was ever seen, and all must resynchronise.

    `highest_epoch` is the highest one that any spool remembers. Spools then store the new uuid and epoch. Returns it.
    """
    before = changes.current_epoch(connection)
    epoch = max(before, highest_epoch) + 1
    counter = schema.counter
    connection.execute(update(counter).where(counter.c.name == schema.EPOCH).values(value=epoch))
    connection.execute(delete(counter).where(counter.c.name == DOUBTED))
    changes.record(connection, epoch, ChangeKind.RESYNC, [""], act.at)
    highest = connection.execute(select(_T.c.number).order_by(_T.c.number.desc()).limit(1)).scalar() or 0
    audit.write(connection, act, "accept restored", "", {"epoch": before}, {"epoch": epoch, "spools": highest})
    return epoch


def reserve(connection: Connection, number: int, node: str, path: str, now: float) -> None:
    """Enter a spool that exists on disk but not in this (restored) database, under the number it has."""
    if connection.execute(select(_T.c.number).where(_T.c.number == number)).first() is None:
        connection.execute(insert(_T).values(number=number, node=node, path=path, created_at=now))
