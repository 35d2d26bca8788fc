"""
From an address to its explanation: the same classifier and the same routing as the relay's, read from the control
database as it is now.

Guarantees: nothing is changed or remembered. Stores are only asked with `probe`. What cannot be told now is
`unresolved`, never `refused`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from router.admin.cli.output import span
from router.admin.cli.route_answer import AS_HOLD, FORWARD, Explained, Question
from router.admin.cli.route_chain import Chain, worst
from router.admin.cli.route_live import LiveSource
from router.admin.cli.route_origin import Origin, Origins, shown
from router.classify.classifier import CachingClassifier
from router.control.schema import DATABASE
from router.errors import BadRouteData, LookupFailed
from router.model.address import Address, AddressSyntaxError, parse_address
from router.model.directory import is_catch_all
from router.model.mailbox import Hold, Mailbox, Status
from router.model.route import SMARTHOST_LANE, Classification, Deliver, Expand, Held, Kind, Later, Park, Refuse, Route
from router.route.forwards import keeps_copy, targets_of
from router.route.routing import Routing
from router.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Live:
    """The classifier over `source`, which asks the directories for whom the mirror does not have."""

    classifier: CachingClassifier
    source: LiveSource


@dataclass(frozen=True, slots=True)
class Explainer:
    """
    The classifier and the routing with the question that is put to them.

    `live` is asked for addresses that the mirror does not have; None for a site without directories.
    """

    settings: Settings
    classifier: CachingClassifier
    routing: Routing
    question: Question
    paused: frozenset[str]
    origins: Origins
    keys_of: Callable[[Address], Sequence[str]]
    live: Live | None = None

    async def explain(self, text: str) -> Explained:
        """One address as it was given, and where its forwards lead."""
        try:
            address = parse_address(text)
        except AddressSyntaxError as error:
            steps = (f"given: {text}", f"no address: {error}")
            return Explained(text, "refused", "refuse", steps=steps, reply=f"501 5.1.3 {error}")
        one = await self._one(address)
        chain = await Chain(partial(self._one, forwarded=True)).below(one, address)
        return replace(one, chain=chain, verdict=worst([one.verdict, *(link.verdict for link in chain)]))

    async def _one(self, address: Address, *, forwarded: bool = False) -> Explained:
        """One address by itself; `forwarded`: it is we who send on to it."""
        try:
            found = await self._found(address)
        except (LookupFailed, BadRouteData) as error:
            return await self._unresolved(address, error)
        origin = await self._origin(found.mailbox) if found.mailbox is not None else None
        explained = self._routed(address, self._as_if(found), forwarded=forwarded)
        return _aged(replace(explained, origin=origin), origin)

    async def _found(self, address: Address) -> Classification:
        """What the mirror says; for whom it does not have, what the directories say."""
        try:
            found = await self.classifier.explain(address, probe=self.question.probe)
        except LookupFailed:
            if self.live is None:
                raise
        else:
            if self.live is None or not await self._is_missing(address, found):
                return found
        return await self.live.classifier.explain(address, probe=self.question.probe)

    async def _is_missing(self, address: Address, found: Classification) -> bool:
        """Whether nobody here has the address itself: it is unknown, or a catch-all takes it."""
        if found.mailbox is None:
            return found.kind is Kind.UNKNOWN
        return await self.origins.of_keys([key for key in self.keys_of(address) if not is_catch_all(key)]) is None

    async def _origin(self, mailbox: Mailbox) -> Origin:
        known = self.live.source.found.get(mailbox.key) if self.live is not None else None
        return await self.origins.of(mailbox) if known is None else shown(known.source, known.entry, None, live=True)

    async def _unresolved(self, address: Address, error: LookupFailed | BadRouteData) -> Explained:
        told = "in dispute" if isinstance(error, BadRouteData) else "cannot be resolved now"
        steps = (f"given: {address.wire}", f"normalised: {address.key}", f"{told}: {error.private}")
        policy = self.settings.domains.get(address.domain)
        remarks = list(self._remarks(address))
        if policy and policy.unknown == "probe" and not self.question.probe:
            remarks.insert(0, "--probe asks the stores")
        keys = self.keys_of(address)
        if await self.origins.lost(keys):
            remarks.append("in doubt: its directory has lost people of the domain, see the alarm directory-loss")
        base = Explained(
            address.wire, "unresolved", "later", steps=steps, reply=str(error.reply), remarks=tuple(remarks)
        )
        known = await self.origins.of_keys(keys)
        return base if known is None else replace(self._with_mailbox(base, known[0]), origin=known[1])

    def _as_if(self, found: Classification) -> Classification:
        wanted = self.question.status
        if not wanted or found.mailbox is None:
            return found
        mailbox = found.mailbox
        if wanted == AS_HOLD:
            hold = mailbox.hold or Hold(0, self.question.at, 0, reason="as if on hold")
            return replace(found, mailbox=replace(mailbox, hold=hold))
        return replace(found, mailbox=replace(mailbox, hold=None, status=Status(wanted)))

    def _routed(self, address: Address, found: Classification, *, forwarded: bool) -> Explained:
        if found.kind is Kind.FOREIGN:
            return self._foreign(address, found, forwarded=forwarded)
        route = self.routing.at_reception(found, self.question.at)
        base = Explained(
            address.wire,
            "ok",
            "deliver",
            kind=found.kind.value,
            extension=found.extension,
            steps=found.steps,
            remarks=(*self._remarks(address), *self._status_remarks(found.mailbox, route)),
        )
        if found.mailbox is None:
            return self._with_route(base, route)
        base = self._with_mailbox(base, found.mailbox)
        if isinstance(route, Expand) and route.keeps:
            base, copy = replace(base, action=FORWARD), replace(found, mailbox=replace(found.mailbox, forwards=()))
            route = self.routing.at_reception(copy, self.question.at)
        return self._with_route(base, route)

    def _foreign(self, address: Address, found: Classification, *, forwarded: bool) -> Explained:
        route = self.routing.at_reception(found, self.question.at)
        lane = route.lane if isinstance(route, Deliver) else ""
        if forwarded:
            base = Explained(address.wire, "ok", "deliver", kind=found.kind.value, steps=found.steps)
            return self._with_route(base, route)
        remark = f"hosts in trusted_networks may send to it; it would leave by {lane}"
        reply = "554 5.7.1 Relay access denied"
        remarks = (remark, *self._remarks(address))
        return Explained(
            address.wire, "refused", "refuse", kind=found.kind.value, steps=found.steps, reply=reply, remarks=remarks
        )

    def _with_mailbox(self, base: Explained, mailbox: Mailbox) -> Explained:
        protect = self.settings.safety.protect
        until = None if mailbox.hold or mailbox.moved_at is None else mailbox.moved_at + protect
        source = "database, read just now" if mailbox.source == DATABASE else mailbox.source
        if self.question.status:
            source = "as if, by --as"
        return replace(
            base,
            mailbox=mailbox.key,
            status=AS_HOLD if mailbox.hold else mailbox.status.value,
            source=source,
            forwards=targets_of(mailbox),
            keeps=keeps_copy(mailbox),
            routing_address=mailbox.route,
            moved_at=mailbox.moved_at,
            protected_until=until if until is not None and until > self.question.at else None,
            hold=mailbox.hold,
        )

    def _with_route(self, base: Explained, route: Route) -> Explained:
        match route:
            case Deliver(lane=""):
                return replace(base, verdict="unresolved", action="later", reply="250 2.1.5 (accepted, and waits)")
            case Deliver():
                return self._delivered(base, route)
            case Held():
                return replace(
                    base,
                    action="hold",
                    reply="250 2.1.5",
                    remarks=(*base.remarks, _held_since(route.hold, self.question.at)),
                )
            case Expand():  # where it leads is told by the chain
                return replace(base, action=FORWARD, reply="250 2.1.5")
            case Refuse() | Later():
                verdict, action = ("refused", "refuse") if isinstance(route, Refuse) else ("unresolved", "later")
                why = (route.why,) if isinstance(route, Later) and route.why else ()
                remarks = (*base.remarks, *why)
                return replace(base, verdict=verdict, action=action, reply=str(route.reply), remarks=remarks)
            case Park():
                return replace(base, verdict="unresolved", action="park", reply=route.reason)

    def _delivered(self, base: Explained, route: Deliver) -> Explained:
        store = self.settings.stores.get(route.lane)
        hosts = () if store is None else tuple(host.host for host in store.hosts)
        listed = "" if store is None else ", ".join(str(host) for host in store.hosts)
        paused = route.lane in self.paused
        remarks = base.remarks
        if paused:
            remarks = (*remarks, f"store {route.lane} is paused: mail for it waits until `sluice store resume`")
        return replace(
            base,
            store=route.lane,
            next_hop=self._outbound(route.lane) if store is None else f"{route.lane} ({listed})",
            protocol="smtp" if store is None else store.protocol,
            rcpt=route.wire,
            reply="250 2.1.5",
            paused=paused,
            loop=self._loop(route.lane, hosts),
            remarks=remarks,
        )

    def _outbound(self, lane: str) -> str:
        return f"smarthost {self.settings.outbound.smarthost}" if lane == SMARTHOST_LANE else f"{lane} (by MX lookup)"

    def _loop(self, lane: str, hosts: Sequence[str]) -> str:
        if self.settings.hostname in hosts:
            return f"LOOP: a host of {lane} is this host"
        if not hosts:
            return "none (leaves the site)"
        return f"none for new mail; mail that {lane} was given by us and sends back is parked"

    def _remarks(self, address: Address) -> tuple[str, ...]:
        sender = self.question.sender
        found = []
        if not address.ascii and not self.settings.smtputf8:
            found.append("the address is not ASCII, and smtputf8 is off: clients cannot send to it")
        if sender and not sender.isascii() and not self.settings.smtputf8:
            found.append("the sender is not ASCII, and smtputf8 is off: MAIL would be refused")
        if sender == "<>":
            found.append("mail from the null sender is routed alike; nothing is ever returned for it")
        elif sender:
            found.append("the sender changes nothing: no rule depends on it")
        return tuple(found)

    def _status_remarks(self, mailbox: Mailbox | None, route: Route) -> tuple[str, ...]:
        if self.question.status and mailbox is None:
            return ("--as changes nothing: this is no mailbox",)
        if isinstance(route, Refuse) and mailbox is not None:
            grace = span(self.settings.safety.unknown_grace)
            return (f"mail accepted before is not returned while protected, and not within {grace}",)
        return ()


def _held_since(hold: Hold, now: float) -> str:
    number = f"hold {hold.number}" if hold.number else "a hold"
    return f"kept by {number} ({hold.reason}), for {span(now - hold.opened_at)}"


def _aged(one: Explained, origin: Origin | None) -> Explained:
    """What becomes of it by data as old as these (barrier.md 13)."""
    age = origin.age if origin is not None else None
    if origin is None or age is None or age.followed:
        return one
    remark = f"the directory {origin.source} is {age.text()}"
    if one.hold is not None:
        return replace(one, remarks=(*one.remarks, f"{remark}; a hold here stays a hold"))
    if not age.answers:
        remarks = (*one.remarks, f"{remark}; its people are too old to answer by")
        return replace(one, verdict="unresolved", action="later", reply=str(LookupFailed.reply), remarks=remarks)
    if one.verdict == "refused":
        remarks = (*one.remarks, f"{remark}; nobody is refused for good by that")
        return replace(one, verdict="unresolved", action="later", reply=str(LookupFailed.reply), remarks=remarks)
    if not age.delivers and one.action in {"deliver", FORWARD}:
        remarks = (*one.remarks, f"{remark}; mail is accepted, and waits until it is followed again")
        return replace(one, verdict="unresolved", action="later", remarks=remarks)
    return replace(one, remarks=(*one.remarks, f"{remark}; this is what was read before"))
