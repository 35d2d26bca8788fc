"""
Which configuration is in force: the barrier only counts members that run it (barrier.md 3).

Guarantees: publishing is a CONFIGURATION change with an epoch; publishing the same fingerprint again changes nothing.
"""

from sqlalchemy import Connection, select, update

from router.control import audit, changes, schema
from router.control.audit import Act
from router.model.change import ChangeKind

_T = schema.configuration
_FINGERPRINT = select(_T.c.fingerprint)


def publish(connection: Connection, fingerprint: str, act: Act) -> int:
    """Declare the configuration that members must run; returns the epoch of the change."""
    before = current(connection)
    if before == fingerprint:
        return changes.current_epoch(connection)
    epoch = changes.take_epoch(connection)
    changes.record(connection, epoch, ChangeKind.CONFIGURATION, [""], act.at)
    connection.execute(update(_T).values(fingerprint=fingerprint, epoch=epoch, at=act.at))
    audit.write(connection, act, "configuration", "", {"fingerprint": before}, {"fingerprint": fingerprint})
    return epoch


def current(connection: Connection) -> str:
    """The fingerprint in force; '' while none was ever published."""
    return str(connection.execute(_FINGERPRINT).scalar() or "")
