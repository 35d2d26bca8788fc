"""
What a client told us about a message, and how the message stands in a spool.

All of these are persisted by the spool: a field may be added with a default, never renamed or reused.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from router.model.address import Address


@dataclass(frozen=True, slots=True)
class Client:
    """The host that handed us a message (after PROXY or XCLIENT), as Received and the log name it."""

    address: str
    port: int = 0
    name: str = "unknown"
    helo: str = ""
    protocol: str = "SMTP"
    """RFC 3848 keyword: SMTP, ESMTP, ESMTPS, UTF8SMTP, UTF8SMTPS."""
    trusted: bool = False
    tls: str = ""
    """Protocol and cipher, or empty."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """MAIL FROM and its parameters. `sender` is '' for the null sender (RFC 5321 4.5.5)."""

    sender: str
    client: Client
    body: str = ""
    """'' (not given), '7BIT' or '8BITMIME' (RFC 6152)."""
    smtputf8: bool = False
    ret: str = ""
    """'' or 'FULL' or 'HDRS' (RFC 3461 4.3)."""
    envid: str = ""
    """As sent, still xtext (RFC 3461 4.4)."""


@dataclass(frozen=True, slots=True)
class NewRecipient:
    """One accepted RCPT: the address, its DSN parameters as sent, and what routing said then (a hint only)."""

    address: Address
    notify: str = ""
    orcpt: str = ""
    hint: str = ""
    """Lane to try first: a store's name, `mx:domain`, or '' when not known."""
    mailbox: str = ""
    held: bool = False
    """Routing said hold: the recipient starts in the state held."""
    draining: bool = False
    """Its mailbox is being released: it queues up behind the kept mail."""
    via: tuple[str, ...] = ()
    """Mailboxes whose forwards it was opened for, the last one last; () for what a client gave us."""
    kept: tuple[str, ...] = ()
    """Those of `via` whose home got a copy of its own."""
    through: tuple[str, ...] = ()
    """Address keys by which the mailboxes of `via` were reached: a mailbox may have its name outside our domains."""


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What the DATA reader noted while the header section went by; nothing is ever changed in it."""

    message_id: str = ""
    """Sanitised, at most 255 characters; '' when absent."""
    received_count: int = 0
    auto_submitted: bool = False
    marks: tuple[str, ...] = ()
    """`queue-id:token,token` of each Received field written by a Sluice, top first (loop marks, unverified)."""


class RecipientState(StrEnum):
    """Where an undelivered recipient stands. The closed ones live in the journal only."""

    QUEUED = "queued"
    HELD = "held"
    PARKED = "parked"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """One recipient of one message in a spool. `number` is unique in the spool and never reused."""

    number: int
    address: Address
    notify: str = ""
    orcpt: str = ""
    state: RecipientState = RecipientState.QUEUED
    lane: str = ""
    mailbox: str = ""
    due: float = 0.0
    """Wall-clock seconds from which on it may be tried."""
    attempts: int = 0
    clock_start: float = 0.0
    """When its retry lifetime began: receipt, or the last release."""
    unknown_since: float | None = None
    """When an authoritative source first said that nobody has this address (design promise 5)."""
    draining: bool = False
    """Released and not yet tried: goes before newer mail of its mailbox, one at a time."""
    possible_duplicate: bool = False
    """An earlier delivery ended in doubt."""
    delay_notified: bool = False
    reason: str = ""
    """Last reply or park reason, one line."""
    via: tuple[str, ...] = ()
    """As `NewRecipient.via`."""
    kept: tuple[str, ...] = ()
    """As `NewRecipient.kept`."""
    through: tuple[str, ...] = ()
    """As `NewRecipient.through`."""


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """One message in a spool, without its body. `number` is the spool's row id, `queue_id` its public name."""

    number: int
    queue_id: str
    received_at: float
    envelope: Envelope
    size: int
    header: HeaderFacts
    body_file: str = ""
    """File name below the spool's `bodies/`, or '' when the body is in the row."""
    digest: bytes = b""
    """Checksum of the body, verified before every delivery."""
    inline: bytes | None = field(default=None, repr=False, compare=False)
    """The body itself when it is small and at hand (just accepted): saves reading it back."""
    generation: int = field(default=0, repr=False, compare=False)
    """How many releases the spool had committed when this was read: an outcome older than a release yields to it."""


@dataclass(frozen=True, slots=True)
class Work:
    """A message and those of its recipients that are due together."""

    message: QueuedMessage
    recipients: tuple[QueuedRecipient, ...]
