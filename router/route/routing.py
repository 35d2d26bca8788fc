"""
From a classification, the state of the mailbox and the time to the route. Pure.

Guarantees:
- Every classification gives exactly one route at any time; nothing here raises.
- A mailbox with an open hold is `Held`, whatever its status, its forwards or its home say.
- A store that is not configured, or mail that nobody can place, is temporary: there is no default route.
- A recipient that was accepted is returned for being unknown, disabled or deleted only when its mailbox is not
  protected and the directory has said so for `unknown_grace`; until then the route is `Later(unknown=True)`.
- postmaster is accepted in every case (RFC 5321 4.5.1). Where no lane can be named at reception, the route is a
  `Deliver` with an empty lane: accept it, and let the dispatch decide. At dispatch no lane is ever empty.
- A mailbox whose data make no sense (`problem`) is temporary, whatever its status; so is one whose forwards do.
- What was forwarded is held while any mailbox on its way is on hold, and not returned while any is protected.
- A message that carries our mark for the same recipient and store is parked at dispatch, and so is one that was sent
  on by the forward of the same mailbox before. What leaves the site otherwise is not looked at.

Who may relay to a foreign address is for the caller to decide, before a route is asked for.
"""

from dataclasses import dataclass

from router.model.address import AddressSyntaxError, parse_address
from router.model.mailbox import LIST, Mailbox, Status
from router.model.reply import Reply
from router.model.route import (
    MX_PREFIX,
    SMARTHOST_LANE,
    Classification,
    Deliver,
    DispatchFacts,
    Expand,
    Held,
    Kind,
    Later,
    Park,
    Refuse,
    Route,
)
from router.route import replies
from router.route.forwards import copies, expansion, targets_of
from router.route.marks import FORWARD, verify
from router.settings.schema import Settings

POSTMASTER = "postmaster"
_NO_FACTS = DispatchFacts()


