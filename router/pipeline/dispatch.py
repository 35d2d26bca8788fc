"""
Dispatch: the one function through which every delivery goes, first try, retry, restart, release, flush and adoption.

Guarantees: the route is decided and the delivery registered in one step without an await (`_decide`, barrier rule 1);
nothing is sent for a recipient without that registration; it ends when the outcome has committed, or, in doubt, after
the store's settle time. Each outcome is journalled in the transaction that makes it true.

On failure: a recipient without a committed outcome stays in the spool as it was. A commit that fails is repeated
until it succeeds, with the delivery still registered: forgetting it would deliver twice, or make a barrier lie. For
the same reason a delivery that is cut off after its final dot stays registered until the process ends.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from router.deliver.claims import Claims
from router.deliver.inflight import IN_DOUBT, Entry, InFlight
from router.deliver.lanes import ROUTE_LANE, Lanes
from router.deliver.place import Place
from router.errors import BodyDamaged, LookupFailed, reply_for
from router.model.address import Address
from router.model.envelope import QueuedMessage, QueuedRecipient, Work
from router.model.parcel import Parcel, ParcelRecipient, Verdict
from router.model.reply import Reply
from router.model.route import Deliver, DispatchFacts, Held, Later
from router.pipeline.chain import addressed, on_behalf, passed
from router.pipeline.conclude import Concluded, Concluder, merged, portions
from router.pipeline.custody import Custody
from router.pipeline.expansion import original
from router.pipeline.plan import Here, Plan, Routed, make_plan, named
from router.pipeline.ports import Rules, Signer, Trace
from router.pipeline.reachability import Reachability
from router.pipeline.releases import Releases
from router.pipeline.trouble import note_lookup, note_route
from router.ports import Classifier, Clock, Queue, Router, Sender
from router.report.alarms import AlarmKind

log = logging.getLogger(__name__)

_OVERTAKEN = 8
"""How often changes may overtake the lookups of one dispatch before it waits for its next turn."""
_ROUNDS = 12
"""How often one dispatch may begin again without getting anywhere before it is put off."""
_SET_ASIDE = 60.0
"""Seconds until recipients that could not even be put off are given back: less would spin at what is wrong."""
_NO_FACTS = DispatchFacts()


class Dispatcher:
    """Delivers one spool's mail. Event-loop thread only; `attach` before anything starts."""

    def __init__(
        self,
        classifier: Classifier,
        router: Router,
        queue: Queue,
        senders: Callable[[str], Sender],
        concluder: Concluder,
        rules: Rules,
        signer: Signer,
        trace: Trace,
        clock: Clock,
        claims: Claims,
        inflight: InFlight,
    ) -> None:
        self._classifier = classifier
        self._router = router
        self._queue = queue
        self._senders = senders
        self._concluder = concluder
        self._rules = rules
        self._signer = signer
        self._trace = trace
        self._clock = clock
        self._claims = claims
        self._inflight = inflight
        self._lanes: Lanes
        self._releases: Releases
        self._behind: Callable[[str], None]
        self._reachability: Reachability
        self.interrupted = False
        """A stop has cut off a delivery after its final dot: this incarnation did not end cleanly."""

    def attach(self, lanes: Lanes, releases: Releases, behind: Callable[[str], None]) -> None:
        """Lanes and releases call the dispatcher and the other way round."""
        self._lanes = lanes
        self._reachability = Reachability(lanes, self._trace)
        self._releases = releases
        self._behind = behind
        self._concluder.hand_to(self.offer)

    def use(self, router: Router, rules: Rules, signer: Signer) -> None:
        """Decide by another configuration from now on."""
        self._router = router
        self._rules = rules
        self._signer = signer

    def offer(self, work: Work) -> None:
        """Claimed mail, just accepted or handed over: to its lane, or back to the spool until there is room."""
        lane = work.recipients[0].lane
        if not self._lanes.offer(lane, work):
            self._claims.give_back((r.number for r in work.recipients), tried=False)
            self._behind(lane)

    def by_route(self, work: Work) -> tuple[str, Work]:
        """
        The lane that this one recipient belongs to as far as it is known now, and the work in that lane's name: it
        spares a dispatch that only hands over. `ROUTE_LANE` when it takes more than a look. Decides nothing.
        """
        (recipient,) = work.recipients
        try:
            one = self._route(recipient, work.message, {}, self._clock.wall())
        except Exception:  # noqa: BLE001 - the dispatch meets it again, and knows what to do
            return ROUTE_LANE, work
        if not isinstance(one.route, Deliver):
            return ROUTE_LANE, work
        lane = one.route.lane
        return lane, Work(work.message, (replace(named(one), lane=lane),))

    async def dispatch(self, lane: str, work: Work, place: Place) -> None:
        """Deliver, keep or give up these claimed recipients; on return each has an outcome or another lane."""
        custody = Custody(work.recipients, place.leave)
        try:
            await self._dispatch(lane, work, custody)
        except Exception as error:  # noqa: BLE001 - whatever it was, the mail must stay queued
            await self._put_off(lane, work, custody, error)

    async def failed(self, lane: str, work: Work, error: BaseException) -> None:
        """An error of ours before these recipients were dispatched."""
        await self._put_off(lane, work, Custody(work.recipients), error)

    async def _dispatch(self, lane: str, work: Work, custody: Custody) -> None:
        message, left, stuck = work.message, work.recipients, 0
        while left and stuck < _ROUNDS:
            before = len(left)
            failures = await self._learn(left)
            if self._claims.calling:
                left = self._keep(lane, left, custody)
            plan, entry = self._decide(lane, message, left, failures)
            left = await self._carry_out(lane, message, plan, entry, custody)
            stuck = 0 if len(left) < before else stuck + 1
        if left:
            await self._commit(message, [self._concluder.not_now(message, r) for r in left], custody)

    def _keep(self, lane: str, left: tuple[QueuedRecipient, ...], custody: Custody) -> tuple[QueuedRecipient, ...]:
        """Without what an operator has called back: that goes back, in one step with the decision on the others."""
        back = [one for one in left if self._claims.called_back(one.number)]
        self._claims.give_back((one.number for one in back), tried=False)
        custody.let_go(back)
        if back:
            self._behind(lane)
        return tuple([one for one in left if one not in back])

    async def _put_off(self, lane: str, work: Work, custody: Custody, error: BaseException) -> None:
        """An error of ours: what is still in our hands is put off, so that one message cannot spin."""
        message = work.message
        log.error("dispatch of %s on %s failed", message.queue_id, lane or "(no lane)", exc_info=error)
        self._trace.alarm(AlarmKind.INTERNAL, message.queue_id, f"dispatch failed: {type(error).__name__}")
        reply, mine = reply_for(error), [r for r in work.recipients if r.number in custody.own]
        concluded = [self._concluder.put_off(message, r, reply, lane, in_doubt=r.number in custody.sent) for r in mine]
        try:
            await self._commit(message, concluded, custody)
        except Exception:
            log.exception("%s could not be put off and waits in memory", message.queue_id)
            numbers = tuple([r.number for r in mine])
            asyncio.get_running_loop().call_later(_SET_ASIDE, self._claims.give_back, numbers)
            custody.let_go(mine)

    async def _commit(self, message: QueuedMessage, concluded: Sequence[Concluded], custody: Custody) -> None:
        await self._concluder.commit(message, concluded)
        custody.let_go([recipient for recipient, _, _ in concluded])

    async def _commit_rest(self, lane: str, message: QueuedMessage, rest: Sequence[Routed], custody: Custody) -> None:
        for part in portions([self._concluder.without_delivery(message, one) for one in rest]):
            if self._claims.calling:
                kept = {one.number for one in self._keep(lane, tuple([one for one, _, _ in part]), custody)}
                part = [one for one in part if one[0].number in kept]  # noqa: PLW2901 - the others are not ours now
            mine = tuple([one for one, _, _ in part])
            try:
                with self._claims.ending([one.number for one in mine]):
                    await self._commit(message, part, custody)
            except Exception as error:  # noqa: BLE001 - what is wrong with these is nothing for the others to wait for
                await self._put_off(lane, Work(message, mine), custody, error)

    # -- deciding ---------------------------------------------------------------------------------------------

    async def _learn(self, recipients: Sequence[QueuedRecipient]) -> dict[str, Reply]:
        """Ask the sources for what is not known; the replies of lookups that failed, by address key."""
        failures: dict[str, Reply] = {}
        for _ in range(_OVERTAKEN):
            unknown: dict[str, Address] = {
                one.key: one
                for one in addressed(recipients)
                if self._classifier.known(one) is None and one.key not in failures
            }
            if not unknown:
                break
            answers = await asyncio.gather(
                *(self._classifier.classify(address) for address in unknown.values()), return_exceptions=True
            )
            for key, answer in zip(unknown, answers, strict=True):
                if isinstance(answer, BaseException):
                    failures[key] = reply_for(answer)
                    note_lookup(self._trace, key, answer)
        return failures

    def _decide(
        self, lane: str, message: QueuedMessage, recipients: Sequence[QueuedRecipient], failures: Mapping[str, Reply]
    ) -> tuple[Plan, Entry | None]:
        """
        Decide every route by the state of this moment, and register what will be sent.

        One synchronous step: with an await between decision and registration, a hold could be acknowledged in
        between, and the message would be sent all the same (barrier rule 1).
        """
        now = self._clock.wall()
        routed = [self._route(recipient, message, failures, now) for recipient in recipients]
        plan = make_plan(lane, routed, self._rules.max_recipients(lane))
        for one in plan.rest:
            if isinstance(one.route, Held):
                self._releases.decided_held(one.route.mailbox)
        if not plan.here or self._lanes.closed(lane):
            return plan, None
        known = lane, message.queue_id, message.header.message_id, now
        entry = self._inflight.register(plan.keys, *known, plan.numbers)
        return plan, entry

    def _route(
        self, recipient: QueuedRecipient, message: QueuedMessage, failures: Mapping[str, Reply], now: float
    ) -> Routed:
        found = self._classifier.known(recipient.address)
        via = recipient.via
        chain = passed(self._classifier, recipient) if via else ()
        if found is None or chain is None:
            reply = failures.get(recipient.address.key, LookupFailed.reply)
            return Routed(recipient, None, Later(reply))
        since, marks = recipient.unknown_since, message.header.marks
        if via:
            facts = DispatchFacts(since, marks, via, recipient.kept, chain)
        else:
            facts = DispatchFacts(since, marks) if marks or since is not None else _NO_FACTS
        route = self._router.at_dispatch(found, facts, now)
        note_route(self._trace, found, route)
        return Routed(recipient, found, on_behalf(route, via, chain) if via else route, chain)

    # -- carrying out -----------------------------------------------------------------------------------------

    async def _carry_out(
        self, lane: str, message: QueuedMessage, plan: Plan, entry: Entry | None, custody: Custody
    ) -> tuple[QueuedRecipient, ...]:
        """Do what was decided; the recipients that need another decision at once."""
        in_doubt = False
        again: list[QueuedRecipient] = list(plan.over)
        try:
            if plan.away:
                await self._hand_over(message, plan.away, custody)
            if plan.rest:
                await self._commit_rest(lane, message, plan.rest, custody)
            if entry is not None:
                in_doubt = await self._transmit(lane, message, plan, entry, again, custody)
            elif plan.here:
                self._leave(lane, plan, custody)
                again.clear()
        except asyncio.CancelledError:
            if entry is not None and entry.passed:
                # The store may have it. What ends with this process is for its successor to call in doubt.
                self.interrupted = True
                entry.stage(IN_DOUBT)
                entry = None
            raise
        except Exception:
            in_doubt = entry is not None and entry.passed
            if in_doubt:
                custody.sent.update(one.recipient.number for here in plan.here for one in here.all)
            raise
        finally:
            if entry is not None:
                self._end(entry, lane, in_doubt=in_doubt)
        return tuple(again)

    def _end(self, entry: Entry, lane: str, *, in_doubt: bool) -> None:
        if not in_doubt:
            self._inflight.end(entry)
            return
        # The store may still be delivering what it took: until then a hold must not call the mailbox quiet.
        entry.stage(IN_DOUBT)
        self._trace.alarm(AlarmKind.IN_DOUBT, entry.queue_id, f"{lane} gave no reply to the final dot")
        loop = asyncio.get_running_loop()
        loop.call_later(self._rules.settle(lane), lambda: self._inflight.end(entry, in_doubt=True))

    def _leave(self, lane: str, plan: Plan, custody: Custody) -> None:
        """The lane was closed while we made up our mind: back to the spool, untouched."""
        left = [*plan.over, *(one.recipient for here in plan.here for one in here.all)]
        self._claims.give_back((r.number for r in left), tried=False)
        custody.let_go(left)
        self._behind(lane)

    async def _hand_over(
        self, message: QueuedMessage, away: Mapping[str, tuple[QueuedRecipient, ...]], custody: Custody
    ) -> None:
        for lane, recipients in away.items():
            released = tuple(replace(r, lane=lane) for r in recipients if r.draining)
            for one in released:
                if not self._lanes.offer_first(lane, Work(message, (one,))):
                    self._claims.give_back((one.number,), tried=False)
            custody.let_go(released)
            others = tuple(replace(r, lane=lane) for r in recipients if not r.draining)
            if others and not self._lanes.offer(lane, Work(message, others)):
                # The row must name the lane, or that lane's feeder would not find it.
                await self._commit(message, [self._concluder.moved(r, lane) for r in others], custody)
                self._behind(lane)
            custody.let_go(others)

    async def _transmit(
        self,
        lane: str,
        message: QueuedMessage,
        plan: Plan,
        entry: Entry,
        again: list[QueuedRecipient],
        custody: Custody,
    ) -> bool:
        """Send to the recipients of the plan and commit what became of them; whether any is in doubt."""
        since = self._clock.wall()
        try:
            parcel = await self._parcel(lane, message, plan)
            verdicts = await self._senders(lane).send(parcel, entry)
        except BodyDamaged as error:
            if entry.passed:
                raise
            self._trace.alarm(AlarmKind.CORRUPT_BODY, message.queue_id, error.private)
            broken = [one.recipient for here in plan.here for one in here.all]
            await self._commit(message, [self._concluder.quarantined(message, r, error) for r in broken], custody)
            return False
        self._reachability.note(lane, verdicts, self._rules)
        concluded: list[Concluded] = []
        for here, verdict in zip(plan.here, verdicts, strict=True):
            if verdict.no_attempt or verdict.split:
                again.extend([one.recipient for one in here.all])
                continue
            for one in here.all:
                certain = self._certain(one, verdict)
                concluded.append(self._concluder.verdict(message, one, verdict, lane, since, certain=certain))
        if not again:
            # Nothing more is sent from here: the next hop need not wait for our disk.
            custody.leave_place()
        await self._commit(message, merged(concluded, plan), custody)
        return any(verdict.in_doubt for verdict in verdicts)

    def _certain(self, one: Routed, verdict: Verdict) -> bool:
        """Whether the state by which a failure is judged is still that of its mailbox (it may be on hold by now)."""
        if verdict.reply.positive or not (one.mailbox or one.recipient.via):
            return True
        found = self._classifier.known(one.recipient.address)
        if found is None or found.mailbox != one.mailbox:
            return False
        return passed(self._classifier, one.recipient) == one.chain

    async def _parcel(self, lane: str, message: QueuedMessage, plan: Plan) -> Parcel:
        named = [(here.routed.key, here.wire) for here in plan.here]
        prefix = self._signer.received_field(message, lane, named, plan.forwarded)
        inline = message.inline
        if inline is None:
            stream = await self._queue.body(message)
            if not message.body_file:
                inline = b"".join([block async for block in stream])
        envelope = message.envelope
        return Parcel(
            queue_id=message.queue_id,
            sender=envelope.sender,
            recipients=tuple([_parcel_recipient(here) for here in plan.here]),
            prefix=prefix,
            size=len(prefix) + message.size,
            blocks=partial(self._blocks, message),
            inline=inline,
            body_type=envelope.body,
            smtputf8=envelope.smtputf8,
            ret=envelope.ret,
            envid=envelope.envid,
        )

    async def _blocks(self, message: QueuedMessage) -> AsyncIterator[bytes]:
        async for block in await self._queue.body(message):
            yield block


def _parcel_recipient(here: Here) -> ParcelRecipient:
    one = here.routed.recipient
    return ParcelRecipient(one.number, here.wire, one.notify, one.orcpt or _orcpt(one, here.wire))


def _orcpt(recipient: QueuedRecipient, wire: str) -> str:
    """An ORCPT for a rewritten recipient, so that a notice of the store still names what the sender wrote."""
    return "" if wire == recipient.address.wire else original(recipient)
