"""
The delivery log as an observer: one record per message received, command refused, verdict and removal.

Guarantees: on the event loop a call copies a few references into a small record and queues it; formatting and
writing happen in the sink's thread. Bodies are never kept. Never raises, never blocks; see `log_sink` for a sink
that stalls or fails.
"""

from collections.abc import Callable, Sequence

from router.model.envelope import Client, QueuedMessage, QueuedRecipient, RecipientState
from router.model.outcome import Outcome
from router.model.reply import Reply
from router.report.log_record import Accepted, Record, Rejected, Removed, Settled


class DeliveryLog:
    """`put` takes records (`SinkThread.put`), `wall` is the clock's wall time in seconds."""

    def __init__(self, put: Callable[[Record], None], wall: Callable[[], float]) -> None:
        self._put = put
        self._wall = wall

    def received(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient]) -> None:
        envelope = message.envelope
        held = tuple(r.address.wire for r in recipients if r.state is RecipientState.HELD)
        self._put(
            Accepted(
                message.received_at,
                message.queue_id,
                envelope.client,
                message.header.message_id,
                envelope.sender,
                message.size,
                len(recipients),
                held,
            )
        )

    def rejected(
        self, client: Client, stage: str, reply: Reply, sender: str = "", recipient: str = "", helo: str = ""
    ) -> None:
        self._put(Rejected(self._wall(), client, stage, reply, sender, recipient, helo))

    def outcome(self, message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome) -> None:
        envelope = message.envelope
        self._put(
            Settled(
                message.queue_id,
                envelope.client,
                envelope.sender,
                recipient.address.wire,
                message.received_at,
                outcome,
            )
        )

    def removed(self, message: QueuedMessage) -> None:
        self._put(Removed(self._wall(), message.queue_id))
