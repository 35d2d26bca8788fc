"""
The directories behind the mirror, for one worker: who is not known here is asked for there, and taken in (ADR 6).

Guarantees: the event loop never blocks. What several callers brought is written into the mirror together, whatever
came until its turn to write is there included; there is one path by which a person becomes known, so that the epoch of
every answer is the control database's. Only people are written down: an address that nobody has costs no write. Who is
there twice after that is asked for by name, since to whoever follows the directory neither entry is news any more: one
that was renamed is one again.

On failure: the keys are doubtful, with the reason; nothing is raised. Whether a directory answers is told once each
time it changes (`doubted`): what it did not know before is no answer while it is silent. An answer that makes no sense
for one address is no silence.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

from router.directory.faults import Unfit
from router.errors import SluiceError
from router.model.directory import Answered, DirectoryItem, Entry, Fetched
from router.ports import DirectoryReader

MOST = 200
"""Mailboxes asked for together."""
TOGETHER = 100
"""Answers taken in together, each an entry or a few."""
REST = 10.0
"""Seconds until a question that could not be answered is asked again."""


class _Waiting(NamedTuple):
    answer: Answered
    told: asyncio.Future[str]
    """Why it could not be written, '' when it was."""


class Intake(Protocol):
    """The mirror of one directory. Blocking, used by one thread."""

    def admit(self, more: Callable[[], Sequence[Answered]]) -> object:
        """
        Take in what `more` brings; durable on return. Raises `SluiceError`.

        It is asked when there is nobody to wait for any more, and again whenever the writing is repeated.
        """

    def take_contested(self) -> list[str]:
        """Mailboxes that several entries were found to be since the last call."""

    def confirm(self, items: Sequence[DirectoryItem], asked: float) -> object:
        """The complete answer about them, to a question put at `asked`. Raises `SluiceError`."""


class Fetcher:
    """
    One directory. `mirror` makes its mirror, in the thread that will use it; `rest` (see `REST`) and `wall` are in
    seconds.
    """

    def __init__(
        self,
        name: str,
        reader: DirectoryReader,
        mirror: Callable[[], Intake],
        doubted: Callable[[], None],
        rest: float = REST,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._reader = reader
        self._mirror = mirror
        self._doubted = doubted
        self._rest = rest
        self._wall = wall
        self._made: Intake | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"mirror-{name}")
        self._waiting: deque[_Waiting] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._contested: set[str] = set()
        self._confirming: asyncio.Task[None] | None = None
        self._silent = False

    async def fetch(self, keys: Sequence[str]) -> Fetched:
        """Never raises."""
        asked = self._wall()
        try:
            items = await self._reader.find(keys)
        except SluiceError as error:
            why = error.private or str(error)
            if isinstance(error.__cause__, Unfit):
                return Fetched(doubtful=dict.fromkeys(keys, f"the directory {self._name} cannot tell: {why}"))
            return self._unanswered(keys, why)
        except Exception as error:  # noqa: BLE001 - an unknown error is a temporary one
            return self._unanswered(keys, repr(error))
        self._silent = False
        people = [item for item in items if isinstance(item, Entry)]
        if not people:
            return Fetched()
        news = frozenset(keys).intersection(address for one in people for address in one.addresses)
        failure = await self._take_in(Answered(items, asked))
        if failure:
            return Fetched(doubtful=dict.fromkeys(news, failure))
        return Fetched(news)

    async def silence(self) -> None:
        """Ask nothing any more; who waits is told that nobody answers. What was answered is still taken in."""
        await self._reader.close()

    async def close(self) -> None:
        """End what is under way; who waits is told that nobody answers."""
        if self._confirming is not None:
            self._confirming.cancel()
            await asyncio.gather(self._confirming, return_exceptions=True)
        await self._reader.close()
        self._tell(self._taken(), f"the directory {self._name} is not asked any more")
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _unanswered(self, keys: Sequence[str], why: str) -> Fetched:
        if not self._silent:
            self._silent = True
            self._doubted()
        return Fetched(doubtful=dict.fromkeys(keys, f"the directory {self._name} does not answer: {why}"))

    async def _take_in(self, answer: Answered) -> str:
        """Why it could not be written; '' when it was."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(answer, future))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())
        return await future

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch = self._taken(1)
                if not batch:
                    continue
                failure = await self._write(batch)
                self._tell(batch, failure)
                if self._contested and self._confirming is None:
                    self._confirming = asyncio.get_running_loop().create_task(self._confirm_all())
        finally:
            # Not in a callback of the task: who came before that ran would count on a task that has ended.
            self._writing = None

    async def _write(self, batch: list[_Waiting]) -> str:
        try:
            contested = await asyncio.get_running_loop().run_in_executor(self._pool, self._admit, batch)
            self._contested.update(contested)
        except SluiceError as error:
            # Whoever came meanwhile would wait as long for the same; what was answered so long ago is no news.
            batch += self._taken()
            return error.private or str(error)
        except Exception as error:  # noqa: BLE001 - everybody who waits must hear of it
            return f"what {self._name} said cannot be written down: {error!r}"
        return ""

    def _admit(self, batch: list[_Waiting]) -> list[str]:
        mirror = self._here()
        mirror.admit(partial(self._gather, batch))
        return mirror.take_contested()

    def _gather(self, batch: list[_Waiting]) -> Sequence[Answered]:
        """In the mirror's thread, which alone takes from the queue now: who came while it waited is written too."""
        batch += self._taken(TOGETHER - len(batch))
        return [one.answer for one in batch]

    def _taken(self, most: int = sys.maxsize) -> list[_Waiting]:
        """From the queue, at most so many; those who have given up are left out. In any thread."""
        taken: list[_Waiting] = []
        with suppress(IndexError):  # an empty queue, maybe only just
            while len(taken) < most:
                one = self._waiting.popleft()
                if not one.told.done():
                    taken.append(one)
        return taken

    def _tell(self, batch: Iterable[_Waiting], failure: str) -> None:
        for one in batch:
            if not one.told.done():
                one.told.set_result(failure)

    async def _confirm_all(self) -> None:
        try:
            while self._contested:
                keys = sorted(self._contested)[:MOST]
                self._contested.difference_update(keys)
                asked = self._wall()
                try:
                    items = await self._reader.find(keys)
                    contested = await asyncio.get_running_loop().run_in_executor(
                        self._pool, self._confirm, items, asked
                    )
                except Exception:  # noqa: BLE001 - their mail waits, and another time may be a better one
                    self._contested.update(keys)
                    await asyncio.sleep(self._rest)
                else:
                    # Who is contested after that really is there twice: the next change of either entry brings it up.
                    self._contested.update(set(contested).difference(keys))
        finally:
            self._confirming = None

    def _confirm(self, items: Sequence[DirectoryItem], asked: float) -> list[str]:
        mirror = self._here()
        mirror.confirm(items, asked)
        return mirror.take_contested()

    def _here(self) -> Intake:
        if self._made is None:
            self._made = self._mirror()
        return self._made


class Everywhere:
    """All directories of the configuration as one `Beyond`."""

    def __init__(self, fetchers: Sequence[Fetcher] = ()) -> None:
        self._fetchers = tuple(fetchers)

    async def fetch(self, keys: Sequence[str]) -> Fetched:
        """As `Beyond.fetch`: an address is unknown only when every directory has answered."""
        if not self._fetchers:
            return Fetched()
        answers = await asyncio.gather(*(fetcher.fetch(keys) for fetcher in self._fetchers))
        doubtful = {key: why for answer in answers for key, why in answer.doubtful.items()}
        return Fetched(frozenset().union(*(answer.news for answer in answers)), doubtful)

    def use(self, fetchers: Sequence[Fetcher]) -> "Sequence[Fetcher]":
        """Ask these from now on; returns the former ones, to be closed."""
        former, self._fetchers = self._fetchers, tuple(fetchers)
        return former

    async def close(self) -> None:
        await asyncio.gather(*(fetcher.close() for fetcher in self._fetchers))

    async def silence(self) -> None:
        """As `Fetcher.silence`, all of them."""
        await asyncio.gather(*(fetcher.silence() for fetcher in self._fetchers))
