"""
Where forwards lead, for `sluice route`: each target explained, and the targets of those, to the end.

Guarantees: it ends: a mailbox is followed once, at most `HOPS` forwards behind each other and `MOST` addresses in all.
A circle ends well where a mailbox on it keeps a copy; otherwise its mail waits, and it is told as a loop.
"""

from collections.abc import Awaitable, Callable

from router.admin.cli.route_answer import FORWARD, Explained, Link
from router.model.address import Address
from router.route.forwards import HOPS, aimed

MOST = 200
_WORST = ("ok", "unresolved", "refused")

Explain = Callable[[Address], Awaitable[Explained]]


def worst(verdicts: list[str]) -> str:
    """Of several, the one that an operator must know."""
    return max(verdicts, key=_WORST.index, default="ok")


class Chain:
    """`explain` explains one target, as mail that we forward."""

    def __init__(self, explain: Explain) -> None:
        self._explain = explain
        self._links: list[Link] = []
        self._followed: set[str] = set()

    async def below(self, first: Explained, address: Address) -> tuple[Link, ...]:
        """All that follows from an address whose action is `FORWARD`; nothing from another."""
        if first.action == FORWARD:
            await self._follow(first, address, (), frozenset())
        return tuple(self._links)

    async def _follow(self, one: Explained, received: Address, via: tuple[str, ...], kept: frozenset[str]) -> None:
        via = (*via, one.mailbox)
        kept = kept | {one.mailbox} if one.keeps else kept
        self._followed.add(one.mailbox)
        for wire in one.forwards:
            if len(self._links) >= MOST:
                self._links.append(Link(len(via), wire, "unresolved", note=f"not followed: over {MOST} addresses"))
                return
            target = aimed(wire, received)  # an address: the relay would not forward to what is none
            found = await self._explain(target)
            verdict, note = self._judge(found, via, kept)
            self._links.append(Link(len(via), target.wire, verdict, found, note))
            if found.action == FORWARD and not note:
                await self._follow(found, target, via, kept)

    def _judge(self, found: Explained, via: tuple[str, ...], kept: frozenset[str]) -> tuple[str, str]:
        """Verdict and note; a note ends the chain here."""
        if found.action != FORWARD:
            return found.verdict, ""
        if found.mailbox in via:
            return _came_back(via[via.index(found.mailbox) :], kept)
        if len(via) >= HOPS:
            return "unresolved", f"LOOP: more than {HOPS} forwards behind each other; its mail waits"
        if found.mailbox in self._followed:
            return found.verdict, "as above"
        return found.verdict, ""


def _came_back(circle: tuple[str, ...], kept: frozenset[str]) -> tuple[str, str]:
    """A forward to a mailbox that it came from, over these others."""
    if len(circle) == 1:
        return "ok", "itself: goes to its home"
    if kept.intersection(circle):
        return "ok", "ends here: it comes back to where a copy is kept already"
    return "unresolved", f"LOOP: {' > '.join((*circle, circle[0]))}; its mail waits"
