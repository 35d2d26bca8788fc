"""
Upkeep of a spool in the background: journal rows to their files, kept bodies past their time, orphaned files; and free
pages of the database back to the file system while the disk is short, or a disk that small messages filled would stay
full when they have gone (otherwise they are kept, for the next messages).

On failure: a step that fails is logged and tried again at the next round; nothing else depends on it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from router.errors import SluiceError
from router.spool.bodies import Bodies
from router.spool.expanding import ForgetPlaces
from router.spool.health import Health
from router.spool.journal import Row, append_rows, unmoved
from router.spool.operations import CannotShorten, DropJournal, Purge, Shorten, ShortenLog
from router.spool.reader import Reader, names_file
from router.spool.writer import Writer

log = logging.getLogger("sluice.spool")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how much; seconds and rows."""

    period: float = 5.0
    journal_batch: int = 1000
    purge_every: float = 600.0
    orphan_age: float = 36 * 3600.0
    shorten_by: int = 256
    """Pages at a time: one transaction of some milliseconds, and less than 3 MiB of log."""
    breath: float = 0.02
    """Between two of these."""


class Upkeep:
    """The background task of one spool."""

    def __init__(
        self,
        journal: Path,
        reader: Reader,
        writer: Writer,
        bodies: Bodies,
        pace: Pace,
        wall: Callable[[], float],
        health: Health,
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._writer = writer
        self._bodies = bodies
        self._pace = pace
        self._wall = wall
        self._health = health
        self._task: asyncio.Task[None] | None = None
        self._moving = asyncio.Lock()
        self._movable = True

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="spool-upkeep")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def move_journal(self) -> int:
        """Move all journal rows that are in the table now; how many. Raises `OSError`, `SpoolUnavailable`."""
        moved = 0
        async with self._moving:
            while rows := await self._unmoved():
                await self._bodies.run(append_rows, self._journal, rows)
                await self._writer.submit(DropJournal(tuple(row[0] for row in rows)))
                moved += len(rows)
                if len(rows) < self._pace.journal_batch:
                    break
        return moved

    async def reap(self) -> int:
        """Unlink orphaned body files; how many."""
        return await self._bodies.reap(lambda name: self._reader.call(names_file, name), self._pace.orphan_age)

    async def purge(self) -> int:
        """Remove messages that were only kept, and are past their time; how many."""
        removed = 0
        while count := await self._writer.submit(Purge(self._wall())):
            removed += count
        while await self._writer.submit(ForgetPlaces()):
            pass
        return removed

    async def shorten(self) -> int:
        """
        Give free pages of the database back while the disk is short; how many. Not while somebody reads for long: the
        log could not be copied back, and would only grow. The log goes first: it may be what has taken the last octet,
        and without some room no page can be moved.
        """
        given, health = 0, self._health
        if health.short():
            await self._writer.submit(ShortenLog())
        while self._movable and not self._writer.held_up and health.short() and health.room_to_move():
            try:
                pages = await self._writer.submit(Shorten(self._pace.shorten_by))
            except CannotShorten as error:
                log.error("free pages of %s are not given back any more: %s", self._journal.parent, error)  # noqa: TRY400 - known
                self._movable = False
                break
            given += pages
            if not pages:
                break
            await asyncio.sleep(self._pace.breath)
        return given

    async def _unmoved(self) -> list[Row]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader.pool, unmoved, self._reader, self._pace.journal_batch)

    async def _run(self) -> None:
        purged = -self._pace.purge_every
        loop = asyncio.get_running_loop()
        try:
            await self.reap()
        except (OSError, SluiceError):
            log.warning("spool upkeep: orphaned body files could not be looked for", exc_info=True)
        while True:
            await asyncio.sleep(self._pace.period)
            # First what gives space back: on a full disk the journal cannot be moved.
            await self._try(self.shorten)
            await self._try(self.move_journal)
            if loop.time() - purged >= self._pace.purge_every:
                purged = loop.time()
                await self._try(self.purge)

    @staticmethod
    async def _try(step: Callable[[], Awaitable[int]]) -> None:
        """A step that fails keeps no other one from being made."""
        try:
            await step()
        except (OSError, SluiceError):
            log.warning("spool upkeep: a step failed and is tried again", exc_info=True)
