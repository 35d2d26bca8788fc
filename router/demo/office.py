"""
The operator's desk of a relay on this machine: import, hold, release and move, as the commands do them.

Guarantees: everything goes through the control database and the real operations; the relay may be up or down. A
member whose process and spool lock are both gone counts as dead, one that merely does not answer never does.

On failure: the errors of the operations. All methods block and may be called from several threads.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from router.control import alarms, mailboxes, members, users_csv
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.importing import ImportResult, UserImport
from router.control.mailboxes import Record
from router.control.members import Member
from router.control.operations import Operations
from router.ports import DirectoryWriter
from router.settings.schema import Settings
from router.spool.lock import SpoolLock, SpoolLocked

ACTOR = "demo"


class Office:
    """
    Opens the control database, or creates it where the relay has never run. Close it.

    `sleep` is what operations wait with; an exception that it raises ends their waiting. `writers` and `fetch` are
    those of the directories, as for `Operations`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        writers: Mapping[str, DirectoryWriter] | None = None,
        fetch: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self.settings = settings
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = not (settings.state_dir / "spool").exists()
        self.database = ControlDatabase.open(settings.database_url, create=fresh)
        self.operations = Operations(
            self.database,
            tuple(settings.stores),
            lock_probe=partial(spool_is_ownerless, settings.state_dir / "spool"),
            settle=max(store.settle for store in settings.stores.values()),
            sleep=sleep,
            writers=writers,
            fetch=fetch,
        )

    def act(self, reason: str) -> Act:
        """Who acts, why, and that it is now."""
        return Act(ACTOR, reason, time.time())

    def import_users(self, path: Path) -> ImportResult:
        """`sluice user import PATH`. Raises `ImportRefused`."""
        file = users_csv.read(path, tuple(self.settings.stores), tuple(self.settings.domains))
        return UserImport(self.database, file, self.act("import")).apply()

    def records(self, keys: Iterable[str]) -> dict[str, Record]:
        """Mailboxes by key, as they are now."""
        return self.database.run_read(partial(mailboxes.records, keys=list(keys)))

    def alarms(self) -> list[str]:
        """The open alarms, a line each, as `sluice status` has them."""
        return [f"{one.kind} {one.key}: {one.text}" for one in self.database.run_read(alarms.open_alarms)]

    def members(self) -> Sequence[Member]:
        """The registered workers."""
        return self.database.run_read(members.all_members)

    def wait_for_members(self, wanted: Callable[[Sequence[Member]], bool], patience: float = 20.0) -> Sequence[Member]:
        """Poll until the members are as wanted. Raises `TimeoutError`."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            found = self.members()
            if wanted(found):
                return found
            time.sleep(0.05)
        raise TimeoutError(f"the members stayed {found}")

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spool_is_ownerless(spools: Path, member: Member) -> bool:
    """Whether the member's process is gone and the lock of its spool free (barrier rule 9)."""
    if _alive(member.pid):
        # Also keeps us from taking the lock for a moment just when its owner is starting.
        return False
    directory = spools / f"{member.spool:04d}"
    lock = SpoolLock(directory)
    try:
        lock.acquire()
    except (SpoolLocked, OSError):
        return False
    lock.release()
    return True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