@dataclass(frozen=True)
class Routing:
    """
    The `Router` of the pipeline.

    `canonical_stores` know only canonical addresses. `protect` and `unknown_grace` are seconds. `mark_keys` are the
    HMAC keys of the loop marks; when they change, make a new instance with `dataclasses.replace`.
    """

    stores: frozenset[str]
    canonical_stores: frozenset[str]
    smarthost: bool
    protect: float
    unknown_grace: float
    mark_keys: tuple[bytes, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings, mark_keys: tuple[bytes, ...] = ()) -> "Routing":
        canonical = frozenset(name for name, store in settings.stores.items() if store.recipient == "canonical")
        return cls(
            stores=frozenset(settings.stores),
            canonical_stores=canonical,
            smarthost=settings.outbound.smarthost is not None,
            protect=settings.safety.protect,
            unknown_grace=settings.safety.unknown_grace,
            mark_keys=mark_keys,
        )

    def at_reception(self, found: Classification, now: float) -> Route:  # noqa: ARG002 - the port gives the time
        """What RCPT is answered, and a hint for the first try; no promise about the delivery (promise 3)."""
        route = self._route(found, _NO_FACTS)
        if isinstance(route, Refuse | Later) and is_postmaster(found):
            return Deliver("", _received(found), route.mailbox, _keys(found))
        return route

    def at_dispatch(self, found: Classification, facts: DispatchFacts, now: float) -> Route:
        """What becomes of an accepted recipient now."""
        route = self._route(found, facts)
        match route:
            case Expand() if facts.marks and verify(self.mark_keys, facts.marks, route.mailbox, FORWARD):
                return Park("loop: forwarded before", route.mailbox)
            case Deliver() if self._looping(found, route, facts):
                return Park(f"loop: delivered to {route.lane} before", route.mailbox)
            case Refuse():
                return self._return_or_wait(found, route, facts, now)
            case _:
                return route

    def _route(self, found: Classification, facts: DispatchFacts) -> Route:
        own = found.mailbox
        if own is not None and own.hold is not None and own.kind != LIST:
            return Held(own.key, own.hold)
        for mailbox in facts.chain:
            if mailbox.hold is not None and mailbox.kind != LIST:
                return Held(mailbox.key, mailbox.hold)
        return self._by_kind(found, facts)

    def _by_kind(self, found: Classification, facts: DispatchFacts) -> Route:
        match found.kind:
            case Kind.MAILBOX | Kind.LIST if found.mailbox is not None:
                return self._to_mailbox(found, found.mailbox, facts)
            case Kind.LIST | Kind.SERVICE | Kind.UNKNOWN if found.store:
                return self._to_store(found, found.store)
            case Kind.UNKNOWN:
                return Refuse(replies.UNKNOWN)
            case Kind.SERVICE:  # a postmaster who cannot be resolved for now
                return Later(replies.LOOKUP_FAILED)
            case Kind.FORWARD | Kind.FOREIGN:
                return self._leave(found)
            case _:
                return Later(replies.BAD_ROUTE_DATA)

    def _to_mailbox(self, found: Classification, mailbox: Mailbox, facts: DispatchFacts) -> Route:
        if mailbox.problem:
            return Later(replies.BAD_ROUTE_DATA, mailbox.key, why=mailbox.problem)
        match mailbox.status:
            case Status.ACTIVE:
                if found.kind is Kind.MAILBOX and targets_of(mailbox) and not copies(mailbox, facts):
                    return expansion(mailbox, found.address, _keys(found), facts)
                return self._to_store(found, mailbox.home)
            case Status.DISABLED:
                return Refuse(replies.DISABLED, mailbox.key)
            case Status.DELETED | Status.REMOVED:
                return Refuse(replies.UNKNOWN, mailbox.key)
            case other:  # inactive, and any value to come: temporary
                # A status that was told to us is ours to answer (semantics 1); a store's own quota is the store's.
                return Later(replies.OVERQUOTA if other is Status.OVERQUOTA else replies.SUSPENDED, mailbox.key)

    def _to_store(self, found: Classification, store: str) -> Route:
        mailbox = found.mailbox.key if found.mailbox is not None else ""
        if store not in self.stores:
            return Later(replies.BAD_ROUTE_DATA, mailbox)
        return Deliver(store, self._wire(found, store), mailbox, _keys(found))

    def _wire(self, found: Classification, store: str) -> str:
        if found.mailbox is not None and found.mailbox.route:
            return found.mailbox.route
        if found.canonical and store in self.canonical_stores:
            return found.canonical
        return _received(found)

    def _leave(self, found: Classification) -> Route:
        try:
            target = found.address if found.kind is Kind.FOREIGN else parse_address(found.delivery)
        except AddressSyntaxError:
            return Later(replies.BAD_ROUTE_DATA)
        if not target.domain:
            return Later(replies.BAD_ROUTE_DATA)
        mailbox = found.mailbox.key if found.mailbox is not None else ""
        lane = SMARTHOST_LANE if self.smarthost else MX_PREFIX + target.domain
        return Deliver(lane, target.wire, mailbox, _keys(found))

    def _looping(self, found: Classification, route: Deliver, facts: DispatchFacts) -> bool:
        if not facts.marks or route.lane not in self.stores:
            return False
        return verify(self.mark_keys, facts.marks, mark_subject(found), route.lane)

    def _return_or_wait(self, found: Classification, route: Refuse, facts: DispatchFacts, now: float) -> Route:
        mailbox = found.mailbox
        since = facts.unknown_since
        waited = since is not None and now - since >= self.unknown_grace
        protected = any(self._protected(one, now) for one in (mailbox, *facts.chain))
        if waited and not is_postmaster(found) and not protected:
            return route
        return Later(_later(route.reply), route.mailbox, unknown=True)

    def _protected(self, mailbox: Mailbox | None, now: float) -> bool:
        return mailbox is not None and mailbox.protected(now, self.protect)


def is_postmaster(found: Classification) -> bool:
    """Whether this is the postmaster of a domain of ours, or the bare one of RFC 5321 4.5.1."""
    return found.address.local == POSTMASTER and found.kind is not Kind.FOREIGN


def mark_subject(found: Classification) -> str:
    """What a loop mark is signed for: the mailbox, so that all its addresses count as one; else the address."""
    return found.mailbox.key if found.mailbox is not None else found.address.key


def _received(found: Classification) -> str:
    return found.delivery or found.address.wire


def _keys(found: Classification) -> tuple[str, ...]:
    """Every mailbox on the chain, the mailbox itself included even where a source forgot to name it."""
    if found.mailbox is None or found.mailbox.key in found.chain:
        return found.chain
    return (*found.chain, found.mailbox.key)


def _later(reply: Reply) -> Reply:
    return replies.DISABLED_LATER if reply is replies.DISABLED else replies.UNKNOWN_LATER
