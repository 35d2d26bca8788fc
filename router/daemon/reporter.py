"""DSNs for the pipeline: reads the head of the original and has the report station write the notice."""

from collections.abc import Sequence

from router.errors import BodyDamaged
from router.model.envelope import QueuedMessage, QueuedRecipient
from router.model.outcome import Outcome
from router.model.parcel import Report
from router.ports import Clock, Queue
from router.report.dsn import HEAD_LIMIT, report_for
from router.report.notice import Notice, Origin, Told, told_to_sender


class DsnReporter:
    """`lifetime`: seconds until a delayed recipient is given up."""

    def __init__(self, queue: Queue, origin: Origin, clock: Clock, lifetime: float) -> None:
        self._queue = queue
        self._origin = origin
        self._clock = clock
        self._lifetime = lifetime

    async def report(
        self, message: QueuedMessage, outcomes: Sequence[tuple[QueuedRecipient, Outcome, str]]
    ) -> Report | None:
        """The notice, or None when nobody wants one. Raises `SpoolUnavailable`."""
        items = [self._told(*one) for one in outcomes]
        if not told_to_sender(message, items):
            return None
        return report_for(message, items, await self._head(message), self._origin, self._clock.wall())

    async def _head(self, message: QueuedMessage) -> bytes:
        try:
            return await self._queue.head(message, HEAD_LIMIT)
        except BodyDamaged:
            return b""  # a notice without the original still tells the sender

    def _told(self, recipient: QueuedRecipient, outcome: Outcome, action: str) -> Told:
        notice = Notice(action)
        until = recipient.clock_start + self._lifetime if notice is Notice.DELAY else None
        return Told(recipient, notice, outcome.reply, outcome.at, until)
