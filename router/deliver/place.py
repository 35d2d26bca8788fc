"""
A place: one of the deliveries that a next hop may have at a time.

Guarantees: it is occupied from before the delivery begins, and vacated once: early, by whoever delivers, when the next
hop has nothing more to do with it (`leave`), or at the end, by the lane. Whoever has left begins nothing more there.

On failure: nothing here fails; where too many are leaving, `leave` does nothing and the place is kept to the end.
"""

from collections.abc import Callable


class Place:
    """`leaving` is asked whether it may be left now, and told of it by being asked."""

    __slots__ = ("_leaving", "occupied")

    def __init__(self, leaving: Callable[[], bool]) -> None:
        self._leaving = leaving
        self.occupied = True

    def leave(self) -> None:
        """The next hop has answered, and nothing more will be sent to it: another delivery may begin. Idempotent."""
        if self.occupied and self._leaving():
            self.occupied = False
