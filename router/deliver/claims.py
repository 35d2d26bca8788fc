"""
Which queued recipients are in somebody's hands right now.

A recipient may be read from the spool by the feeder, by a release, or come straight from reception; it must be
dispatched by one of them only. Whoever takes it claims its number and gives it back when its outcome is committed.

Guarantees: a number is held by at most one taker. A row that was read before its claim was given back is stale
(the outcome may have been committed in between) and is not taken: see `Claims.reading`. A number that an operator's
change has called in (`call_in`) goes to nobody else, and who holds it sends nothing for it any more.

On failure: nothing here fails; a number given back twice is ignored.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Container, Iterable, Iterator
from contextlib import contextmanager

from router.model.envelope import Work


class Claims:
    """The set of claimed recipient numbers of one spool. Event-loop thread only."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._waiters: dict[int, list[asyncio.Future[bool]]] = {}
        self._clock = 0
        self._returned: dict[int, int] = {}
        self._order: deque[tuple[int, int]] = deque()
        self._reads: dict[object, int] = {}
        self._called: dict[int, asyncio.Future[None]] = {}
        self._revoked: set[int] = set()
        self._ending: set[int] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, number: int) -> bool:
        return number in self._held

    def take(self, numbers: Iterable[int]) -> None:
        """Claim numbers that nobody holds: the caller has filtered them by `fresh`."""
        self._held.update(numbers)

    def give_back(self, numbers: Iterable[int], *, tried: bool = True) -> None:
        """The outcomes of these numbers are committed; `tried` is false when they were put back untouched."""
        for number in numbers:
            if number not in self._held:
                continue
            self._revoked.discard(number)
            if (called := self._called.get(number)) is not None:
                if not called.done():
                    called.set_result(None)  # it is now held by who called it in
                continue
            self._held.discard(number)
            if self._reads:
                self._clock += 1
                self._returned[number] = self._clock
                self._order.append((self._clock, number))
            for waiter in self._waiters.pop(number, ()):
                if not waiter.done():
                    waiter.set_result(tried)

    @contextmanager
    def reading(self) -> Iterator[int]:
        """
        Around a read of the queue, or a commit that adds to it: yields what `fresh` and `free` need, which
        must be asked inside the block.

        Without it a read that overlaps a commit hands out a recipient that has just been delivered.
        """
        token, began = object(), self._clock
        self._reads[token] = began
        try:
            yield began
        finally:
            del self._reads[token]
            self._forget()

    def fresh(self, works: Iterable[Work], began: int) -> list[Work]:
        """What of a read may be taken: neither claimed now nor given back since the read began."""
        kept = []
        for work in works:
            free = tuple(r for r in work.recipients if self.free(r.number, began))
            if free:
                kept.append(work if len(free) == len(work.recipients) else Work(work.message, free))
        return kept

    def free(self, number: int, began: int) -> bool:
        return number not in self._held and self._returned.get(number, 0) <= began

    async def gone(self, number: int) -> bool:
        """Return once nobody holds `number`: whether it was tried meanwhile."""
        if number not in self._held:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(number, []).append(waiter)
        return await waiter

    # --- an operator's change

    def call_in(self, numbers: Iterable[int]) -> dict[int, asyncio.Future[None]]:
        """
        Hold these for an operator's change: free ones at once; those that somebody holds are handed over when they are
        given back, which each future tells. End it by `let_out`.
        """
        loop = asyncio.get_running_loop()
        for number in numbers:
            called = self._called[number] = loop.create_future()
            if number not in self._held:
                self._held.add(number)
                called.set_result(None)
        return dict(self._called)

    def let_out(self, changed: Container[int]) -> None:
        """
        The change is committed. Those of `changed` that are still in somebody's hands were read before it: they are
        not to be sent, only given back.
        """
        calls, self._called = self._called, {}
        for number, called in calls.items():
            if called.done():
                self.give_back((number,), tried=False)
            elif number in changed:
                self._revoked.add(number)

    @property
    def calling(self) -> bool:
        """Whether any number may be called back."""
        return bool(self._called or self._revoked)

    def called_back(self, number: int) -> bool:
        """Who holds this number is to give it back instead of sending anything for it."""
        return number in self._revoked or number in self._called

    @contextmanager
    def ending(self, numbers: Collection[int]) -> Iterator[None]:
        """Around the commit of an end that is not a delivery: it is too late to call these back."""
        self._ending.update(numbers)
        try:
            yield
        finally:
            self._ending.difference_update(numbers)

    def ending_of(self, wanted: Collection[int]) -> set[int]:
        """Those whose end is being committed."""
        return self._ending.intersection(wanted)

    def _forget(self) -> None:
        # The oldest read under way bounds what must be remembered; dicts keep the order of insertion.
        oldest = next(iter(self._reads.values()), self._clock)
        while self._order and self._order[0][0] <= oldest:
            at, number = self._order.popleft()
            if self._returned.get(number) == at:
                del self._returned[number]
