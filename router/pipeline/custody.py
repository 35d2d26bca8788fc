"""
What is in the hands of one dispatch: recipients of a message, and a place at the next hop.

Guarantees: a recipient that was settled, handed over or given back is never put off by whoever had it before.
On failure: nothing here fails.
"""

from collections.abc import Callable, Iterable

from router.model.envelope import QueuedRecipient


class Custody:
    """
    Which recipients of a dispatch are still in its hands: not settled, and not handed over to another lane. Whatever
    goes wrong, only these may be put off; the others are somebody else's by now. `sent` went past a final dot. By
    `leave_place` the next delivery may begin at the next hop: nothing more will be sent from here.
    """

    __slots__ = ("leave_place", "own", "sent")

    def __init__(self, recipients: Iterable[QueuedRecipient], leave_place: Callable[[], None] = lambda: None) -> None:
        self.leave_place = leave_place
        self.own = {r.number for r in recipients}
        self.sent: set[int] = set()

    def let_go(self, recipients: Iterable[QueuedRecipient]) -> None:
        self.own.difference_update([r.number for r in recipients])
