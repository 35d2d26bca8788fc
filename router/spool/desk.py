"""
The operators' desk of an open spool: find, count, remove, requeue, park and flush.

Only the owner of a spool may write it, so these run in the worker that holds the lock, on request, or in a command
that took the lock because no worker runs. Verbs take recipient numbers as `find` gives them, or a filter.

On failure: `SpoolUnavailable`; whole chunks of `CHUNK` recipients are done or not done, and every verb may be given
the same numbers again. With `once`, the name of a request of one chunk, it is done at most once, also by a successor of
this owner: the second time only tells how many there were.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from router.errors import BodyDamaged
from router.model.envelope import QueuedMessage, Work
from router.model.outcome import Disposition
from router.spool import accounts
from router.spool import reader as queries
from router.spool.accounts import Counts, Stats
from router.spool.bodies import Bodies, verify_inline
from router.spool.finding import QueueEntry, QueueFilter, find
from router.spool.numbering import message_of
from router.spool.once import Made, Once, made
from router.spool.operations import CHUNK
from router.spool.owner import Flush, Remove, Requeue, SetAside
from router.spool.reader import Found, Reader
from router.spool.removed import Removal, RemovedCopy
from router.spool.writer import Operation, Writer

T = TypeVar("T")


class Desk:
    """See the module. Made by the spool."""

    def __init__(
        self, spool: int, removed: Path, reader: Reader, writer: Writer, bodies: Bodies, wall: Callable[[], float]
    ) -> None:
        self._spool = spool
        self._removed = removed
        self._reader = reader
        self._writer = writer
        self._bodies = bodies
        self._wall = wall

    async def find(self, wanted: QueueFilter) -> list[QueueEntry]:
        """Matching entries in order of arrival, at most `wanted.limit`."""
        return await self._run(find, self._reader, self._spool, wanted)

    async def counts(self, *, detail: bool = True) -> Counts:
        """The accounts of promise 9, from one read transaction."""
        return await self._run(partial(self._reader.call, accounts.counts, detail=detail))

    async def stats(self) -> Stats:
        """Size and age of the spool."""
        return await self._run(self._reader.call, accounts.stats)

    async def works(self, numbers: Sequence[int]) -> list[Work]:
        """These recipients by message, whatever their state (`queue show`, `queue cat`); damaged ones are left out."""
        return (await self._found(numbers)).works

    async def made(self, once: str) -> Made | None:
        """What became of a named change that was made already, maybe by an owner that has died."""
        return await self._run(self._reader.call, made, once)

    async def remove(self, numbers: Sequence[int], *, actor: str, reason: str, once: str = "") -> int:
        """
        Remove recipients for good; how many. A copy of each message goes to `removed/` before. Raises `OSError`,
        `SpoolUnavailable`.
        """
        count = 0
        for part in _chunks(numbers, once):
            now = self._wall()
            for work in (await self._found(part)).works:
                await self._copy(work, Removal(actor, reason, now))
            removal = Remove(self._spool, part, now, f"{actor}: {reason}")
            count += await self._writer.submit(_once(removal, once, part))
        return count

    async def requeue(self, numbers: Sequence[int], *, once: str = "") -> int:
        """Queued anew and due now, from any state; the retry clock starts again."""
        return await self._each(numbers, lambda part: Requeue(part, self._wall()), once)

    async def park(self, numbers: Sequence[int], *, actor: str, reason: str, once: str = "") -> int:
        """Set recipients aside until `requeue`; how many were not parked before."""
        note = f"{actor}: {reason}"
        return await self._each(
            numbers, lambda part: SetAside(self._spool, part, Disposition.PARKED, self._wall(), note), once
        )

    async def unpark(self, numbers: Sequence[int], *, once: str = "") -> int:
        """Requeue those of the recipients that are parked."""
        return await self._each(numbers, lambda part: Requeue(part, self._wall(), only="parked"), once)

    async def flush(self, wanted: QueueFilter) -> int:
        """Queued recipients that match are due now; how many were not. Not bounded by `wanted.limit`."""
        count, after = 0, wanted.after
        while entries := await self.find(replace(wanted, state="queued", after=after, limit=CHUNK)):
            after = entries[-1].number
            count += await self._writer.submit(Flush([entry.number for entry in entries], self._wall()))
        return count

    async def _found(self, numbers: Sequence[int]) -> Found:
        return await self._run(partial(self._reader.call, self._reader.works, numbers, 0))

    async def _copy(self, work: Work, removal: Removal) -> None:
        copy = await self._bodies.run(RemovedCopy, self._removed, work.message.queue_id)
        try:
            try:
                await self._copy_body(copy, work.message)
            except BodyDamaged as error:
                removal = replace(removal, damage=str(error))
            await self._bodies.run(copy.finish, work, removal)
        finally:
            copy.close()

    async def _copy_body(self, copy: RemovedCopy, message: QueuedMessage) -> None:
        if message.body_file:
            async for block in self._bodies.blocks(message, as_it_is=True):
                await self._bodies.run(copy.write, block)
            await self._bodies.verify(message)
            return
        body = await self._run(self._reader.call, queries.inline_body, message.number)
        await self._bodies.run(copy.write, body or b"")
        verify_inline(message, body)

    async def _each(
        self, numbers: Sequence[int], operation: Callable[[Sequence[int]], Operation[int]], once: str
    ) -> int:
        count = 0
        for part in _chunks(numbers, once):
            count += await self._writer.submit(_once(operation(part), once, part))
        return count

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader.pool, partial(work, *args))


def _once(operation: Operation[int], name: str, part: Sequence[int]) -> Operation[int]:
    return Once(operation, name, len(part)) if name else operation


def _chunks(numbers: Sequence[int], once: str = "") -> Iterator[list[int]]:
    """
    In order of arrival, each number once; recipients of one message stay together where possible. Raises `ValueError`
    for a named change that is more than one chunk: the name of the first would pass for all.
    """
    ordered = sorted(set(numbers), key=lambda number: (message_of(number), number))
    if once and len(ordered) > CHUNK:
        raise ValueError(f"{len(ordered)} recipients are more than a named change may have")
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]
