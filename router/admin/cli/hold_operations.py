"""
The operations of control, wired for a command: who is dead, what it may have sent, who is never held.

A worker that died without a successor (no daemon runs) keeps its member row, and the barrier would wait for it for
ever. The lock of its spool proves its death: when this command can take the lock, the worker is counted out, and the
mailboxes with queued mail in that spool are in doubt for the settle time (barrier rules 8 and 9).

Guarantees: a worker of another node, or one whose spool or lock file is missing, is never taken for dead. Whenever
what was queued cannot be told for certain, every mailbox counts as in doubt.
"""

import socket
from collections.abc import Sequence
from pathlib import Path

from router.admin.cli.context import Context
from router.admin.cli.user_selection import postmaster_mailbox
from router.control.barrier import EVERYBODY
from router.control.members import SUSPECTS, Member, Suspect
from router.control.mirrors import never_held
from router.control.operations import Operations
from router.errors import SluiceError
from router.model.envelope import RecipientState
from router.model.route import MX_PREFIX, SMARTHOST_LANE
from router.settings.schema import Settings
from router.spool.finding import QueueEntry, QueueFilter
from router.spool.lock import LOCK, SpoolLock, SpoolLocked
from router.spool.offline import view


class DeadMembers:
    """Tells a member that died from one that is slow, by its spool's lock."""

    def __init__(self, state_dir: Path, node: str) -> None:
        self._root = state_dir / "spool"
        self._node = node

    def probe(self, member: Member) -> bool:
        """Whether the member's spool has no owner. The lock is only looked at: a worker that starts must get it."""
        directory = self._directory(member)
        if member.node != self._node or not (directory / LOCK).is_file():
            return False
        lock = SpoolLock(directory)
        try:
            lock.acquire()
        except (SpoolLocked, OSError):
            return False
        lock.release()
        return True

    def suspects(self, member: Member) -> Sequence[Suspect]:
        """What the dead member may have been sending. Beyond `SUSPECTS` it is everything, as control decides."""
        wanted = QueueFilter(state=RecipientState.QUEUED.value, limit=SUSPECTS + 1)
        try:
            with view(self._directory(member)) as spool:
                entries = spool.find(wanted)
        except (SluiceError, OSError, ValueError):
            return [Suspect(EVERYBODY, "")]
        if any(_untold(entry) for entry in entries):
            return [Suspect(EVERYBODY, "")]
        return [Suspect(one.mailbox, one.queue_id, one.message_id, one.lane) for one in entries if one.mailbox]

    def _directory(self, member: Member) -> Path:
        return self._root / f"{member.spool:04d}"


def _untold(entry: QueueEntry) -> bool:
    """No mailbox is known of it, and it does not leave the site: it may be anybody's."""
    return not entry.mailbox and not entry.lane.startswith(MX_PREFIX) and entry.lane != SMARTHOST_LANE


def operations(context: Context) -> Operations:
    """The operations on the site's control database. Raises `CommandFailed`, `ControlUnavailable`."""
    settings = context.settings()
    dead = DeadMembers(settings.state_dir, socket.gethostname())
    directories, postmaster = context.directories(), postmaster_mailbox(context)
    never = never_held(context.database(), settings)
    return Operations(
        context.database(),
        settings.stores,
        never_held=never if postmaster is None else {*never, postmaster},
        lock_probe=dead.probe,
        suspects=dead.suspects,
        settle=longest_settle(settings),
        writers=None if directories is None else directories.writers(),
        fetch=None if directories is None else directories.fetch,
    )


def longest_settle(settings: Settings) -> float:
    """Seconds: which store a dead worker was talking to is not known for certain."""
    return max(store.settle for store in settings.stores.values())
