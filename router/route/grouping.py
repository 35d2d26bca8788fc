"""
Which recipients of one message share a transaction at the next hop.

Guarantees: recipients of one lane go together, in their order, at most `max_recipients` at a time; recipients whose
address is the same octet for octet at the next hop are given to it once. Every recipient is in exactly one place:
in one group, or merged into exactly one recipient of a group. Nothing here fails.

A merged recipient shares the fate of the one it was merged into: it may be closed as merged only when that one was
delivered, and is otherwise deferred, parked or returned like it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from router.model.route import Deliver

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Member(Generic[T]):
    """A recipient with its route, and those merged into it."""

    recipient: T
    route: Deliver
    merged: tuple[tuple[T, Deliver], ...] = ()


@dataclass(frozen=True, slots=True)
class Group(Generic[T]):
    """One transaction: a lane and its RCPTs in order."""

    lane: str
    members: tuple[Member[T], ...]


@dataclass(slots=True)
class _Slot(Generic[T]):
    recipient: T
    route: Deliver
    merged: list[tuple[T, Deliver]] = field(default_factory=list)


def group(routed: Iterable[tuple[T, Deliver]], max_recipients: Callable[[str], int]) -> tuple[Group[T], ...]:
    """Group by lane, lanes in the order of their first recipient; `max_recipients(lane)` below 1 counts as 1."""
    lanes: dict[str, dict[str, _Slot[T]]] = {}
    for recipient, route in routed:
        slots = lanes.setdefault(route.lane, {})
        slot = slots.get(route.wire)
        if slot is None:
            slots[route.wire] = _Slot(recipient, route)
        else:
            slot.merged.append((recipient, route))
    return tuple(
        Group(lane, chunk) for lane, slots in lanes.items() for chunk in _chunks(slots, max(1, max_recipients(lane)))
    )


def _chunks(slots: dict[str, _Slot[T]], size: int) -> Iterable[tuple[Member[T], ...]]:
    members = [Member(slot.recipient, slot.route, tuple(slot.merged)) for slot in slots.values()]
    for start in range(0, len(members), size):
        yield tuple(members[start : start + size])
