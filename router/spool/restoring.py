"""
Taking a message of another, damaged spool into a new one, with those of its recipients that are undelivered.

Guarantees: one transaction for the message; envelope, header facts, time of receipt and body stay as they were, the
queue-id is a new one. Recipients are queued and due now, to be routed anew, so mail of a mailbox on hold is held again;
what was parked stays parked. Their retry clock starts anew: they did not wait by their own fault.

On failure: `ValueError` for a message without recipients; nothing was inserted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from router.model.envelope import NewRecipient, QueuedMessage, QueuedRecipient, RecipientState
from router.spool import records
from router.spool.accepting import MESSAGE, RECIPIENT, StoredBody, recipient_row
from router.spool.batch import ACCEPTED, BYTES, MESSAGES, Batch
from router.spool.numbering import MAX_RECIPIENTS, make_queue_id, place_of, recipient_number

_MARK = "UPDATE recipients SET possible_duplicate = 1 WHERE id = ?"
_PLACES = "INSERT INTO expanded (message, last) VALUES (?, ?)"


@dataclass(frozen=True, slots=True)
class Restore:
    """Insert it; the answer is its new queue-id."""

    spool: int
    message: QueuedMessage
    own: int
    recipients: Sequence[QueuedRecipient]
    body: StoredBody
    at: float
    lazy: bool = False
    essential: bool = True

    def apply(self, batch: Batch) -> str:
        if not self.recipients:
            raise ValueError("a message needs recipients")
        number = batch.next_message()
        self._insert_message(batch, number)
        kept = [self._recipient(number, one) for one in self.recipients]
        rows = [recipient_row(_received(old), new, self.own) for old, new in zip(self.recipients, kept, strict=True)]
        batch.insert(RECIPIENT, rows)
        self._mark(batch, number, kept)
        batch.count(ACCEPTED, len(kept), own=self.own)
        batch.count(MESSAGES)
        batch.count(BYTES, self.body.size)
        batch.pages += self.body.size // 4096 + len(kept)
        return make_queue_id(self.spool, number)

    def _insert_message(self, batch: Batch, number: int) -> None:
        old, body = self.message, self.body
        facts = records.encode_message(old.envelope, old.header)
        at = float(old.received_at)
        crc = records.message_crc(number, at, body.size, self.own, facts, body.file, old.digest)
        sender, message_id = records.searchable(old.envelope.sender), records.searchable(old.header.message_id)
        row = (
            number, at, body.size, self.own, None, sender, message_id, facts, body.file, old.digest, crc, body.inline,
        )  # fmt: skip
        batch.insert(MESSAGE, (row,))

    def _recipient(self, message: int, old: QueuedRecipient) -> QueuedRecipient:
        parked = old.state is RecipientState.PARKED
        return QueuedRecipient(
            number=recipient_number(message, place_of(old.number)),
            address=old.address,
            state=old.state if parked else RecipientState.QUEUED,
            mailbox=old.mailbox,
            due=old.due if parked else self.at,
            clock_start=self.at,
            reason=old.reason if parked else "brought back from a damaged spool",
            possible_duplicate=old.possible_duplicate,
        )

    def _mark(self, batch: Batch, message: int, kept: Sequence[QueuedRecipient]) -> None:
        batch.change(_MARK, [(one.number,) for one in kept if one.possible_duplicate])
        last = max(place_of(one.number) for one in kept)
        if last >= MAX_RECIPIENTS:
            batch.connection.execute(_PLACES, (message, last))


def _received(old: QueuedRecipient) -> NewRecipient:
    """What was received of it, or by whose forward it was opened."""
    return NewRecipient(
        old.address, notify=old.notify, orcpt=old.orcpt, via=old.via, kept=old.kept, through=old.through
    )
