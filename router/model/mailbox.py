"""
A mailbox as the relay knows it, and the hold record of its cutover window.

A mailbox is named everywhere (spool, journal, changes, blocking rows) by its `key`: its canonical address, folded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LIST = "list"


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
    """The directory that is believed about it, by name."""
    kind: str = "mailbox"
    """'mailbox', or 'list' for a group of a directory, which is never held."""
    forwards: tuple[str, ...] = ()
    """Addresses (as to be put on the wire) that its mail goes to instead, or also when `keeps`."""
    keeps: bool = True
    route: str = ""
    """Address that the home is to see as recipient, or, without a home, where its mail goes; '' = as received."""
    problem: str = ""
    """Why its mail cannot be placed (451 4.3.5); '' when it can. A hold comes first: mail is kept all the same."""

    def protected(self, now: float, protect: float) -> bool:
        """On hold, or moved less than `protect` seconds ago: no 5xx of a store becomes a bounce."""
        return self.hold is not None or (self.moved_at is not None and now - self.moved_at < protect)


@dataclass(frozen=True, slots=True)
class Found:
    """
    Answer of a source to a set of address keys: absent keys are unknown to it, as of `epoch`.

    `disputed` says for a key of `mailboxes` why it is answered by 451 4.3.5 and not routed. `doubtful` says for an
    absent key why it is not to be called unknown (451 4.4.3): its directory seems to have lost people.
    """

    epoch: int
    mailboxes: dict[str, Mailbox]
    disputed: Mapping[str, str] = field(default_factory=dict)
    doubtful: Mapping[str, str] = field(default_factory=dict)
