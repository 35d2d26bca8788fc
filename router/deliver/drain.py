"""
Releases: the kept and deferred mail of a mailbox is tried in order of arrival, one at a time, before newer mail.

Guarantees: each released recipient is tried once before the next one of its mailbox begins, and a deferral does not
block the next; mailboxes drain beside each other, at most `width` at once, so that a release of thousands neither
floods the stores nor the memory. The marks are in the spool: a restart goes on where it was.

On failure: while a next hop rests or is paused its released mail waits, in order, and lets other mailboxes have its
place; a failing read is tried again.
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

    def __init__(self, queue: Queue, lanes: Lanes, claims: Claims, *, width: int = 64, patience: float = 0.5) -> None:
        self._queue = queue
        self._lanes = lanes
        self._claims = claims
        self._width = width
        self._patience = patience
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
        """Drain until nothing is left, or until the next hop cannot take more: then it is the others' turn."""
        try:
            done = await self._all_of(mailbox)
        except SluiceError as error:
            log.warning("the released mail of %s could not be read: %s", mailbox, error)
            done = False
        except Exception:
            log.exception("the released mail of %s waits", mailbox)
            done = False
        if done:
            self._open.discard(mailbox)
            return
        # Its place is kept for so long, which bounds how often the spool is asked for mail that cannot go anywhere.
        await asyncio.sleep(self._patience)
        self._waiting.append(mailbox)

    async def _all_of(self, mailbox: str) -> bool:
        """False when its next hop rests or is paused."""
        while True:
            self._again.discard(mailbox)
            while (work := await self._next(mailbox)) is not None:
                if not await self._try(work):
                    return False
            if mailbox not in self._again:
                return True

    async def _next(self, mailbox: str) -> Work | None:
        """The first released recipient of the mailbox, now claimed; None when there is none."""
        while True:
            # One at a time: a read that stays open while something is delivered makes `Claims` remember all that is
            # given back meanwhile.
            with self._claims.reading() as began:
                works = await self._queue.draining(mailbox, 1)
                if not works:
                    return None
                number = works[0].recipients[0].number
                if self._claims.free(number, began):
                    self._claims.take((number,))
                    return works[0]
            # It is being tried already, from before the release, or was a moment ago: see what that left behind.
            await self._claims.gone(number)

    async def _try(self, work: Work) -> bool:
        """Route and deliver one; False when its next hop rests or is paused and nothing was tried."""
        number = work.recipients[0].number
        # The lane in the row may be that of the former home: let the route of this moment choose.
        if not self._lanes.offer_first(ROUTE_LANE, work):
            self._claims.give_back((number,), tried=False)
            return False
        return await self._claims.gone(number)
