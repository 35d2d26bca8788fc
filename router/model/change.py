"""Changes of routing state as members follow them, and what a member owes the barrier (barrier.md)."""

from dataclasses import dataclass
from enum import StrEnum

from router.model.directory import DirectoryState
from router.model.mailbox import Hold


class ChangeKind(StrEnum):
    """What a change is about; its key is a mailbox key, an address key, a domain, a store's name, or ''."""

    MAILBOX = "mailbox"
    ADDRESS = "address"
    DOMAIN = "domain"
    STORE = "store"
    LIST = "list"
    CONFIGURATION = "configuration"
    RESYNC = "resync"
    """Changes were missed or too many: drop everything known."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of `changes`."""

    epoch: int
    kind: ChangeKind
    key: str


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """
    All changes up to `epoch`, read in one transaction together with the hold of every mailbox they name.

    `holds` has an entry for each changed mailbox: its open hold, or None. `paused` are all paused stores.
    `directories` are all directories when the state of any has moved, None when not; then it may be all there is.
    """

    epoch: int
    changes: tuple[Change, ...]
    holds: dict[str, Hold | None]
    paused: frozenset[str] = frozenset()
    directories: tuple[DirectoryState, ...] | None = None


@dataclass(frozen=True, slots=True)
class Blocking:
    """A delivery in flight that names a held mailbox: one row of `blocking`. `entry` is unique in the incarnation."""

    entry: int
    mailbox: str
    hold: int
    store: str
    queue_id: str
    stage: str
    since: float


@dataclass(frozen=True, slots=True)
class Ended:
    """An in-flight entry has ended. `in_doubt` ones are added to the record of the hold they blocked."""

    entry: int
    in_doubt: bool = False
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a joining member starts from, read after its registration committed (barrier.md 5)."""

    uuid: str
    epoch: int
    held: frozenset[str]
    """Keys of all mailboxes with an open hold."""
    paused: frozenset[str]
    mark_keys: tuple[bytes, ...]
    """HMAC keys of the loop marks, newest first; the first one signs."""
    takeover: bool
    """The slot's former incarnation did not end cleanly: its queued mailboxes are in doubt (barrier.md 8)."""
    directories: tuple[DirectoryState, ...] = ()
