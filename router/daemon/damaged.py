"""
What the supervisor does with a spool whose worker has ended because of its damage: look again, and set it aside.

Guarantees: a spool is set aside only when its worker and then the supervisor, which has its lock, found its files in
contradiction to themselves; one that merely cannot be read is left where it is. Before the directory gets its other
name, what the dead worker may have under way counts as in doubt for every mailbox for `settle` seconds (barrier rule
8), and the alarm is open. A number is never given again, also when the control database does not know it any more.

On failure: `SluiceError` or `OSError`, and nothing was renamed; the whole may be done again.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from router.control import alarms, barrier, members
from router.control.database import ControlDatabase
from router.control.members import Suspect
from router.report.alarms import AlarmKind
from router.spool.lock import SpoolLock
from router.spool.setting_aside import examine, name_aside, set_aside

EX_DAMAGED = 65
"""Exit code of a worker that found its spool damaged."""


class DamagedSpools:
    """Of one node; `root` is the directory of its spools. Methods block: call them from threads."""

    def __init__(self, database: ControlDatabase, root: Path, node: str, wall: Callable[[], float] = time.time) -> None:
        self._database = database
        self._root = root
        self._node = node
        self._wall = wall

    def set_aside(self, number: int, settle: float, stopped: Callable[[], bool] = lambda: False) -> Path | None:
        """
        Where the spool is now; None when it was found sound after all.

        Raises `SpoolLocked` when somebody has it open, `SpoolUnavailable` when it cannot be told what it is.
        """
        directory = self._root / f"{number:04d}"
        lock = SpoolLock(directory)
        lock.acquire()
        try:
            why = examine(directory, stopped)
            if not why:
                return None
            now = self._wall()
            name = name_aside(directory.name, now)
            self._database.run_write(
                partial(self._count_out, number=number, name=name, why=why, now=now, settle=settle)
            )
            return set_aside(directory, now)
        finally:
            lock.release()

    def _count_out(self, connection: Connection, number: int, name: str, why: str, now: float, settle: float) -> None:
        for member in members.all_members(connection):
            if member.node == self._node and member.spool == number:
                # Who has mail in there cannot be told for certain, so it may be anybody.
                anybody = [Suspect(barrier.EVERYBODY, "")]
                members.take_over(connection, member.incarnation, anybody, now + settle, now)
        alarms.raise_alarm(connection, AlarmKind.SPOOL_DAMAGED, name, why, now)
