"""
What operators ask of a spool's owner: remove, requeue, park, flush, and setting damaged mail aside.

All act on recipient numbers, in chunks of one transaction each, and are idempotent: numbers that are gone or already
as asked for are passed over and not counted. Every change has a journal row naming the actor and the reason, but for
those that merely make mail due.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from router.errors import BodyDamaged
from router.model.envelope import Client, Envelope, HeaderFacts, QueuedMessage
from router.model.outcome import Disposition, Outcome
from router.model.reply import HopReply
from router.spool import records
from router.spool.batch import Batch
from router.spool.journal_rows import append_journal
from router.spool.numbering import make_queue_id, message_of
from router.spool.settling import close_recipient, drop_if_done

_NO_REPLY = HopReply(0, "", "", said_by_hop=False)


@dataclass(frozen=True, slots=True)
class Remove:
    """Close recipients as removed by an operator; how many there were."""

    spool: int
    numbers: Sequence[int]
    at: float
    note: str
    lazy: bool = False
    essential: bool = True

    def apply(self, batch: Batch) -> int:
        outcome = Outcome(0, Disposition.REMOVED, self.at, _NO_REPLY, counted=False, note=self.note)
        count = 0
        for number in self.numbers:
            message = stored_message(batch, self.spool, message_of(number))
            one = replace(outcome, recipient=number)
            count += batch.guard(number, partial(close_recipient, batch, message, one), otherwise=False)
        for message_number in {message_of(number) for number in self.numbers}:
            drop_if_done(batch, message_number, self.at)
        return count


@dataclass(frozen=True, slots=True)
class Requeue:
    """
    Queued again, due now, with a retry clock that starts anew, from any state: the route decides again what becomes
    of each, so requeued mail of a mailbox on hold is held again.
    """

    numbers: Sequence[int]
    at: float
    only: str = ""
    """Only those in this state; '' means any."""
    lazy: bool = False
    essential: bool = True

    def apply(self, batch: Batch) -> int:
        return batch.change(
            "UPDATE recipients SET state = 'queued', draining = 0, due = ?, clock_start = ?, attempts = 0,"
            " unknown_since = NULL WHERE ? IN ('', state) AND id = ?",
            [(self.at, self.at, self.only, number) for number in self.numbers],
        )


@dataclass(frozen=True, slots=True)
class Flush:
    """Queued recipients are due now; nothing else about them changes."""

    numbers: Sequence[int]
    at: float
    lazy: bool = False
    essential: bool = True

    def apply(self, batch: Batch) -> int:
        return batch.change(
            "UPDATE recipients SET due = ? WHERE state = 'queued' AND due > ? AND id = ?",
            [(self.at, self.at, number) for number in self.numbers],
        )


@dataclass(frozen=True, slots=True)
class SetAside:
    """Parked by an operator, for good (even if it was parked for a time), or quarantined because it is damaged."""

    spool: int
    numbers: Sequence[int]
    state: Disposition
    at: float
    note: str
    lazy: bool = False
    essential: bool = True

    def apply(self, batch: Batch) -> int:
        return sum(batch.guard(number, partial(self._one, batch, number), 0) for number in self.numbers)

    def _one(self, batch: Batch, number: int) -> int:
        row = batch.connection.execute(
            "UPDATE recipients SET state = ?, draining = 0, due = 0, reason = ? WHERE id = ?"
            " AND (state <> ? OR (state = 'parked' AND due <> 0)) RETURNING facts, address, lane, mailbox, attempts",
            (self.state.value, records.searchable(self.note), number, self.state.value),
        ).fetchone()
        if row is None:
            return 0
        self._journal(batch, number, row)
        return 1

    def _journal(self, batch: Batch, number: int, row: tuple[Any, ...]) -> None:
        facts, address, lane, mailbox, attempts = row
        message = stored_message(batch, self.spool, message_of(number))
        append_journal(
            batch,
            message,
            at=self.at,
            recipient=records.decode_wire(facts) or address,
            disposition=self.state,
            lane=lane,
            mailbox=mailbox,
            attempts=attempts,
            note=self.note,
        )


def stored_message(batch: Batch, spool: int, number: int) -> QueuedMessage:
    """The message of a row as far as it can be read: an operator must be able to remove damaged mail, too."""
    row = batch.connection.execute(
        f"SELECT {records.MESSAGE_COLUMNS} FROM messages WHERE id = ?",  # noqa: S608 - columns are ours
        (number,),
    ).fetchone()
    if row is not None:
        try:
            return records.decode_message(spool, 0, row)
        except BodyDamaged:
            pass
    return QueuedMessage(number, make_queue_id(spool, number), 0.0, Envelope("", Client("")), 0, HeaderFacts())
