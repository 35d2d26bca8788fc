"""
What the data plane tells of its work: the log and the metrics are observers, and a fan-out is one for several.

Promises of every observer: its methods return at once, never raise, never block, and keep no message body.
"""

from collections.abc import Sequence
from typing import Protocol

from router.model.envelope import Client, QueuedMessage, QueuedRecipient
from router.model.outcome import Outcome
from router.model.reply import Reply


class Observer(Protocol):
    """Called on the event loop, after the fact it tells of is durable."""

    def received(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient]) -> None:
        """A message with these recipients was accepted (or queued by ourselves: a client without address)."""

    def rejected(
        self, client: Client, stage: str, reply: Reply, sender: str = "", recipient: str = "", helo: str = ""
    ) -> None:
        """A command was refused. `stage`: CONNECT, HELO, MAIL, RCPT, DATA, END-OF-MESSAGE."""

    def outcome(self, message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome) -> None:
        """A verdict was committed."""

    def removed(self, message: QueuedMessage) -> None:
        """The message has no recipients left."""


class Fanout:
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def received(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient]) -> None:
        for observer in self._observers:
            observer.received(message, recipients)

    def rejected(
        self, client: Client, stage: str, reply: Reply, sender: str = "", recipient: str = "", helo: str = ""
    ) -> None:
        for observer in self._observers:
            observer.rejected(client, stage, reply, sender, recipient, helo)

    def outcome(self, message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome) -> None:
        for observer in self._observers:
            observer.outcome(message, recipient, outcome)

    def removed(self, message: QueuedMessage) -> None:
        for observer in self._observers:
            observer.removed(message)
