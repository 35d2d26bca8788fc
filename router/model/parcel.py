"""What a sender is given to transmit, and what it answers for each recipient."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from router.model.envelope import Envelope, NewRecipient, Work
from router.model.reply import HopReply


@dataclass(frozen=True, slots=True)
class ParcelRecipient:
    """One RCPT. `number` is the spool's recipient number, `wire` the text between the brackets."""

    number: int
    wire: str
    notify: str = ""
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Parcel:
    """
    One message for one next hop: MAIL FROM, its RCPTs and an octet stream.

    `prefix` is our Received field with its CRLF; `blocks` yields the stored body (canonical CRLF, not dot-stuffed)
    and may be called again for a second connection; `size` counts prefix and body.
    """

    queue_id: str
    sender: str
    recipients: tuple[ParcelRecipient, ...]
    prefix: bytes
    size: int
    blocks: Callable[[], AsyncIterator[bytes]]
    inline: bytes | None = None
    """The whole body when it is small and at hand; then `blocks` is not needed."""
    body_type: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What the next hop said about one recipient.

    `in_doubt`: the connection ended after the final dot without a reply. `no_attempt`: not to be counted (a 421 on
    a reused connection, a cancelled gate). `relayed`: the hop offers no DSN though NOTIFY=SUCCESS was asked
    (RFC 3461 5.2.2). `unreachable`: no host of the lane could be talked to, so the lane should rest. `split`: 452 at
    RCPT after others were taken: try it again at once in a transaction of its own.
    `delays`: seconds for connection set-up and for transmission.
    """

    recipient: int
    reply: HopReply
    in_doubt: bool = False
    no_attempt: bool = False
    relayed: bool = False
    unreachable: bool = False
    split: bool = False
    delays: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Report:
    """A message of our own (a DSN), queued in the transaction that commits the outcomes it reports."""

    envelope: Envelope
    recipient: NewRecipient
    content: bytes
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """
    What a commit of outcomes did beside them: whether the message is gone, the report that was queued, and the
    recipients that forwards have opened.
    """

    applied: int
    removed: bool = False
    report: Work | None = None
    opened: Work | None = None
