"""
Conclusions: what a dispatch ends with for each recipient, committed with its journal row and the DSN it calls for.

Guarantees: outcomes and the report about them are one transaction, so a return without its DSN, or two DSNs, cannot
be. A recipient is let go (`Claims`) only after its outcome has committed.

On failure: a commit that fails is repeated until it succeeds; meanwhile the recipient stays claimed, so that nobody
else delivers it again. A report that cannot be written does not keep outcomes from being committed; what would have
been returned without a word to its sender is parked instead.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from router.deliver.claims import Claims
from router.deliver.judge import DOUBLE_BOUNCE, UNFIT, Judge, own_words
from router.deliver.lanes import ROUTE_LANE
from router.errors import BodyDamaged, SluiceError
from router.model.envelope import QueuedMessage, QueuedRecipient, Work
from router.model.mailbox import Mailbox
from router.model.outcome import Disposition, Outcome
from router.model.parcel import Report, Settled, Verdict
from router.model.reply import HopReply, Reply
from router.model.route import Deliver, Expand, Held, Later, Park, Refuse
from router.pipeline.expansion import described, openings, wants_success
from router.pipeline.plan import Plan, Routed
from router.pipeline.ports import Reporter, Rules, Trace
from router.pipeline.releases import Releases
from router.ports import Clock, Queue
from router.report.alarms import AlarmKind
from router.route.replies import BAD_ROUTE_DATA, LOOKUP_FAILED

log = logging.getLogger(__name__)

_COMMIT_RETRY = 1.0
MOST_OPENED = 1000
"""Recipients that forwards open in one transaction, as far as it is not one recipient's; others wait for it."""
POSSIBLE_DUPLICATE = "possible duplicate"
"""Of a delivery whose forerunner ended in doubt (barrier rule 7): in the journal and the log."""
_DOUBT = (BAD_ROUTE_DATA, LOOKUP_FAILED)
"""Data that make no sense, and a lookup that failed: they never end anything (promise 5)."""
_INTERRUPTED = Reply(451, "4.3.2", "Interrupted too often, will be tried again")

Concluded = tuple[QueuedRecipient, Outcome, str]
"""A recipient, its outcome, and the DSN action it calls for: '', failed, delayed, relayed or expanded."""


