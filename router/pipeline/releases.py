"""
Which mailboxes this worker knows to be on hold, and the release of their mail when a hold ends.

Guarantees: no recipient stays held after its mailbox's hold has ended, whatever the order in which a commit, a
change and a lookup overtake each other: a mailbox is remembered as held as soon as anybody here decided so, the end
of the hold releases it, and whoever commits a held recipient looks again afterwards (`settled_as_held`).

On failure: a spool that cannot release now is asked again until it can; the held rows are safe on disk. From time to
time the spool is compared with what is known here, so that nothing stays behind whatever went wrong before.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

from router.deliver.drain import Drain
from router.deliver.feeder import Feeder
from router.deliver.lanes import ROUTE_LANE
from router.errors import SluiceError
from router.model.envelope import QueuedRecipient
from router.ports import Clock, Queue

log = logging.getLogger(__name__)

CHUNK = 500
"""Mailboxes in one spool transaction: a batch of thousands must not keep commits of new mail waiting."""


class Releases:
    """
    The held mailboxes and the releases in preparation. `retry` seconds between tries at a failing spool, `sweep`
    seconds between looks at what was left behind.
    """

    def __init__(
        self, queue: Queue, drain: Drain, feeder: Feeder, clock: Clock, *, retry: float = 1.0, sweep: float = 15.0
    ) -> None:
        self._queue = queue
        self._drain = drain
        self._feeder = feeder
        self._clock = clock
        self._retry = retry
        self._sweep = sweep
        self._held: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def know(self, held: Iterable[str]) -> None:
        """At start: all mailboxes with an open hold."""
        self._held = set(held)

    async def begin(self) -> None:
        """Go on with releases; mail kept for a mailbox without a hold was released while we were away."""
        stale = [mailbox for mailbox in await self._queue.held_mailboxes() if mailbox not in self._held]
        for mailbox in await self._queue.draining_mailboxes():
            self._drain.begin(mailbox)
        if stale:
            self._spawn(self._release(stale))
        self._spawn(self._look_around())

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def decided_held(self, mailbox: str) -> None:
        """A route here says hold, maybe before the change itself has come."""
        self._held.add(mailbox)

    def settled_as_held(self, mailboxes: Iterable[str]) -> None:
        """Held recipients have been committed: if a release came in between, it did not see them."""
        late = [mailbox for mailbox in mailboxes if mailbox not in self._held]
        if late:
            self._spawn(self._release(late))

    def draining(self, mailbox: str) -> bool:
        return mailbox in self._drain

    def urgent(self, recipients: Iterable[QueuedRecipient]) -> bool:
        """Whether the drain of a mailbox stands still until the outcomes of these have committed."""
        return any(one.draining and self._drain.waits_alone(one.mailbox) for one in recipients)

    def arrived(self, mailbox: str) -> None:
        """New mail has queued up behind the released mail of this mailbox."""
        self._drain.begin(mailbox)

    def hold_applied(self, mailbox: str) -> None:
        self._held.add(mailbox)

    def changed(self, mailboxes: Sequence[str]) -> None:
        """These mailboxes changed and have no hold: release what was held, route anew what waits for a retry."""
        released = [mailbox for mailbox in mailboxes if mailbox in self._held]
        others = [mailbox for mailbox in mailboxes if mailbox not in self._held]
        self._held.difference_update(released)
        if released:
            self._spawn(self._release(released))
        if others:
            self._spawn(self._reroute(others))

    def unrouted(self) -> None:
        """Mail that nobody could route for a while may be routed now: it is due at once."""
        self._spawn(self._route_again())

    def resynchronised(self, held: Iterable[str], *, reroute: bool) -> None:
        """
        Changes were missed: exactly these mailboxes are on hold now. What was held and is not any more is released;
        with `reroute` (a paused lane may keep mail of a mailbox that has moved) all waiting mail is routed anew.
        """
        now_held = set(held)
        over = sorted(self._held - now_held)
        self._held = now_held
        if over:
            self._spawn(self._release(over))
        if reroute:
            self._spawn(self._reroute_all())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release(self, mailboxes: Sequence[str]) -> None:
        for chunk in _chunks(mailboxes):
            with self._drain.expecting(chunk):
                if await self._insist(self._queue.release, chunk):
                    for mailbox in chunk:
                        self._drain.begin(mailbox)

    async def _reroute(self, mailboxes: Sequence[str]) -> None:
        for chunk in _chunks(mailboxes):
            if await self._insist(self._queue.reroute, chunk):
                self._feeder.nudge()

    async def _reroute_all(self) -> None:
        while True:
            try:
                waiting = await self._queue.queued_mailboxes()
            except SluiceError as error:
                log.warning("waiting mail must stay where it is for now: %s", error)
                await asyncio.sleep(self._retry)
            else:
                await self._reroute([mailbox for mailbox in waiting if mailbox])
                return

    async def _route_again(self) -> None:
        while True:
            try:
                await self._queue.wake(ROUTE_LANE, self._clock.wall())
            except SluiceError as error:
                log.warning("mail without a route must wait: %s", error)
                await asyncio.sleep(self._retry)
            else:
                self._feeder.nudge()
                return

    async def _insist(self, change: Callable[[Sequence[str], float], Awaitable[int]], mailboxes: Sequence[str]) -> int:
        """Ask the spool for a change until it has made it; how many recipients it changed."""
        while True:
            try:
                return await change(mailboxes, self._clock.wall())
            except SluiceError as error:
                log.warning("mail of %d changed mailboxes must wait: %s", len(mailboxes), error)
            except Exception:
                log.exception("mail of %d changed mailboxes must wait", len(mailboxes))
            await asyncio.sleep(self._retry)

    async def _look_around(self) -> None:
        """
        Released mail that nobody drains, and mail held for a mailbox without a hold, were left by something that
        could not be foreseen: a commit that failed and was there all the same, an operator's requeue.
        """
        suspects: set[str] = set()
        while True:
            await asyncio.sleep(self._sweep)
            try:
                for mailbox in await self._queue.draining_mailboxes():
                    if mailbox not in self._drain:
                        self._drain.begin(mailbox)
                held = await self._queue.held_mailboxes()
            except SluiceError as error:
                log.warning("the spool could not be looked through: %s", error)
                continue
            # Twice in a row, because a release may be on its way through the spool at this moment.
            astray = {mailbox for mailbox in held if mailbox not in self._held}
            if again := sorted(astray & suspects):
                await self._release(again)
            suspects = astray


def _chunks(items: Sequence[str]) -> list[Sequence[str]]:
    return [items[at : at + CHUNK] for at in range(0, len(items), CHUNK)]
