"""
Releases: the kept and deferred mail of a mailbox is tried in order of arrival, one at a time, before newer mail.

A mailbox's mail is read some messages ahead, with their bodies. What was read is claimed, so that what an operator
takes away meanwhile is called back as from a lane; it is read again when anything was released or arrived meanwhile.

Guarantees: each released recipient is tried once before the next one of its mailbox begins, and a deferral does not
block the next; mailboxes drain beside each other, at most `width` at once, so that a release of thousands neither
floods the stores nor the memory, in which are at most `width` times `OCTETS` of bodies. The marks are in the spool: a
restart goes on where it was.

On failure: while a next hop rests or is paused its released mail waits, in order, and lets other mailboxes have its
place; a failing read is tried again.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

from router.deliver.claims import Claims
from router.deliver.lanes import Lanes
from router.errors import SluiceError
from router.model.envelope import Work
from router.ports import Queue

log = logging.getLogger(__name__)

AHEAD = 16
"""Messages of one mailbox that are read at once."""
OCTETS = 256 * 1024
"""Of their bodies; what is larger is read when its turn has come."""
FEW = 8
"""Mailboxes whose drains wait for their commits more than for anything else; the outcomes of more keep company."""


class Drain:
    """
    The releases under way in one worker. `by_route` tells the lane of a released recipient as far as it is known now,
    and names the work for it; `patience`: seconds before a resting lane is asked again.
    """

    def __init__(
        self,
        queue: Queue,
        lanes: Lanes,
        claims: Claims,
        by_route: Callable[[Work], tuple[str, Work]],
        *,
        width: int = 64,
        patience: float = 0.5,
    ) -> None:
        self._queue = queue
        self._lanes = lanes
        self._claims = claims
        self._by_route = by_route
        self._width = width
        self._patience = patience
        self._waiting: deque[str] = deque()
        self._open: set[str] = set()
        self._again: set[str] = set()
        self._refused: set[str] = set()
        self._expected: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, mailbox: str) -> bool:
        return mailbox in self._open

    def __len__(self) -> int:
        return len(self._open)

    def waits_alone(self, mailbox: str) -> bool:
        """Whether the next message of the mailbox waits for the outcome of this one, and few others do so."""
        return mailbox in self._open and len(self._open) <= FEW

    def begin(self, mailbox: str) -> None:
        """The spool has marked this mailbox's mail as released."""
        if mailbox in self._open:
            self._again.add(mailbox)
            return
        self._open.add(mailbox)
        self._waiting.append(mailbox)
        self._fill()

    @contextlib.contextmanager
    def expecting(self, mailboxes: Sequence[str]) -> Iterator[None]:
        """Around a release of these mailboxes: what it frees may go before what was read, so nothing is read ahead."""
        self._expected.update(mailboxes)
        try:
            yield
        finally:
            self._expected -= Counter(mailboxes)

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
            self._refused.discard(mailbox)
            return
        # Its place is kept for so long, which bounds how often the spool is asked for mail that cannot go anywhere.
        await asyncio.sleep(self._patience)
        self._waiting.append(mailbox)

    async def _all_of(self, mailbox: str) -> bool:
        """False when its next hop rests or is paused."""
        while True:
            self._again.discard(mailbox)
            works = await self._next(mailbox)
            if not works and mailbox not in self._again:
                return True
            if not await self._try_all(mailbox, works):
                return False

    async def _next(self, mailbox: str) -> Sequence[Work]:
        """The first released recipients of the mailbox, now claimed; empty when there are none."""
        while True:
            # The read ends before anything is delivered: `Claims` remembers all that is given back meanwhile.
            with self._claims.reading() as began:
                works = await self._queue.draining(mailbox, *self._how_far(mailbox))
                if not works:
                    return ()
                if free := self._first_free(works, began):
                    return free
            # It is being tried already, from before the release, or was a moment ago: see what that left behind.
            await self._claims.gone(_number(works[0]))

    def _how_far(self, mailbox: str) -> tuple[int, int]:
        """Messages to read, and octets of bodies: no more than a next hop may take that took nothing the last time."""
        if mailbox in self._refused:
            return 1, 0
        return 1 if mailbox in self._expected else AHEAD, OCTETS

    def _first_free(self, works: Sequence[Work], began: int) -> Sequence[Work]:
        """Those before the first that somebody else has: what comes after it must wait for it. Claimed."""
        free = list(takewhile(lambda work: self._claims.free(_number(work), began), works))
        self._claims.take(map(_number, free))
        return free

    async def _try_all(self, mailbox: str, works: Sequence[Work]) -> bool:
        """
        One after the other, until the spool may have something that goes before, or what was read is called back.

        False when the next hop rests or is paused.
        """
        ahead = deque(works)
        try:
            while ahead and not self._claims.called_back(_number(ahead[0])):
                if not await self._try(ahead.popleft()):
                    self._refused.add(mailbox)
                    return False
                self._refused.discard(mailbox)
                if mailbox in self._again or mailbox in self._expected:
                    break
        finally:
            self._claims.give_back(map(_number, ahead), tried=False)
        return True

    async def _try(self, work: Work) -> bool:
        """Route and deliver one; False when its next hop rests or is paused and nothing was tried."""
        # The lane in the row may be that of the former home: the route of this moment chooses, and once more when it
        # is sent.
        if not self._lanes.offer_first(*self._by_route(work)):
            self._claims.give_back((_number(work),), tried=False)
            return False
        return await self._claims.gone(_number(work))


def _number(work: Work) -> int:
    return work.recipients[0].number
