"""What the pipeline needs of its surroundings beside the stations' own ports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from router.model.envelope import QueuedMessage, QueuedRecipient
from router.model.outcome import Outcome
from router.model.parcel import Report


class Reporter(Protocol):
    """Writes the one DSN about some outcomes of one message, or None when nobody wants to know."""

    async def report(
        self, message: QueuedMessage, outcomes: Sequence[tuple[QueuedRecipient, Outcome, str]]
    ) -> Report | None:
        """The third of each tuple is the action: failed, delayed, relayed or expanded (RFC 3464 2.3.3)."""


class Trace(Protocol):
    """Told of everything that becomes of mail (delivery log, metrics, alarms). Never blocks, never raises."""

    def received(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient]) -> None: ...
    def outcome(self, message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome) -> None: ...
    def removed(self, message: QueuedMessage) -> None: ...
    def alarm(self, kind: str, key: str, text: str) -> None: ...
    def clear(self, kind: str, key: str) -> None: ...


class Signer(Protocol):
    """Our Received field with its loop marks."""

    def received_field(
        self,
        message: QueuedMessage,
        lane: str,
        recipients: Sequence[tuple[str, str]],
        forwarded: Sequence[str] = (),
    ) -> bytes:
        """
        `recipients` of one transaction: (mailbox or address key, wire address); `forwarded` are the mailboxes by
        whose forwards it goes on. Ends in CRLF.
        """


@dataclass(frozen=True, slots=True)
class Rules:
    """The configuration of a dispatcher; times in seconds."""

    max_recipients: Callable[[str], int]
    settle: Callable[[str], float]
    rest: Callable[[int], float]
    """How long a lane rests after its n-th failure in a row to reach any host."""
    delay_notice: float
    protect: float
