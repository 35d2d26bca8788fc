"""
One dispatch as a plan: which recipients go here and now in one transaction, and what becomes of the others. Pure.

Guarantees: every recipient is in exactly one part of the plan. Recipients whose address is the same octets at the
next hop travel once and share the verdict: the first one is delivered, the others are merged into it (promise 9).

On failure: nothing here fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from router.model.envelope import QueuedRecipient
from router.model.mailbox import Mailbox
from router.model.route import Classification, Deliver, Route
from router.pipeline.chain import shielded


class Routed(NamedTuple):
    """One recipient with the decision of this moment; `found` is None where the lookup failed."""

    recipient: QueuedRecipient
    found: Classification | None
    route: Route
    chain: tuple[Mailbox, ...] = ()
    """The mailboxes whose forwards have led to it, as they are at this moment."""

    @property
    def mailbox(self) -> Mailbox | None:
        return self.found.mailbox if self.found is not None else None

    @property
    def judged(self) -> Mailbox | None:
        """The mailbox by whose protection a failure is judged."""
        return shielded(self.mailbox, self.chain)

    @property
    def key(self) -> str:
        """What loop marks and in-flight entries name: the mailbox, else the address."""
        mailbox = self.mailbox
        return mailbox.key if mailbox is not None else self.recipient.address.key


class Here(NamedTuple):
    """A recipient of this transaction, its RCPT address, and the recipients that travel with it."""

    routed: Routed
    wire: str
    twins: tuple[Routed, ...] = ()

    @property
    def all(self) -> tuple[Routed, ...]:
        return (self.routed, *self.twins)


class Plan(NamedTuple):
    """`away`: to be delivered through other lanes; `rest`: held, parked, refused, deferred; `over`: do not fit."""

    here: tuple[Here, ...]
    away: Mapping[str, tuple[QueuedRecipient, ...]]
    rest: tuple[Routed, ...]
    over: tuple[QueuedRecipient, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """Every mailbox that the transaction concerns (barrier rule 1)."""
        keys: set[str] = set()
        for here in self.here:
            for routed in here.all:
                if isinstance(routed.route, Deliver):
                    keys.update(routed.route.keys)
        return frozenset(keys)

    @property
    def numbers(self) -> list[int]:
        """The recipients of the transaction."""
        return [one.recipient.number for here in self.here for one in here.all]

    @property
    def forwarded(self) -> tuple[str, ...]:
        """Every mailbox by whose forward something in the transaction is sent on."""
        return tuple(dict.fromkeys([key for here in self.here for one in here.all for key in one.recipient.via]))


def make_plan(lane: str, routed: Sequence[Routed], most: int) -> Plan:
    """
    Sort routed recipients for a dispatch on `lane`, with at most `most` RCPTs in its transaction.

    What was forwarded travels apart from what was not: its marks (`Plan.forwarded`) are for the whole transaction, and
    would call it a loop when a list among the others sends a copy to the forwarder.
    """
    here: dict[str, list[Routed]] = {}
    away: dict[str, list[QueuedRecipient]] = {}
    rest: list[Routed] = []
    over: list[QueuedRecipient] = []
    sent_on = False
    for one in routed:
        if not isinstance(one.route, Deliver):
            rest.append(one)
        elif one.route.lane != lane:
            away.setdefault(one.route.lane, []).append(named(one))
        elif one.route.wire in here:
            here[one.route.wire].append(one)
        elif len(here) < most and (not here or bool(one.recipient.via) is sent_on):
            sent_on = bool(one.recipient.via)
            here[one.route.wire] = [one]
        else:
            over.append(one.recipient)
    return Plan(
        tuple([Here(twins[0], wire, tuple(twins[1:])) for wire, twins in here.items()]),
        {name: tuple(recipients) for name, recipients in away.items()},
        tuple(rest),
        tuple(over),
    )


def named(one: Routed) -> QueuedRecipient:
    """With the mailbox that was found: by that its row is found when the mailbox moves or is released."""
    mailbox = one.mailbox
    if mailbox is None or mailbox.key == one.recipient.mailbox:
        return one.recipient
    return replace(one.recipient, mailbox=mailbox.key)