class Concluder:
    """Builds and commits outcomes for one spool; `attach` before anything starts."""

    def __init__(
        self,
        queue: Queue,
        judge: Judge,
        rules: Rules,
        reporter: Reporter,
        trace: Trace,
        clock: Clock,
        claims: Claims,
    ) -> None:
        self._queue = queue
        self._judge = judge
        self._rules = rules
        self._reporter = reporter
        self._trace = trace
        self._clock = clock
        self._claims = claims
        self._releases: Releases
        self._offer: Callable[[Work], None]

    def attach(self, releases: Releases) -> None:
        self._releases = releases

    def hand_to(self, offer: Callable[[Work], None]) -> None:
        """Who delivers what forwards have opened; the recipients are claimed."""
        self._offer = offer

    def use(self, judge: Judge, rules: Rules, reporter: Reporter) -> None:
        """Judge by another configuration from now on."""
        self._judge = judge
        self._rules = rules
        self._reporter = reporter

    async def commit(self, message: QueuedMessage, concluded: Sequence[Concluded]) -> None:
        """Commit outcomes, with the DSN they call for in the same transaction; then let the recipients go."""
        if not concluded:
            return
        while True:
            try:
                report = None
                if wanted := [one for one in concluded if one[2]]:
                    report, concluded = await self._report(message, concluded, wanted)
                outcomes = [outcome for _, outcome, _ in concluded]
                urgent = self._releases.urgent([recipient for recipient, _, _ in concluded])
                settled = await self._settle(message, outcomes, report, urgent=urgent)
                break
            except SluiceError as error:
                log.warning("outcomes of %s cannot be committed yet: %s", message.queue_id, error)
                self._trace.alarm(AlarmKind.SPOOL_ERROR, message.queue_id, str(error))
                await asyncio.sleep(_COMMIT_RETRY)
        for recipient, outcome, _ in concluded:
            self._trace.outcome(message, recipient, outcome)
        if settled.removed:
            self._trace.removed(message)
        if settled.report is not None:
            self._trace.received(settled.report.message, settled.report.recipients)
        self._claims.give_back([outcome.recipient for outcome in outcomes])
        held = [outcome.mailbox for outcome in outcomes if outcome.disposition is Disposition.HELD]
        if held:
            self._releases.settled_as_held(held)

    async def _settle(
        self, message: QueuedMessage, outcomes: Sequence[Outcome], report: Report | None, *, urgent: bool
    ) -> Settled:
        if not any(outcome.opens for outcome in outcomes):
            return await self._queue.settle(message, outcomes, report, urgent=urgent)
        with self._claims.reading() as began:
            settled = await self._queue.settle(message, outcomes, report, urgent=urgent)
            # Between the commit and now the feeder may have read and even delivered the new rows.
            if settled.opened is not None:
                self._begin(settled.opened, began)
        return settled

    def _begin(self, opened: Work, began: int) -> None:
        """Begin with what forwards have opened. The release of a mailbox waits for the copy of what it released."""
        for one in opened.recipients:
            if one.draining:  # released for another mailbox on the way, whose release does not look for it
                self._releases.arrived(one.mailbox)
        for work in self._claims.fresh([opened], began):
            self._claims.take(one.number for one in work.recipients)
            self._offer(work)

    async def _report(
        self, message: QueuedMessage, concluded: Sequence[Concluded], wanted: Sequence[Concluded]
    ) -> tuple[Report | None, Sequence[Concluded]]:
        """The DSN that is called for, and what is concluded after all."""
        try:
            return await self._reporter.report(message, wanted), concluded
        except SluiceError:
            raise
        except Exception as error:
            # Losing the outcomes of a delivery because of its notice would deliver it again.
            log.exception("the notice about %s cannot be written", message.queue_id)
            self._trace.alarm(AlarmKind.INTERNAL, message.queue_id, f"no notice: {type(error).__name__}")
            return None, [_unreported(*one) for one in concluded]

    def without_delivery(self, message: QueuedMessage, one: Routed) -> Concluded:
        """Held, parked, refused or put off by our own decision."""
        recipient, route, now = one.recipient, one.route, self._clock.wall()
        match route:
            case Held():
                reply = HopReply(250, "2.0.0", "held", said_by_hop=False)
                outcome = self._outcome(message, recipient, Disposition.HELD, reply, now)
                note = f"hold {route.hold.number}"
                return recipient, replace(outcome, mailbox=route.mailbox, note=note, batch=route.hold.batch), ""
            case Park():
                reply = HopReply(450, "4.4.6", route.reason, said_by_hop=False)
                outcome = self._outcome(message, recipient, Disposition.PARKED, reply, now)
                self._trace.alarm(AlarmKind.LOOP, message.queue_id, f"{recipient.address.key}: {route.reason}")
                return recipient, replace(outcome, mailbox=route.mailbox, note=route.reason), ""
            case Refuse():
                outcome = self._outcome(message, recipient, Disposition.RETURNED, own_words(route.reply), now)
                return self._judged(message, recipient, self._judge.refused(message, outcome, one.judged, now))
            case Expand():
                return self._forwarded(message, recipient, route, now)
            case Later() if one.found is None or route.reply in _DOUBT:
                # Without a lane, it is due at once when a directory is followed again.
                return self.put_off(message, recipient, route.reply, ROUTE_LANE, mailbox=route.mailbox)
            case Later():
                _, outcome, action = self.deferral(message, recipient, one.judged, route.reply, recipient.lane)
                since = (recipient.unknown_since or now) if route.unknown else None
                return recipient, replace(outcome, unknown_since=since), action
            case Deliver():
                raise AssertionError("a delivery among the recipients that are not delivered")

    def _forwarded(self, message: QueuedMessage, recipient: QueuedRecipient, route: Expand, now: float) -> Concluded:
        """Exchanged for others; without any, a copy of it was kept before it came back."""
        opens = openings(recipient, route)
        disposition = Disposition.FORWARDED if opens else Disposition.MERGED
        reply = HopReply(250, "2.1.5", "forwarded", said_by_hop=False)
        outcome = self._outcome(message, recipient, disposition, reply, now)
        note = described(route)
        outcome = replace(outcome, mailbox=route.mailbox, lane="", note=note, opens=opens, counted=False)
        return recipient, outcome, "expanded" if len(opens) > 1 and wants_success(recipient) else ""

    def quarantined(self, message: QueuedMessage, recipient: QueuedRecipient, error: BodyDamaged) -> Concluded:
        """Its body does not add up: set aside, never delivered, never deleted."""
        reply = own_words(error.reply)
        return recipient, self._outcome(message, recipient, Disposition.QUARANTINED, reply, self._clock.wall()), ""

    def moved(self, recipient: QueuedRecipient, lane: str) -> Concluded:
        """Still queued, now in the row of another lane; no attempt."""
        return recipient, _moved(recipient, lane, self._clock.wall()), ""

    def verdict(
        self, message: QueuedMessage, one: Routed, verdict: Verdict, lane: str, since: float, *, certain: bool = True
    ) -> Concluded:
        """
        The outcome of one transmission that began at `since`; not `certain`: its mailbox has changed meanwhile, so a
        failure ends nothing, and the next try is routed anew.
        """
        now = self._clock.wall()
        mailbox = one.judged
        outcome = self._judge.verdict(message, one.recipient, verdict, mailbox, lane, since, now, certain=certain)
        if not certain and outcome.disposition is Disposition.DEFERRED:
            # The row must not name the lane of a former home: that lane may be paused.
            return one.recipient, replace(outcome, lane=ROUTE_LANE), ""
        recipient, outcome, action = self._judged(message, one.recipient, outcome, mailbox)
        if verdict.relayed and outcome.disposition is Disposition.DELIVERED:
            action = "relayed"
        if recipient.possible_duplicate and outcome.disposition is Disposition.DELIVERED:
            outcome = replace(outcome, note=POSSIBLE_DUPLICATE)
        return recipient, outcome, action

    def _judged(
        self, message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome, mailbox: Mailbox | None = None
    ) -> Concluded:
        """With the DSN that the outcome calls for, and the alarm for a refusal that was parked."""
        if outcome.disposition is Disposition.DELIVERED:
            return recipient, outcome, ""
        if outcome.disposition is Disposition.RETURNED:
            return recipient, outcome, "failed"
        if outcome.disposition is Disposition.PARKED and outcome.note != DOUBLE_BOUNCE:
            key = outcome.mailbox or recipient.address.key
            kind = AlarmKind.UNFIT if outcome.note == UNFIT else AlarmKind.PROTECTED_REFUSAL
            self._trace.alarm(kind, key, f"{message.queue_id}: {outcome.reply}")
        late = outcome.at - recipient.clock_start >= self._rules.delay_notice and not recipient.delay_notified
        protected = mailbox is not None and mailbox.protected(outcome.at, self._rules.protect)
        if outcome.disposition is Disposition.DEFERRED and late and not protected and not recipient.draining:
            return recipient, replace(outcome, delay_notified=True), "delayed"
        return recipient, outcome, ""

    def not_now(self, message: QueuedMessage, recipient: QueuedRecipient) -> Concluded:
        """Put off without counting an attempt."""
        _, outcome, _ = self.put_off(message, recipient, _INTERRUPTED, recipient.lane)
        return recipient, replace(outcome, counted=False), ""

    def put_off(
        self,
        message: QueuedMessage,
        recipient: QueuedRecipient,
        reply: Reply,
        lane: str,
        *,
        mailbox: str = "",
        in_doubt: bool = False,
    ) -> Concluded:
        """A temporary failure while nothing is known for certain of its mailbox: it never ends anything."""
        now = self._clock.wall()
        base = self._outcome(message, recipient, Disposition.DEFERRED, own_words(reply), now)
        base = replace(base, lane=lane, mailbox=mailbox or recipient.mailbox, in_doubt=in_doubt)
        outcome = self._judge.later(message, recipient, base, None, now, settle=in_doubt, certain=False)
        return recipient, outcome, ""

    def deferral(
        self, message: QueuedMessage, recipient: QueuedRecipient, mailbox: Mailbox | None, reply: Reply, lane: str
    ) -> Concluded:
        """A temporary failure in our own words; after the retry lifetime the end of the matter."""
        now = self._clock.wall()
        base = self._outcome(message, recipient, Disposition.DEFERRED, own_words(reply), now)
        base = replace(base, lane=lane, mailbox=mailbox.key if mailbox is not None else recipient.mailbox)
        return self._judged(message, recipient, self._judge.later(message, recipient, base, mailbox, now), mailbox)

    def _outcome(
        self,
        message: QueuedMessage,
        recipient: QueuedRecipient,
        disposition: Disposition,
        reply: HopReply,
        now: float,
    ) -> Outcome:
        return Outcome(
            recipient=recipient.number,
            disposition=disposition,
            at=now,
            reply=reply,
            lane=recipient.lane,
            mailbox=recipient.mailbox,
            since=now,
            delays=(max(0.0, now - message.received_at), 0.0, 0.0, 0.0),
        )


