"""
Reception: the decision at RCPT, and the commit that stands behind a 250.

Guarantees: what is decided at RCPT serves the reply only; the dispatch decides again. `message` returns when the
message is durable for every accepted recipient.

On failure: `SluiceError`, with the reply the client may see; nothing is half-accepted.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from router.deliver.claims import Claims
from router.errors import LookupFailed, SluiceError
from router.model.address import Address
from router.model.envelope import Envelope, HeaderFacts, NewRecipient, RecipientState, Work
from router.model.reply import Reply
from router.model.route import Classification, Deliver, DispatchFacts, Expand, Held, Kind, Later, Park, Refuse
from router.pipeline.chain import follow
from router.pipeline.ports import Trace
from router.pipeline.releases import Releases
from router.pipeline.trouble import note_lookup, note_route, note_trouble
from router.ports import BodyWriter, Classifier, Clock, Intake, Router
from router.route.routing import is_postmaster

_OVERTAKEN = 8
"""How often changes may overtake the lookup for one RCPT before it is answered 4xx."""
FOLLOWED = 10.0
"""Seconds for following the forwards of one RCPT; each lookup of a chain has a deadline of its own."""
RELAY_DENIED = Reply(554, "5.7.1", "Relay access denied")


class Offer(Protocol):
    """The dispatcher's door for mail that has just been accepted; the recipients are claimed."""

    def __call__(self, work: Work) -> None: ...


class Receiver:
    """
    What the accepting side asks for each RCPT and at the end of DATA.

    `doubtful` says that what is known of a recipient may be an old copy, or is not followed: then nobody is refused
    for good (promises 5 and 8).
    """

    def __init__(
        self,
        classifier: Classifier,
        router: Router,
        spool: Intake,
        claims: Claims,
        releases: Releases,
        offer: Offer,
        trace: Trace,
        clock: Clock,
        doubtful: Callable[[Classification], bool],
    ) -> None:
        self._classifier = classifier
        self._router = router
        self._spool = spool
        self._claims = claims
        self._releases = releases
        self._offer = offer
        self._trace = trace
        self._clock = clock
        self._doubtful = doubtful

    def use(self, router: Router) -> None:
        """Decide by another configuration from now on."""
        self._router = router

    def open_body(self) -> BodyWriter:
        return self._spool.open_body()

    def refuse_mail(self) -> Reply | None:
        """Why MAIL is refused now, or None."""
        return self._spool.unhealthy()

    def pause(self) -> float:
        """Seconds that MAIL waits."""
        return self._spool.pause()

    async def recipient(self, envelope: Envelope, address: Address) -> Reply | NewRecipient:
        """The reply that refuses one RCPT, or the recipient to be spooled. Raises `SluiceError` (temporary)."""
        found = await self._present(address)
        if found.kind is Kind.FOREIGN and not envelope.client.trusted:
            return RELAY_DENIED
        route = self._router.at_reception(found, self._clock.wall())
        note_route(self._trace, found, route)
        match route:
            case Deliver():
                draining = self._releases.draining(route.mailbox)
                return NewRecipient(address, hint=route.lane, mailbox=route.mailbox, draining=draining)
            case Expand():
                return await self._forwarded(address, found, route)
            case Held():
                self._releases.decided_held(route.mailbox)
                return NewRecipient(address, mailbox=route.mailbox, held=True)
            case Park():
                return NewRecipient(address, mailbox=route.mailbox)
            case Refuse() | Later():
                doubt = isinstance(route, Refuse) and self._doubtful(found)
                return LookupFailed.reply if doubt else route.reply

    async def _forwarded(self, address: Address, found: Classification, route: Expand) -> Reply | NewRecipient:
        """
        Accepted, unless its forwards go round in circles, or no store takes the copy: nobody could ever deliver that.
        What happens to the mailbox meanwhile is for the dispatch to see.
        """
        if not is_postmaster(found):
            refused = self._copy_refused(found, route) or await self._followed(route)
            if refused is not None:
                return refused
        draining = self._releases.draining(route.mailbox)
        return NewRecipient(address, mailbox=route.mailbox, draining=draining)

    def _copy_refused(self, found: Classification, route: Expand) -> Reply | None:
        if not route.keeps:
            return None
        copy = self._router.at_dispatch(found, DispatchFacts(via=(route.mailbox,)), self._clock.wall())
        note_route(self._trace, found, copy)
        return copy.reply if isinstance(copy, Later) else None

    async def _followed(self, route: Expand) -> Reply | None:
        # A session is no task, and `asyncio.timeout` works in tasks only.
        following = asyncio.ensure_future(follow(self._present, self._router, route, self._clock.wall()))
        try:
            await asyncio.wait([following], timeout=FOLLOWED)
            if not following.done():
                raise LookupFailed(f"the forwards of {route.mailbox} could not be followed in time")
            refused = following.result()
        finally:
            following.cancel()
        if refused is None:
            return None
        note_trouble(self._trace, refused)
        return refused.reply

    async def _present(self, address: Address) -> Classification:
        """
        The answer of this moment: between the lookup and the return to us a change may have been applied. An answer
        from before it could say hold after the hold has ended, and nobody would end it once more.
        """
        for _ in range(_OVERTAKEN):
            found = self._classifier.known(address)
            if found is not None:
                return found
            try:
                await self._classifier.classify(address)
            except SluiceError as error:
                note_lookup(self._trace, address.key, error)
                raise
        raise LookupFailed("changes overtook the lookup again and again")

    async def message(
        self,
        envelope: Envelope,
        recipients: Sequence[NewRecipient],
        body: BodyWriter,
        header: HeaderFacts,
        received_at: float,
        *,
        company: int = 0,
    ) -> str:
        """
        Make the message durable and begin its delivery; its queue-id. `company` as of `Reception.message`.

        Raises `SpoolUnavailable`, `SpoolFull`.
        """
        with self._claims.reading() as began:
            work = await self._spool.accept(envelope, recipients, body, header, received_at, company=company)
            # Between the commit and now the feeder may have read and even delivered the new rows.
            free = self._claims.fresh([work], began)
            self._trace.received(work.message, work.recipients)
            for ours in free:
                self._begin(ours)
        held = [r.mailbox for r in work.recipients if r.state is RecipientState.HELD and r.mailbox]
        if held:
            self._releases.settled_as_held(held)
        return work.message.queue_id

    def _begin(self, work: Work) -> None:
        by_lane: dict[str, list[int]] = {}
        for at, recipient in enumerate(work.recipients):
            if recipient.state is not RecipientState.QUEUED:
                continue
            if recipient.draining:
                self._releases.arrived(recipient.mailbox)
                continue
            by_lane.setdefault(recipient.lane, []).append(at)
        for positions in by_lane.values():
            everybody = len(positions) == len(work.recipients)
            part = work if everybody else Work(work.message, tuple(work.recipients[at] for at in positions))
            self._claims.take(r.number for r in part.recipients)
            self._offer(part)
