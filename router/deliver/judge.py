"""
From a next hop's verdict to an outcome: deferred, delivered, returned or parked. Pure.

Guarantees: a refusal about a protected mailbox is parked, never returned (promise 6, mailbox definition); a message
with the null sender is parked, since nobody can be told; nothing is returned before its retry lifetime has passed
without a definite 5xx of a next hop or of an authoritative source.

On failure: nothing here fails.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from router.model.envelope import QueuedMessage, QueuedRecipient
from router.model.mailbox import Mailbox
from router.model.outcome import Disposition, Outcome
from router.model.parcel import Verdict
from router.model.reply import HopReply, Reply
from router.settings.schema import Retry

DOUBLE_BOUNCE = "undeliverable, and its sender is the null sender: nobody can be told"
UNFIT = "its store does not take such a message"


@dataclass(frozen=True, slots=True)
class Judge:
    """
    The rules with their times in seconds. `next_due(attempts, now)` is the back-off schedule; `settle(lane)` the time
    after which a delivery in doubt may be tried again.
    """

    retry: Retry
    protect: float
    next_due: Callable[[int, float], float]
    settle: Callable[[str], float]
    is_store: Callable[[str], bool]
    """Whether a lane is a store of ours: what one of those is not able to take (size, 8-bit) is no sender's fault."""

    def verdict(
        self,
        message: QueuedMessage,
        recipient: QueuedRecipient,
        verdict: Verdict,
        mailbox: Mailbox | None,
        lane: str,
        since: float,
        now: float,
        *,
        certain: bool = True,
    ) -> Outcome:
        """The outcome of one transmission; not `certain`: what is known of the mailbox is of yesterday, end nothing."""
        delays = (max(0.0, since - message.received_at), 0.0, *verdict.delays)
        base = Outcome(
            recipient=recipient.number,
            disposition=Disposition.DELIVERED,
            at=now,
            reply=verdict.reply,
            lane=lane,
            mailbox=mailbox.key if mailbox else "",
            in_doubt=verdict.in_doubt,
            since=since,
            delays=delays,
        )
        if verdict.reply.positive:
            return base
        if verdict.reply.permanent and not verdict.reply.said_by_hop and self.is_store(lane):
            return _with(base, Disposition.PARKED, note=UNFIT)
        if verdict.reply.permanent and certain:
            return self.refused(message, base, mailbox, now)
        return self.later(message, recipient, base, mailbox, now, settle=verdict.in_doubt, certain=certain)

    def refused(self, message: QueuedMessage, outcome: Outcome, mailbox: Mailbox | None, now: float) -> Outcome:
        """A definite no: back to the sender, unless the mailbox is protected or there is no sender."""
        if mailbox is not None and mailbox.protected(now, self.protect):
            began = mailbox.moved_at if mailbox.moved_at is not None else now
            until = max(began + self.protect, now + self.retry.lifetime)
            return _with(outcome, Disposition.PARKED, due=until, note="refused while its mailbox is protected")
        if not message.envelope.sender:
            return _with(outcome, Disposition.PARKED, note=DOUBLE_BOUNCE)
        return _with(outcome, Disposition.RETURNED)

    def later(
        self,
        message: QueuedMessage,
        recipient: QueuedRecipient,
        outcome: Outcome,
        mailbox: Mailbox | None,
        now: float,
        *,
        settle: bool = False,
        certain: bool = True,
    ) -> Outcome:
        """
        A temporary failure: another try, or the end of the retry lifetime.

        The end needs certainty about the mailbox: who cannot say whether it is protected must not return its mail.
        """
        protected = mailbox is not None and mailbox.protected(now, self.protect)
        over = now - recipient.clock_start >= self.retry.lifetime
        if over and certain and not protected and not settle:
            return self.refused(message, _expired(outcome), mailbox, now)
        due = self.next_due(recipient.attempts + 1, now)
        if settle:
            due = max(due, now + self.settle(outcome.lane))
        return _with(outcome, Disposition.DEFERRED, due=due)


def own_words(reply: Reply) -> HopReply:
    """A reply of ours as the reason of an outcome."""
    return HopReply(reply.code, reply.enhanced, reply.text, said_by_hop=False)


def _expired(outcome: Outcome) -> Outcome:
    reply = outcome.reply if outcome.reply.said_by_hop else replace(outcome.reply, enhanced="4.4.7")
    return replace(outcome, reply=reply, note="retry lifetime passed")


def _with(outcome: Outcome, disposition: Disposition, *, due: float = 0.0, note: str = "") -> Outcome:
    return replace(outcome, disposition=disposition, due=due, note=note or outcome.note)
