"""
The classification of an address, and the route that follows from it at one moment.

A lane is a next hop's queue by name: a store's name, `mx:domain` for mail that leaves the site by MX lookup, or
`smarthost`. The name is all that the spool keeps of it.
"""

from dataclasses import dataclass
from enum import StrEnum

from router.model.address import Address
from router.model.mailbox import Hold, Mailbox
from router.model.reply import Reply

SMARTHOST_LANE = "smarthost"
MX_PREFIX = "mx:"


class Kind(StrEnum):
    """What an address is."""

    MAILBOX = "mailbox"
    LIST = "list"
    SERVICE = "service"
    FORWARD = "forward"
    UNKNOWN = "unknown"
    FOREIGN = "foreign"
    """Not in a domain of ours."""


@dataclass(frozen=True, slots=True)
class Classification:
    """
    What the sources said of one address, as of `epoch`.

    `chain` names every mailbox on the alias or forward chain (in-flight entries carry all of them). `steps` is the
    same story for a person, one line each. For UNKNOWN, `store` is set where the domain's policy sends unknown
    addresses to a store. An uncertain answer is never a Classification: the classifier raises `LookupFailed`.
    """

    address: Address
    kind: Kind
    epoch: int
    mailbox: Mailbox | None = None
    store: str = ""
    extension: str = ""
    delivery: str = ""
    """Address to put on the wire when a forward or a store's rewriting changes it; '' = as received."""
    canonical: str = ""
    """The mailbox's canonical address with the extension, for stores that know only that one."""
    chain: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    source: str = ""
    detail: str = ""
    """For UNKNOWN: which authority denied the address."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send it through `lane` now, with `wire` as RCPT address."""

    lane: str
    wire: str
    mailbox: str = ""
    keys: tuple[str, ...] = ()
    """Every mailbox on the chain, for the in-flight entry; may be empty (lists, services, foreign)."""


@dataclass(frozen=True, slots=True)
class Expand:
    """
    The mailbox forwards its mail: this recipient ends, one for each target is opened, and one for its own address
    where the home keeps its copy (`keeps`).

    Neither targets nor a copy: the forward came back to where a copy is kept already, and nothing is left to do.
    """

    mailbox: str
    targets: tuple[Address, ...]
    keeps: bool
    keys: tuple[str, ...] = ()
    """As those of `Deliver`."""


@dataclass(frozen=True, slots=True)
class Held:
    """The mailbox is on hold: keep it."""

    mailbox: str
    hold: Hold


@dataclass(frozen=True, slots=True)
class Park:
    """Something is wrong with it: keep it apart for an operator."""

    reason: str
    mailbox: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """A permanent no: at RCPT the reply, at dispatch a return to the sender."""

    reply: Reply
    mailbox: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """A temporary no: at RCPT the 4xx reply, at dispatch a deferral."""

    reply: Reply
    mailbox: str = ""
    unknown: bool = False
    """The directory denies the address, within `unknown_grace`: the clock of the grace runs."""
    why: str = ""
    """For operators, where it is the data of the mailbox that is at fault."""
    loop: bool = False
    """It is a circle of forwards, or too long a chain of them."""


Route = Deliver | Expand | Held | Park | Refuse | Later


@dataclass(frozen=True, slots=True)
class DispatchFacts:
    """
    What a dispatch knows beside the classification: the grace clock, the loop marks of the header, and the forwards
    that have led to the recipient.
    """

    unknown_since: float | None = None
    marks: tuple[str, ...] = ()
    via: tuple[str, ...] = ()
    """Keys of the mailboxes it was forwarded for, the last one last."""
    kept: tuple[str, ...] = ()
    """Those of `via` whose home got a copy."""
    chain: tuple[Mailbox, ...] = ()
    """Those of `via` that are still known, as they are now."""
