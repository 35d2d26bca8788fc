"""
Outcomes: how a verdict about a recipient changes its row, the journal and the accounts, in one transaction.

Closing verdicts delete the recipient's row, and the message with the last of them; a forward inserts the rows of those
that come instead (`router.spool.expanding`). The others leave it:

| verdict | effect |
|---|---|
| deferred | due, attempts (+1 if counted), reason and lane are the outcome's; draining ends |
| held, parked, quarantined | the state changes; a journal row tells of it once |

Rules for verdicts that were overtaken while the delivery was under way:

- A recipient whose row is gone is skipped: settling again after an unknown commit changes nothing twice. A report is
  queued only if at least one outcome found its row.
- The mailbox was released after the message had been read (`QueuedMessage.generation`): a deferral or a hold decided
  before that release must not undo it. The recipient stays queued, draining and due now, and is routed anew.
- A deferral that was no attempt and is due at once (421 on a reused connection) leaves the recipient draining: it was
  not tried yet. One that asks to wait ends draining, so it cannot block or spin.
- A recipient that was parked or quarantined meanwhile stays so unless the verdict closes it, and gets no due time:
  what an operator parked is never revived. Only damage counts for more than parking.
- A row so damaged that it cannot be changed is passed over, with a journal row that says what became of it.

On failure: `ValueError` for a recipient of another message; nothing of the whole settlement is applied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from router.model.envelope import QueuedMessage, QueuedRecipient, Work
from router.model.outcome import Disposition, Outcome
from router.model.parcel import Report, Settled
from router.spool import records
from router.spool.accepting import accept_report, forget_message
from router.spool.batch import Batch
from router.spool.expanding import expand, forget_places
from router.spool.journal_rows import append_journal
from router.spool.leaving import moment
from router.spool.numbering import message_of

_REASON = 500
_STICKY = frozenset({"parked", "quarantined"})
"""States that only an operator, their own time or a closing verdict ends."""
_SET_ASIDE = "state IN ('parked', 'quarantined')"


@dataclass(frozen=True, slots=True)
class Settle:
    """All outcomes of one dispatch of a message, and the report that goes with them."""

    spool: int
    message: QueuedMessage
    outcomes: Sequence[Outcome]
    report: Report | None = None
    lazy: bool = True
    essential: bool = True

    @property
    def leaving(self) -> list[int]:
        """The recipients that it closes."""
        return [outcome.recipient for outcome in self.outcomes if outcome.disposition.closing]

    def apply(self, batch: Batch) -> Settled:
        """Apply; `applied` counts the outcomes that found their recipient."""
        applied = closed = 0
        opened: list[QueuedRecipient] = []
        close = partial(close_recipient, opened=opened)
        batch.read_ahead(self.leaving)
        for outcome in self.outcomes:
            if message_of(outcome.recipient) != self.message.number:
                raise ValueError(f"recipient {outcome.recipient} is not of message {self.message.queue_id}")
            change = close if outcome.disposition.closing else _keep
            done = batch.guard(outcome.recipient, partial(change, batch, self.message, outcome), None)
            if done is None:
                _note_damaged(batch, self.message, outcome)
            closed += bool(done) and outcome.disposition.closing
            applied += done is not False
        removed = bool(closed) and drop_if_done(batch, self.message.number, self.outcomes[0].at)
        if removed:
            forget_places(batch, self.message, self.leaving)
        queued: Work | None = None
        if self.report is not None and applied:
            queued = accept_report(batch, self.spool, self.report, self.outcomes[0].at)
        batch.pages += applied
        return Settled(applied, removed, queued, self._opened(batch, opened))

    def _opened(self, batch: Batch, opened: list[QueuedRecipient]) -> Work | None:
        """What forwards have opened, as if it had just been read: no release before now can be undone by it."""
        return Work(replace(self.message, generation=batch.generation), tuple(opened)) if opened else None


def close_recipient(
    batch: Batch, message: QueuedMessage, outcome: Outcome, opened: list[QueuedRecipient] | None = None
) -> bool:
    """
    End a recipient's life: row out, journal row in, counted, and in `opened` what it is exchanged for. False if it is
    gone already.
    """
    row = batch.take(outcome.recipient)
    if row is None:
        return False
    facts, address, attempts, own, lane, mailbox, clock_start = row
    lane, mailbox = outcome.lane or lane, outcome.mailbox or mailbox
    attempts += outcome.counted
    wire = records.decode_wire(facts) or address
    _append_journal(batch, message, outcome, wire, lane, mailbox, attempts)
    if outcome.opens and opened is not None:
        opened += expand(batch, message, outcome, moment(clock_start), own)
    batch.count(outcome.disposition.value, lane=lane, mailbox=mailbox, batch=records.searchable(outcome.batch), own=own)
    return True


def _note_damaged(batch: Batch, message: QueuedMessage, outcome: Outcome) -> None:
    """
    The row can be neither removed nor changed, and is passed over from now on. The journal says what became of the
    recipient; the accounts go on counting the row that is still there.
    """
    find = "SELECT facts, address FROM recipients WHERE id = ?"
    row = batch.guard(
        outcome.recipient, lambda: batch.connection.execute(find, (outcome.recipient,)).fetchone(), None
    ) or ("", "")
    noted = replace(outcome, note="; ".join(filter(None, (outcome.note, "its damaged row is still there"))))
    if outcome.opens:  # what it was to be exchanged for is not there
        noted = replace(noted, disposition=Disposition.QUARANTINED)
    wire = records.decode_wire(row[0]) or row[1]
    _append_journal(batch, message, noted, wire, outcome.lane, outcome.mailbox, 0)


def drop_if_done(batch: Batch, number: int, now: float) -> bool:
    """Delete a message without recipients, unless its body is to be kept for some time; whether none are left."""
    none_left, deleted = batch.drop(number, now)
    if deleted is not None:
        forget_message(batch, *deleted)
    return none_left


def _keep(batch: Batch, message: QueuedMessage, outcome: Outcome) -> bool:
    row = batch.connection.execute(
        "SELECT state, draining, mailbox, attempts, facts, address FROM recipients WHERE id = ?", (outcome.recipient,)
    ).fetchone()
    if row is None:
        return False
    state, draining, mailbox = row[0], row[1], row[2]
    released = any(batch.released_after(one, message.generation) for one in {mailbox, outcome.mailbox})
    match outcome.disposition:
        case Disposition.DEFERRED if released and state not in _STICKY:
            _yield_to_release(batch, outcome, draining)
        case Disposition.DEFERRED:
            _defer(batch, outcome, stay_draining=not outcome.counted and outcome.due <= outcome.at)
        case Disposition.HELD if released and state not in _STICKY:
            _yield_to_release(batch, outcome, draining)
        case _:
            _set_aside(batch, message, outcome, row)
    return True


def _defer(batch: Batch, outcome: Outcome, *, stay_draining: bool) -> None:
    batch.connection.execute(
        f"UPDATE recipients SET due = CASE WHEN {_SET_ASIDE} THEN due ELSE ? END, attempts = attempts + ?,"  # noqa: S608 - names of ours
        " reason = ?, lane = ?,"
        " mailbox = CASE WHEN ? = '' THEN mailbox ELSE ? END, unknown_since = ?,"
        " possible_duplicate = possible_duplicate | ?, delay_notified = delay_notified | ?,"
        " draining = CASE WHEN ? THEN draining ELSE 0 END WHERE id = ?",
        (
            outcome.due,
            int(outcome.counted),
            _reason(outcome),
            outcome.lane,
            outcome.mailbox,
            outcome.mailbox,
            outcome.unknown_since,
            int(outcome.in_doubt),
            int(outcome.delay_notified),
            int(stay_draining),
            outcome.recipient,
        ),
    )


def _yield_to_release(batch: Batch, outcome: Outcome, draining: int) -> None:
    """Keep it released. A recipient whose mailbox was not known yet when the release ran is released here."""
    batch.connection.execute(
        "UPDATE recipients SET state = 'queued', draining = 1, reason = ?,"
        " mailbox = CASE WHEN ? = '' THEN mailbox ELSE ? END,"
        " due = CASE WHEN ? THEN due ELSE ? END, clock_start = CASE WHEN ? THEN clock_start ELSE ? END,"
        " attempts = CASE WHEN ? THEN attempts ELSE 0 END, unknown_since = NULL,"
        " possible_duplicate = possible_duplicate | ?, delay_notified = delay_notified | ? WHERE id = ?",
        (
            _reason(outcome),
            outcome.mailbox,
            outcome.mailbox,
            draining,
            outcome.at,
            draining,
            outcome.at,
            draining,
            int(outcome.in_doubt),
            int(outcome.delay_notified),
            outcome.recipient,
        ),
    )


def _set_aside(batch: Batch, message: QueuedMessage, outcome: Outcome, row: tuple[Any, ...]) -> None:
    """Held, parked or quarantined; what an operator or a damage check set aside is not brought back to held."""
    state, _, mailbox, attempts, facts, address = row
    target = outcome.disposition.value
    sticks = state in _STICKY and outcome.disposition is not Disposition.QUARANTINED
    if sticks:
        target = state
    attempts += outcome.counted and outcome.disposition is Disposition.PARKED
    batch.connection.execute(
        "UPDATE recipients SET state = ?, draining = 0, reason = ?, attempts = ?,"
        " lane = CASE WHEN ? = '' THEN lane ELSE ? END, mailbox = CASE WHEN ? = '' THEN mailbox ELSE ? END,"
        " possible_duplicate = possible_duplicate | ?, delay_notified = delay_notified | ?,"
        " due = CASE WHEN ? THEN ? ELSE due END WHERE id = ?",
        (
            target,
            _reason(outcome),
            attempts,
            outcome.lane,
            outcome.lane,
            outcome.mailbox,
            outcome.mailbox,
            int(outcome.in_doubt),
            int(outcome.delay_notified),
            outcome.disposition is Disposition.PARKED and not sticks,
            outcome.due,
            outcome.recipient,
        ),
    )
    if target != state:
        wire = records.decode_wire(facts) or address
        _append_journal(batch, message, outcome, wire, outcome.lane, outcome.mailbox or mailbox, attempts)


def _reason(outcome: Outcome) -> str:
    text = outcome.note or str(outcome.reply)
    if outcome.note and outcome.reply.code:
        text = f"{outcome.note}: {outcome.reply}"
    return records.searchable(text[:_REASON])


def _append_journal(
    batch: Batch, message: QueuedMessage, outcome: Outcome, wire: str, lane: str, mailbox: str, attempts: int
) -> None:
    append_journal(
        batch,
        message,
        at=outcome.at,
        recipient=wire,
        disposition=outcome.disposition,
        lane=lane,
        mailbox=mailbox,
        attempts=attempts,
        reply=str(outcome.reply),
        remote=outcome.reply.remote,
        note=outcome.note,
        of_batch=outcome.batch,
        in_doubt=outcome.in_doubt,
    )