def _unreported(recipient: QueuedRecipient, outcome: Outcome, _action: str) -> Concluded:
    if outcome.disposition is not Disposition.RETURNED:
        return recipient, replace(outcome, delay_notified=False), ""
    note = "refused, and the notice to its sender cannot be written"
    return recipient, replace(outcome, disposition=Disposition.PARKED, note=note), ""


def _moved(recipient: QueuedRecipient, lane: str, now: float) -> Outcome:
    """Still queued, in the row of another lane; no attempt."""
    reply = HopReply(250, "2.0.0", "waits for its next hop", said_by_hop=False)
    return Outcome(
        recipient.number,
        Disposition.DEFERRED,
        now,
        reply,
        lane=lane,
        mailbox=recipient.mailbox,
        due=now,
        counted=False,
        unknown_since=recipient.unknown_since,
        since=now,
    )


def merged(concluded: Sequence[Concluded], plan: Plan) -> list[Concluded]:
    """A delivered recipient's twins went with it: they are merged, so that the accounts count one delivery."""
    twins = {one.recipient.number: here.routed.recipient.number for here in plan.here for one in here.twins}
    if not twins:
        return list(concluded)
    result = []
    for recipient, outcome, action in concluded:
        first = twins.get(recipient.number)
        if first is not None and outcome.disposition is Disposition.DELIVERED:
            note = f"into recipient {first}"
            result.append((recipient, replace(outcome, disposition=Disposition.MERGED, note=note), action))
        else:
            result.append((recipient, outcome, action))
    return result


def portions(concluded: Sequence[Concluded]) -> Iterator[list[Concluded]]:
    """In transactions of bounded size. One that fails, for want of numbers in the message, keeps up its own only."""
    part: list[Concluded] = []
    opens = 0
    for one in concluded:
        opens += len(one[1].opens)
        if part and opens > MOST_OPENED:
            yield part
            part, opens = [], len(one[1].opens)
        part.append(one)
    if part:
        yield part
