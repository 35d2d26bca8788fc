"""
Keeping a message: the operation that inserts a message with its recipients, for clients and for reports of our own.

Guarantees: message, recipients, the journal rows of those held from the start, and the account of accepted
recipients are one transaction. A hold that ended while the message was on its way in is not believed.

On failure: `ValueError` for an impossible number of recipients; nothing was inserted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from router.model.envelope import (
    Envelope,
    HeaderFacts,
    NewRecipient,
    QueuedMessage,
    QueuedRecipient,
    RecipientState,
    Work,
)
from router.model.outcome import Disposition
from router.model.parcel import Report
from router.spool import records
from router.spool.batch import ACCEPTED, BYTES, MESSAGES, Batch
from router.spool.bulk import Insert
from router.spool.journal_rows import append_journal
from router.spool.numbering import MAX_RECIPIENTS, make_queue_id, recipient_number

MESSAGE = Insert(
    "INSERT INTO messages (id, received_at, size, own, keep_until, sender, message_id, facts, body_file, digest, crc,"
    " body)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
RECIPIENT = Insert(
    "INSERT INTO recipients (id, state, lane, mailbox, due, attempts, clock_start, unknown_since, draining,"
    " possible_duplicate, delay_notified, own, reason, address, facts, crc)",
    "(?, ?, ?, ?, ?, 0, ?, NULL, ?, 0, 0, ?, ?, ?, ?, ?)",
)


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A body ready for its row: in memory (`inline`), or durable under its final name (`file`, `digest`)."""

    size: int
    inline: bytes | None
    file: str = ""
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Accept:
    """Insert a message and its recipients. A hold that ended after `generation` is no longer believed."""

    spool: int
    envelope: Envelope
    recipients: Sequence[NewRecipient]
    body: StoredBody
    header: HeaderFacts
    received_at: float
    generation: int = 0
    keep: float = 0.0
    own: bool = False
    lazy: bool = False
    essential: bool = False

    def apply(self, batch: Batch) -> Work:
        if not 0 < len(self.recipients) <= MAX_RECIPIENTS:
            raise ValueError("a message needs 1 to 32768 recipients")
        message = self._insert_message(batch)
        recipients = tuple(self._recipient(batch, message, place) for place in range(len(self.recipients)))
        own = int(self.own)
        rows = [recipient_row(new, one, own) for new, one in zip(self.recipients, recipients, strict=True)]
        batch.insert(RECIPIENT, rows)
        for one in recipients:
            if one.state is RecipientState.HELD:
                self._append_held(batch, message, one)
        batch.count(ACCEPTED, len(recipients), own=int(self.own))
        batch.count(MESSAGES)
        batch.count(BYTES, self.body.size)
        batch.pages += self.body.size // 4096 + len(recipients) if self.body.inline is not None else len(recipients)
        return Work(message, recipients)

    def _insert_message(self, batch: Batch) -> QueuedMessage:
        number, body, own = batch.next_message(), self.body, int(self.own)
        digest = body.digest if body.inline is None else hashlib.sha256(body.inline).digest()
        facts = records.encode_message(self.envelope, self.header)
        crc = records.message_crc(number, float(self.received_at), body.size, own, facts, body.file, digest)
        row = (
            number,
            float(self.received_at),
            body.size,
            own,
            self.received_at + self.keep if self.keep > 0 else None,
            records.searchable(self.envelope.sender),
            records.searchable(self.header.message_id),
            facts,
            body.file,
            digest,
            crc,
            body.inline,
        )
        batch.insert(MESSAGE, (row,))
        return QueuedMessage(
            number=number,
            queue_id=make_queue_id(self.spool, number),
            received_at=self.received_at,
            envelope=self.envelope,
            size=body.size,
            header=self.header,
            body_file=body.file,
            digest=digest,
            inline=body.inline,
            generation=self.generation,
        )

    def _recipient(self, batch: Batch, message: QueuedMessage, place: int) -> QueuedRecipient:
        new = self.recipients[place]
        released = new.held and batch.released_after(new.mailbox, self.generation)
        held = new.held and not released
        return QueuedRecipient(
            number=recipient_number(message.number, place),
            address=new.address,
            notify=new.notify,
            orcpt=new.orcpt,
            state=RecipientState.HELD if held else RecipientState.QUEUED,
            lane=new.hint,
            mailbox=new.mailbox,
            due=self.received_at,
            clock_start=self.received_at,
            draining=released or (new.draining and not held),
            reason="mailbox on hold" if held else "",
            via=new.via,
            kept=new.kept,
            through=new.through,
        )

    def _append_held(self, batch: Batch, message: QueuedMessage, one: QueuedRecipient) -> None:
        append_journal(
            batch,
            message,
            at=self.received_at,
            recipient=one.address.wire,
            disposition=Disposition.HELD,
            lane=one.lane,
            mailbox=one.mailbox,
            attempts=0,
            note=one.reason,
        )


def recipient_row(new: NewRecipient, one: QueuedRecipient, own: int) -> tuple[object, ...]:
    """The row of a recipient, for `RECIPIENT`."""
    facts = records.encode_recipient(new)
    return (
        one.number,
        one.state.value,
        one.lane,
        one.mailbox,
        one.due,
        one.clock_start,
        int(one.draining),
        own,
        one.reason,
        records.searchable(new.address.key),
        facts,
        records.recipient_crc(one.number, own, facts),
    )


def accept_report(batch: Batch, spool: int, report: Report, at: float) -> Work:
    """Queue a message of our own within the transaction of the outcomes it reports."""
    return Accept(
        spool=spool,
        envelope=report.envelope,
        recipients=(report.recipient,),
        body=StoredBody(len(report.content), report.content),
        header=HeaderFacts(message_id=report.message_id, auto_submitted=True),
        received_at=at,
        own=True,
    ).apply(batch)


def forget_message(batch: Batch, file: str, size: int) -> None:
    """Account for a message row that was deleted, and unlink its file once that has committed."""
    batch.count(MESSAGES, -1)
    batch.count(BYTES, -size)
    if file:
        batch.unlink.append(file)
