"""What became of one recipient in one dispatch: the spool commits it together with its journal row."""

from dataclasses import dataclass
from enum import StrEnum

from router.model.envelope import NewRecipient
from router.model.reply import HopReply


class Disposition(StrEnum):
    """
    The verdicts. The closing ones end a recipient's life in the spool; the others leave it there.

    `status` in the delivery log follows from it: sent, bounced, deferred.
    """

    DELIVERED = "delivered"
    RETURNED = "returned"
    REMOVED = "removed"
    MERGED = "merged"
    FORWARDED = "forwarded"
    DEFERRED = "deferred"
    HELD = "held"
    PARKED = "parked"
    QUARANTINED = "quarantined"

    @property
    def closing(self) -> bool:
        return self in _CLOSING


_CLOSING = frozenset(
    {
        Disposition.DELIVERED,
        Disposition.RETURNED,
        Disposition.REMOVED,
        Disposition.MERGED,
        Disposition.FORWARDED,
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    One recipient's verdict. Times are wall-clock seconds.

    `counted` is false when the attempt was no attempt (a hold interrupted it, a reused connection said 421).
    `due` matters for DEFERRED only. `delays` are Postfix's a/b/c/d: before the queue manager, in it, connection
    set-up, transmission; seconds.
    """

    recipient: int
    disposition: Disposition
    at: float
    reply: HopReply
    lane: str = ""
    mailbox: str = ""
    due: float = 0.0
    counted: bool = True
    in_doubt: bool = False
    unknown_since: float | None = None
    delays: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    note: str = ""
    """For a person: hold number, park reason, actor and reason of a removal."""
    batch: str = ""
    since: float = 0.0
    """When the attempt began: a deferral decided before a release must not undo it."""
    delay_notified: bool = False
    """The sender has now been told of the delay."""
    opens: tuple[NewRecipient, ...] = ()
    """Of a forward: the recipients of the same message that are opened in the transaction that closes this one."""


@dataclass(frozen=True, slots=True)
class JournalRow:
    """The durable record of one outcome. `number` grows within a spool and is never reused."""

    number: int
    at: float
    queue_id: str
    recipient: str
    disposition: str
    lane: str
    mailbox: str
    sender: str
    size: int
    received_at: float
    attempts: int
    reply: str
    remote: str
    message_id: str = ""
    note: str = ""
    batch: str = ""
    in_doubt: bool = False
