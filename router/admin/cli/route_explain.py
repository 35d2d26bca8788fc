"""
From an address to its explanation: the same classifier and the same routing as the relay's, read from the control
database as it is now.

Guarantees: nothing is changed or remembered. Stores are only asked with `probe`. What cannot be told now is
`unresolved`, never `refused`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from router.admin.cli.output import moment, span
from router.classify.classifier import CachingClassifier
from router.errors import BadRouteData, LookupFailed
from router.model.address import Address, AddressSyntaxError, parse_address
from router.model.mailbox import Hold, Mailbox, Status
from router.model.route import SMARTHOST_LANE, Classification, Deliver, Expand, Held, Kind, Later, Park, Refuse, Route
from router.route.routing import Routing
from router.settings.schema import Settings

AS_HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Question:
    """As of when (wall-clock seconds), as if in which status ('' as it is), from whom ('' not said)."""

    at: float
    status: str = ""
    sender: str = ""
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Explained:
    """What is said of one address."""

    address: str
    verdict: str
    action: str
    kind: str = ""
    mailbox: str = ""
    status: str = ""
    source: str = ""
    moved_at: float | None = None
    protected_until: float | None = None
    hold: Hold | None = None
    extension: str = ""
    steps: tuple[str, ...] = ()
    store: str = ""
    next_hop: str = ""
    protocol: str = ""
    rcpt: str = ""
    paused: bool = False
    reply: str = ""
    loop: str = ""
    remarks: tuple[str, ...] = field(default=())

    def json(self) -> dict[str, object]:
        """The members that `route` documents."""
        hold = self.hold
        return {
            "address": self.address,
            "verdict": self.verdict,
            "action": self.action,
            "class": self.kind,
            "mailbox": self.mailbox,
            "status": self.status,
            "status_source": self.source,
            "moved_at": moment(self.moved_at),
            "protected_until": moment(self.protected_until),
            "hold": None if hold is None else {"number": hold.number, "reason": hold.reason, "actor": hold.actor},
            "extension": self.extension,
            "steps": list(self.steps),
            "store": self.store,
            "next_hop": self.next_hop,
            "protocol": self.protocol,
            "rcpt": self.rcpt,
            "paused": self.paused,
            "reply": self.reply,
            "loop": self.loop,
            "remarks": list(self.remarks),
        }

    def fields(self) -> list[tuple[str, object]]:
        """What is shown of it below the steps."""
        pairs: list[tuple[str, object]] = [("status", f"{self.status} ({self.source})")] if self.mailbox else []
        pairs += [("protected until", moment(self.protected_until))] if self.protected_until else []
        pairs += [("action", self.action), ("reply", self.reply)]
        if self.next_hop:
            pairs += [("next hop", self.next_hop), ("RCPT TO", f"<{self.rcpt}>"), ("loop", self.loop)]
        return pairs


@dataclass(frozen=True, slots=True)
class Explainer:
    """The classifier and the routing with the question that is put to them."""

    settings: Settings
    classifier: CachingClassifier
    routing: Routing
    question: Question
    paused: frozenset[str]

    async def explain(self, text: str) -> Explained:
        try:
            address = parse_address(text)
        except AddressSyntaxError as error:
            steps = (f"given: {text}", f"no address: {error}")
            return Explained(text, "refused", "refuse", steps=steps, reply=f"501 5.1.3 {error}")
        try:
            found = await self.classifier.explain(address, probe=self.question.probe)
        except (LookupFailed, BadRouteData) as error:
            return self._unresolved(address, error)
        return self._routed(address, self._as_if(found))

    def _unresolved(self, address: Address, error: LookupFailed | BadRouteData) -> Explained:
        steps = (f"given: {address.wire}", f"normalised: {address.key}", f"cannot be resolved now: {error.private}")
        policy = self.settings.domains.get(address.domain)
        remarks = (
            ("--probe asks the stores",) if policy and policy.unknown == "probe" and not self.question.probe else ()
        )
        return Explained(
            address.wire,
            "unresolved",
            "later",
            steps=steps,
            reply=str(error.reply),
            remarks=(*remarks, *self._remarks(address)),
        )

    def _as_if(self, found: Classification) -> Classification:
        wanted = self.question.status
        if not wanted or found.mailbox is None:
            return found
        mailbox = found.mailbox
        if wanted == AS_HOLD:
            hold = mailbox.hold or Hold(0, self.question.at, 0, reason="as if on hold")
            return replace(found, mailbox=replace(mailbox, hold=hold))
        return replace(found, mailbox=replace(mailbox, hold=None, status=Status(wanted)))

    def _routed(self, address: Address, found: Classification) -> Explained:
        if found.kind is Kind.FOREIGN:
            return self._foreign(address, found)
        route = self.routing.at_reception(found, self.question.at)
        mailbox = found.mailbox
        base = Explained(
            address.wire,
            "ok",
            "deliver",
            kind=found.kind.value,
            extension=found.extension,
            steps=found.steps,
            remarks=(*self._remarks(address), *self._status_remarks(mailbox, route)),
        )
        if mailbox is not None:
            base = self._with_mailbox(base, mailbox)
        return self._with_route(base, route)

    def _foreign(self, address: Address, found: Classification) -> Explained:
        route = self.routing.at_reception(found, self.question.at)
        lane = route.lane if isinstance(route, Deliver) else ""
        remark = f"hosts in trusted_networks may send to it; it would leave by {lane}"
        reply = "554 5.7.1 Relay access denied"
        remarks = (remark, *self._remarks(address))
        return Explained(
            address.wire, "refused", "refuse", kind=found.kind.value, steps=found.steps, reply=reply, remarks=remarks
        )

    def _with_mailbox(self, base: Explained, mailbox: Mailbox) -> Explained:
        protect = self.settings.safety.protect
        until = None if mailbox.hold or mailbox.moved_at is None else mailbox.moved_at + protect
        source = f"{mailbox.source}, read just now"
        if self.question.status:
            source = "as if, by --as"
        return replace(
            base,
            mailbox=mailbox.key,
            status=AS_HOLD if mailbox.hold else mailbox.status.value,
            source=source,
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
            case Expand():
                return self._forwarded(base, route)
            case Refuse() | Later():
                verdict, action = ("refused", "refuse") if isinstance(route, Refuse) else ("unresolved", "later")
                return replace(base, verdict=verdict, action=action, reply=str(route.reply))
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

    def _forwarded(self, base: Explained, route: Expand) -> Explained:
        copy = "; its home keeps a copy" if route.keeps else ""
        remark = f"forwarded to {', '.join(target.wire for target in route.targets)}{copy}"
        return replace(base, action="forward", reply="250 2.1.5", remarks=(*base.remarks, remark))

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
