"""
Where the mail of a mailbox goes when its directory says so: its forwards, and what becomes of them. Pure.

Guarantees:
- A mailbox is expanded at most once for one recipient: the copy that its home keeps, and a forward to itself, are
  delivered there (`copies`). A forward that comes back through others ends: quietly where a mailbox on the circle got
  a copy, else it waits with an alarm (`expansion`). So does a chain of more than `HOPS` forwards.
- A forward never loses what it cannot understand: a target that is no address makes the mail wait.

On failure: nothing here fails; what cannot be done is a `Later`.
"""

from router.model.address import Address, AddressSyntaxError, parse_address
from router.model.mailbox import Mailbox
from router.model.route import DispatchFacts, Expand, Later
from router.route.replies import BAD_ROUTE_DATA

HOPS = 10
"""Forwards behind each other, at most."""
MAX_TARGETS = 100
"""Addresses that one mailbox may forward to."""


def targets_of(mailbox: Mailbox) -> tuple[str, ...]:
    """Where its mail goes, too, or instead, as stated. Without a home, the routing address is such a target."""
    routed = (mailbox.route,) if mailbox.route and not mailbox.home else ()
    return tuple(dict.fromkeys((*mailbox.forwards, *routed)))


def keeps_copy(mailbox: Mailbox) -> bool:
    """Whether its own address gets its mail, too; a routing address in place of a home gets all of it."""
    return mailbox.keeps and not (mailbox.route and not mailbox.home)


def copies(mailbox: Mailbox, facts: DispatchFacts) -> bool:
    """Whether this recipient is for the mailbox's own home: it was opened by the mailbox's own forwards."""
    return bool(facts.via) and facts.via[-1] == mailbox.key


def expansion(mailbox: Mailbox, address: Address, keys: tuple[str, ...], facts: DispatchFacts) -> Expand | Later:
    """What becomes of the mail for `address` of a mailbox that forwards, reached through `facts.via`."""
    if mailbox.key in facts.via:
        return _circle(mailbox, keys, facts)
    if len(facts.via) >= HOPS:
        return _loop(mailbox, f"more than {HOPS} forwards behind each other: {_chain(facts.via, mailbox)}")
    wires = targets_of(mailbox)
    if len(wires) > MAX_TARGETS:
        return Later(BAD_ROUTE_DATA, mailbox.key, why=f"it forwards to {len(wires)} addresses, over {MAX_TARGETS}")
    targets: dict[str, Address] = {}
    for wire in wires:
        try:
            target = aimed(wire, address)
        except AddressSyntaxError as error:
            return Later(BAD_ROUTE_DATA, mailbox.key, why=f"it forwards to {wire!r}: {error}")
        targets.setdefault(target.key, target)
    return Expand(mailbox.key, tuple(targets.values()), keeps_copy(mailbox), keys)


def aimed(wire: str, address: Address) -> Address:
    """A target; `@domain`, which catch-alls have, is the local part as received at that domain."""
    if wire.startswith("@"):
        wire = f"{address.wire.rpartition('@')[0] or address.wire}{wire}"
    target = parse_address(wire)
    if not target.domain:
        raise AddressSyntaxError("the domain is missing")
    return target


def _circle(mailbox: Mailbox, keys: tuple[str, ...], facts: DispatchFacts) -> Expand | Later:
    circle = facts.via[facts.via.index(mailbox.key) :]
    if any(one in facts.kept for one in circle):
        return Expand(mailbox.key, (), keeps=False, keys=keys)
    return _loop(mailbox, f"a circle of forwards without a copy: {_chain(circle, mailbox)}")


def _loop(mailbox: Mailbox, why: str) -> Later:
    return Later(BAD_ROUTE_DATA, mailbox.key, why=why, loop=True)


def _chain(via: tuple[str, ...], mailbox: Mailbox) -> str:
    return " > ".join((*via, mailbox.key))
