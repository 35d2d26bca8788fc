"""
What the supervisor wants of the control database and of the spool directories.

Guarantees: a control database is created only where there is no spool yet, so that a lost one is noticed instead of
being replaced by an empty one (promise 8). A spool's number is its directory's name and is never given twice.

On failure: `SiteError` at start, with the remedy; `ControlUnavailable` later.
"""

import contextlib
import os
import socket
import time
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from router.control import alarms, configuration, mailboxes, members, spools
from router.control.audit import Act
from router.control.changes import current_epoch
from router.control.database import ControlDatabase
from router.control.directory_alarms import DOWN, FOLLOWER, open_keys
from router.daemon.damaged import DamagedSpools
from router.settings.schema import Settings
from router.spool.schema import sync_directory
from router.spool.setting_aside import aside

_LOOK = 1.0
"""Seconds to wait for a lock when members are looked at: whoever keeps it may be the one to be found."""


class SiteError(RuntimeError):
    """The state on disk does not allow a start; the message says what to do."""


class Site:
    """One node's view of the control database. All methods block; call them from threads."""

    def __init__(self, database: ControlDatabase, state_dir: Path, node: str) -> None:
        self._database = database
        self._state_dir = state_dir
        self._node = node
        self.damaged = DamagedSpools(database, state_dir / "spool", node)

    @classmethod
    def open(cls, settings: Settings) -> "Site":
        """Open the control database, or create it for a fresh installation. Raises `SiteError`."""
        root = settings.state_dir / "spool"
        fresh = not any(root.iterdir()) if root.is_dir() else True
        missing = settings.database == "sqlite" and not (settings.state_dir / "control.db").exists()
        if missing and not fresh:
            raise SiteError(
                f"there are spools in {root} but no control database in {settings.state_dir}: restore it from a "
                "backup; a new, empty one would route by nothing"
            )
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(settings.state_dir)
        with contextlib.suppress(PermissionError):
            # Above the state directory nothing is ours: who made it for us may have kept it to themselves.
            sync_directory(settings.state_dir.parent)
        return cls(ControlDatabase.open(settings.database_url, create=fresh), settings.state_dir, socket.gethostname())

    def close(self) -> None:
        self._database.close()

    def spools(self, workers: int) -> list[int]:
        """Numbers of the spools: first one for each worker, then those left over from more workers that hold mail."""
        root = self._state_dir / "spool"
        known = self.numbers()
        # Those set aside, too: queue-ids with their numbers are known to the world.
        for number in {*known, *(one.number for one in aside(root))}:
            path = str(root / f"{number:04d}")
            self._database.run_write(
                partial(spools.reserve, number=number, node=self._node, path=path, now=time.time())
            )
        while len(known) < workers:
            known.append(self.new_spool())
        return known

    def numbers(self) -> list[int]:
        """Numbers of the spools that are there."""
        return sorted(int(path.name) for path in (self._state_dir / "spool").iterdir() if path.name.isdigit())

    def new_spool(self) -> int:
        """Number of a spool that has never been there; its directory is made."""
        root = self._state_dir / "spool"
        # A number is taken under a name of its own first: the directory's name follows from the number.
        name = f"{root}/new-{os.getpid()}-{time.time_ns()}"
        number = self._database.run_write(partial(spools.allocate, node=self._node, path=name, now=time.time()))
        (root / f"{number:04d}").mkdir(mode=0o700)
        # Mail is acknowledged in there: its directory must not be missing after a power cut.
        sync_directory(root)
        return number

    def publish(self, settings: Settings) -> None:
        """Declare the configuration that members must run. Nobody else would end alarms of a directory that is gone."""
        act = Act("daemon", "configuration loaded", time.time())
        known = {*settings.ldaps, FOLLOWER} if settings.ldaps else set()

        def work(connection: Connection) -> None:
            configuration.publish(connection, fingerprint=settings.fingerprint, act=act)
            for key in open_keys(connection, DOWN, "") - known:
                alarms.clear_alarm(connection, DOWN, key, act.at)

        self._database.run_write(work)

    def homes(self) -> dict[str, int]:
        """Mailboxes by home."""
        return self._database.run_read(mailboxes.homes)

    def sources(self) -> dict[str, int]:
        """Mailboxes by the source they come from."""
        return self._database.run_read(mailboxes.sources)

    def silent_members(self) -> dict[int, int]:
        """Applied epoch, by pid, of the members that have not applied the latest changes."""
        epoch = self._database.run_read(current_epoch, _LOOK)
        found = self._database.run_read(members.all_members, _LOOK)
        return {member.pid: member.applied for member in found if member.node == self._node and member.applied < epoch}

    def alarm(self, kind: str, key: str, text: str) -> None:
        self._database.run_write(partial(alarms.raise_alarm, kind=kind, key=key, text=text, now=time.time()))

    def clear(self, kind: str, key: str) -> None:
        self._database.run_write(partial(alarms.clear_alarm, kind=kind, key=key, now=time.time()))
