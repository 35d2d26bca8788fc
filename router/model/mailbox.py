"""
A mailbox as the relay knows it, and the hold record of its cutover window.

A mailbox is named everywhere (spool, journal, changes, blocking rows) by its `key`: its canonical address, folded.
"""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Sun's mailUserStatus values (semantics: missing = active, anything else = inactive, never permanent)."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    DISABLED = "disabled"
    DELETED = "deleted"
    REMOVED = "removed"
    OVERQUOTA = "overquota"


@dataclass(frozen=True, slots=True)
class Hold:
    """An open hold. Times are wall-clock seconds; `quiet_at` is set by the barrier (barrier.md 3)."""

    number: int
    opened_at: float
    opened_epoch: int
    reason: str = ""
    actor: str = ""
    batch: str = ""
    deadline: float | None = None
    target: str = ""
    quiet_at: float | None = None
    origin: str = "command"
    """'command', or 'directory' when somebody else set the status there."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Everything a route depends on, as read in one transaction."""

    key: str
    home: str
    status: Status = Status.ACTIVE
    hold: Hold | None = None
    moved_at: float | None = None
    """When the home last changed or a hold last ended: start of the protected time."""
    target: str = ""
    source: str = "database"

    def protected(self, now: float, protect: float) -> bool:
        """On hold, or moved less than `protect` seconds ago: no 5xx of a store becomes a bounce."""
        return self.hold is not None or (self.moved_at is not None and now - self.moved_at < protect)


@dataclass(frozen=True, slots=True)
class Found:
    """Answer of a source to a set of address keys: absent keys are unknown to it, as of `epoch`."""

    epoch: int
    mailboxes: dict[str, Mailbox]
