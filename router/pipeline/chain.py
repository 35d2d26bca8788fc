"""
The way a recipient has come by forwards: looked up again at each dispatch, and followed in advance at reception.

Guarantees: a recipient that was forwarded is decided by its own mailbox and by every mailbox on its way, as all of them
are at this moment; a lookup of any of them that fails is a lookup that failed. A mailbox on the way that nobody knows
any more is no obstacle.

On failure: `follow` raises what the lookups raise; nothing else here fails.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace

from router.classify.subaddress import with_suffix
from router.errors import BadRouteData
from router.model.address import Address
from router.model.envelope import QueuedRecipient
from router.model.mailbox import Mailbox
from router.model.route import Classification, Deliver, DispatchFacts, Expand, Later, Route
from router.ports import Classifier, Router
from router.route.replies import BAD_ROUTE_DATA

_MOST = 1000
"""Addresses looked up to follow the forwards of one RCPT."""

Present = Callable[[Address], Awaitable[Classification]]


def addressed(recipients: Iterable[QueuedRecipient]) -> Iterator[Address]:
    """Every address that has to be known to route these recipients."""
    for recipient in recipients:
        yield recipient.address
        if recipient.via:
            yield from _on_the_way(recipient)


def passed(classifier: Classifier, recipient: QueuedRecipient) -> tuple[Mailbox, ...] | None:
    """The mailboxes that forwarded it, as they are now, without those that are unknown; None: ask first."""
    found: list[Mailbox] = []
    for address in _on_the_way(recipient):
        one = classifier.known(address)
        if one is None:
            return None
        if one.mailbox is not None:
            found.append(one.mailbox)
    return tuple(found)


def on_behalf(route: Route, via: tuple[str, ...], chain: tuple[Mailbox, ...]) -> Route:
    """A delivery names every mailbox on the way (barrier rule 1), also one that has another name by now."""
    if not isinstance(route, Deliver):
        return route
    return replace(route, keys=tuple(dict.fromkeys((*route.keys, *via, *(one.key for one in chain)))))


def shielded(mailbox: Mailbox | None, chain: tuple[Mailbox, ...]) -> Mailbox | None:
    """The mailbox by whose protection a failure is judged: protected as long as any on the way is."""
    if not chain:
        return mailbox
    base = mailbox if mailbox is not None else chain[-1]
    everybody = (base, *chain)
    moved = max((one.moved_at for one in everybody if one.moved_at is not None), default=None)
    hold = next((one.hold for one in everybody if one.hold is not None), None)
    return replace(base, moved_at=moved, hold=hold)


async def follow(present: Present, router: Router, start: Expand, now: float) -> Later | None:
    """
    Follow the forwards of one address to their ends: what is to be answered for a circle without a copy, or a chain
    that is too long; None where there is no such thing. Targets that are unknown, or not deliverable now, are ends.
    """
    kept: tuple[str, ...] = (start.mailbox,) if start.keeps else ()
    ways: list[tuple[tuple[Address, ...], tuple[str, ...], tuple[str, ...]]] = [(start.targets, (start.mailbox,), kept)]
    seen: dict[tuple[str, bool], int] = {}
    looked = 0
    while ways:
        targets, via, kept = ways.pop()
        looked += len(targets)
        if looked > _MOST:
            why = f"its forwards lead to more than {_MOST} addresses"
            return Later(BAD_ROUTE_DATA, start.mailbox, why=why, loop=True)
        for found in await _all(present, targets, spared=bool(kept)):
            route = router.at_dispatch(found, DispatchFacts(via=via, kept=kept), now)
            if isinstance(route, Later) and route.loop:
                return route
            if isinstance(route, Expand) and seen.get((route.mailbox, bool(kept)), 0) < len(via):
                seen[route.mailbox, bool(kept)] = len(via)
                copies = (*kept, route.mailbox) if route.keeps else kept
                ways.append((route.targets, (*via, route.mailbox), copies))
    return None


async def _all(present: Present, targets: tuple[Address, ...], *, spared: bool) -> list[Classification]:
    """
    All at once, so that a directory is asked once. Every lookup ends before the first failure is raised.

    A target whose data make no sense waits at dispatch: it is left out where others, or a copy (`spared`), need not.
    """
    answers = await asyncio.gather(*(present(target) for target in targets), return_exceptions=True)
    found: list[Classification] = []
    senseless: list[BadRouteData] = []
    for answer in answers:
        if isinstance(answer, BadRouteData):
            senseless.append(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found.append(answer)
    if senseless and not found and not spared:
        raise senseless[0]
    return found


def _on_the_way(recipient: QueuedRecipient) -> Iterator[Address]:
    """By name and by the address they were reached at: a name may be outside our domains, an address may move."""
    own = recipient.address
    for key in dict.fromkeys((*recipient.via, *recipient.through)):
        if key == own.key:
            yield own
        else:
            local, _, domain = key.rpartition("@")
            yield Address(with_suffix(key), local, domain)
