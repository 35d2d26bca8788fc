"""
What `sluice route` says of one address: a value, and how programs and people are shown it.

Pure. `verdict` is ok, unresolved or refused; `action` deliver, forward, hold, park, refuse or later.
"""

from dataclasses import dataclass, field

from router.admin.cli.directory_age import Age
from router.admin.cli.output import moment
from router.admin.cli.route_origin import Origin
from router.model.mailbox import Hold

AS_HOLD = "hold"
FORWARD = "forward"
"""The action of an address whose mail goes on."""


@dataclass(frozen=True, slots=True)
class Question:
    """As of when (wall-clock seconds), as if in which status ('' as it is), from whom ('' not said)."""

    at: float
    status: str = ""
    sender: str = ""
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """One target, `depth` forwards away; `note` says where the chain ends here though the target forwards."""

    depth: int
    address: str
    verdict: str
    explained: "Explained | None" = None
    note: str = ""

    def text(self) -> str:
        """One line."""
        one = self.explained
        parts = [self.address]
        if one is not None:
            parts.append(" ".join(word for word in (one.kind, one.mailbox, one.status and f"({one.status})") if word))
            parts.append(f"{one.action} {one.next_hop or one.reply}".rstrip())
        return f"{'  ' * self.depth}-> {'; '.join(part for part in (*parts, self.note) if part)}"

    def json(self) -> dict[str, object]:
        one = self.explained
        return {
            "depth": self.depth,
            "address": self.address,
            "verdict": self.verdict,
            "action": one.action if one else "",
            "class": one.kind if one else "",
            "mailbox": one.mailbox if one else "",
            "status": one.status if one else "",
            "source": one.origin.source if one and one.origin else "",
            "dn": one.origin.dn if one and one.origin else "",
            "next_hop": one.next_hop if one else "",
            "rcpt": one.rcpt if one else "",
            "reply": one.reply if one else "",
            "note": self.note,
        }


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
    origin: Origin | None = None
    forwards: tuple[str, ...] = ()
    keeps: bool = True
    routing_address: str = ""
    chain: tuple[Link, ...] = ()

    def json(self) -> dict[str, object]:
        """The members that `route` documents."""
        hold, origin = self.hold, self.origin or Origin("")
        age = origin.age or Age()
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
            "source": origin.source,
            "live": origin.live,
            "dn": origin.dn,
            "attributes": origin.named(),
            "age_s": None if age.seconds is None else round(age.seconds, 3),
            "followed_at": moment(age.followed_at),
            "fault": age.fault,
            "forwards": list(self.forwards),
            "keeps": self.keeps,
            "routing_address": self.routing_address,
            "chain": [one.json() for one in self.chain],
        }

    def fields(self) -> list[tuple[str, object]]:
        """What is shown of it below the steps."""
        pairs: list[tuple[str, object]] = [("status", f"{self.status} ({self.source})")] if self.mailbox else []
        pairs += self.origin.fields() if self.origin is not None else []
        pairs += [("protected until", moment(self.protected_until))] if self.protected_until else []
        pairs += [("action", self.action), ("reply", self.reply)]
        if self.next_hop:
            pairs += [("next hop", self.next_hop), ("RCPT TO", f"<{self.rcpt}>"), ("loop", self.loop)]
        if self.forwards:
            pairs.append(
                ("forwards", f"{', '.join(self.forwards)} ({'and keeps a copy' if self.keeps else 'no copy'})")
            )
        return pairs
