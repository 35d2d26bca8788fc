"""
Whether the control database is still the one that a process has open: not another file, nor an older copy of it.

Guarantees: one that is locked, or cannot be read now, is no other one. Blocking; used by one thread.

On failure: `DatabaseReplaced` when it is another one; only a new start makes sense of it.
"""

from sqlalchemy import Connection

from router.control.changes import current_epoch
from router.control.database import ControlDatabase, DatabaseReplaced, site_uuid
from router.errors import ControlUnavailable

_PATIENCE = 0.5


class SameDatabase:
    """Knows the database as it was at the first look."""

    def __init__(self, database: ControlDatabase) -> None:
        self._database = database
        self._watch = database.watch()
        self._uuid = ""
        self._epoch = 0

    def look(self) -> None:
        """Cheap while nothing was written. Raises `DatabaseReplaced`."""
        try:
            if not self._watch.changed():
                return
            uuid, epoch = self._database.run_read(_identity, _PATIENCE)
        except DatabaseReplaced:
            raise
        except ControlUnavailable:
            return
        if self._uuid not in {"", uuid} or epoch < self._epoch:
            raise DatabaseReplaced("the control database is another one, or an older copy")
        self._uuid, self._epoch = uuid, epoch


def _identity(connection: Connection) -> tuple[str, int]:
    return site_uuid(connection), current_epoch(connection)
