"""
Which senders want to hear what, and the values that a delivery status notification (RFC 3464) is made of.

Guarantees: nothing is ever sent about a message with the null sender (RFC 5321 4.5.5), and NOTIFY is obeyed as
RFC 3461 4.1 has it; mail that says it was submitted by a program is answered only when NOTIFY asks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from router.model.envelope import QueuedMessage, QueuedRecipient
from router.model.reply import HopReply


class Notice(StrEnum):
    """What a notice says about one recipient; the value is the Action of RFC 3464 2.3.3."""

    FAILURE = "failed"
    DELAY = "delayed"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    SUCCESS = "delivered"

    @property
    def status_class(self) -> str:
        """First digit of the Status field."""
        return {Notice.FAILURE: "5", Notice.DELAY: "4"}.get(self, "2")


@dataclass(frozen=True, slots=True)
class Told:
    """One recipient of a notice: what became of it, by whose words, at what wall-clock time (seconds)."""

    recipient: QueuedRecipient
    notice: Notice
    reply: HopReply
    at: float
    retry_until: float | None = None
    """For DELAY: when the last try will be."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes the notice: the name in From, Message-ID and Reporting-MTA."""

    hostname: str


def wanted(notify: str, sender: str, notice: Notice, *, auto_submitted: bool = False) -> bool:
    """
    Whether `sender` is to be told; `notify` is the RCPT parameter as sent, '' when it was not given.

    Without NOTIFY failures and delays are told, successes are not (RFC 3461 4.1: the choice is the relay's).
    """
    if not sender:
        return False
    asked = {word.strip().upper() for word in notify.split(",")} - {""}
    if "NEVER" in asked:
        return False
    if not asked:
        return notice in (Notice.FAILURE, Notice.DELAY) and not auto_submitted
    keyword = {Notice.FAILURE: "FAILURE", Notice.DELAY: "DELAY"}.get(notice, "SUCCESS")
    return keyword in asked


def told_to_sender(message: QueuedMessage, items: Sequence[Told]) -> tuple[Told, ...]:
    """Those of `items` that the sender of `message` wants to hear of."""
    return tuple(
        item
        for item in items
        if wanted(
            item.recipient.notify,
            message.envelope.sender,
            item.notice,
            auto_submitted=message.header.auto_submitted,
        )
    )
