"""
Our Received field with its loop marks: one per mailbox of the transaction (semantics: at most once more per store), and
one per mailbox by whose forward it goes on, wherever it goes: a forward that comes back is not forwarded again.
"""

from collections.abc import Callable, Sequence

from router.model.envelope import QueuedMessage
from router.report.received import received_field
from router.route.marks import FORWARD, sign


class MarkSigner:
    """`key` signs; `marked(lane)` says whether the lane is a store: what leaves the site has marks of forwards only."""

    def __init__(self, hostname: str, key: bytes, marked: Callable[[str], bool]) -> None:
        self._hostname = hostname
        self._key = key
        self._marked = marked

    def received_field(
        self,
        message: QueuedMessage,
        lane: str,
        recipients: Sequence[tuple[str, str]],
        forwarded: Sequence[str] = (),
    ) -> bytes:
        """The field for one transaction; `recipients` are (mailbox or address key, wire address)."""
        tokens: tuple[str, ...] = ()
        if self._marked(lane):
            tokens = tuple([sign(self._key, message.queue_id, subject, lane) for subject, _ in recipients])
        if forwarded:
            tokens += tuple([sign(self._key, message.queue_id, mailbox, FORWARD) for mailbox in forwarded])
        only = recipients[0][1] if len(recipients) == 1 else None
        return received_field(message, self._hostname, only, tokens)
