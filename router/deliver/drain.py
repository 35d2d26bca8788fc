"""
Releases: the kept and deferred mail of a mailbox is tried in order of arrival, one at a time, before newer mail.

Guarantees: each released recipient is tried once before the next one of its mailbox begins, and a deferral does not
block the next; mailboxes drain beside each other, at most `width` at once, so that a release of thousands neither
floods the stores nor the memory. The marks are in the spool: a restart goes on where it was.

On failure: while a next hop rests or is paused its released mail waits, in order; a failing read is tried again.
"""

import asyncio
import contextlib
import logging
from collections import deque

from router.deliver.claims import Claims
from router.deliver.lanes import ROUTE_LANE, Lanes
from router.errors import SluiceError
from router.model.envelope import Work
from router.ports import Queue

log = logging.getLogger(__name__)


class Drain:
    """The releases under way in one worker. `patience`: seconds before a resting lane is asked again."""

    def __init__(
        self, queue: Queue, lanes: Lanes, claims: Claims, *, width: int = 64, patience: float = 0.5, page: int = 50
    ) -> None:
        self._queue = queue
        self._lanes = lanes
        self._claims = claims
        self._width = width
        self._patience = patience
        self._page = page
        self._waiting: deque[str] = deque()
        self._open: set[str] = set()
        self._again: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, mailbox: str) -> bool:
        return mailbox in self._open

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, mailbox: str) -> None:
        """The spool has marked this mailbox's mail as released."""
        if mailbox in self._open:
            self._again.add(mailbox)
            return
        self._open.add(mailbox)
        self._waiting.append(mailbox)
        self._fill()

    async def stop(self) -> None:
        """Give up where we are; the marks stay in the spool."""
        self._waiting.clear()
        for task in tuple(self._tasks):
            task.cancel()
        for task in tuple(self._tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _fill(self) -> None:
        while self._waiting and len(self._tasks) < self._width:
            mailbox = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._run(mailbox), name=f"drain {mailbox}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._fill()

    async def _run(self, mailbox: str) -> None:
        while True:
            self._again.discard(mailbox)
            try:
                while await self._page_through(mailbox):
                    pass
            except SluiceError as error:
                log.warning("the released mail of %s could not be read: %s", mailbox, error)
                await asyncio.sleep(self._patience)
                continue
            if mailbox not in self._again:
                self._open.discard(mailbox)
                return

    async def _page_through(self, mailbox: str) -> bool:
        """Try one page of released mail; whether there may be more."""
        with self._claims.reading() as began:
            works = await self._queue.draining(mailbox, self._page)
            for work in works:
                number = work.recipients[0].number
                if number in self._claims:
                    # It is being tried already, from before the release; what that leaves behind is read again.
                    await self._claims.gone(number)
                    return True
                if not self._claims.free(number, began):
                    return True
                if not await self._try(work):
                    await asyncio.sleep(self._patience)
                    return True
        return bool(works)

    async def _try(self, work: Work) -> bool:
        """Route and deliver one; False when its next hop rests or is paused and nothing was tried."""
        number = work.recipients[0].number
        self._claims.take((number,))
        # The lane in the row may be that of the former home: let the route of this moment choose.
        if not self._lanes.offer_first(ROUTE_LANE, work):
            self._claims.give_back((number,))
            return False
        return await self._claims.gone(number)
