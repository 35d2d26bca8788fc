"""
A spool: the durable queue of one worker, behind the ports `Intake` and `Queue`.

Guarantees: promise 1 (what `accept` returned survives kill -9 and power cut), promise 9 (the accounts balance after
every transaction), and that a release is never undone by a verdict that was decided before it. Nothing here blocks
the event loop, and memory is bounded by what is asked for, not by the length of the queue.

On failure: `SpoolUnavailable` or `SpoolFull` (the caller answers 4xx; after `settle` it settles again, which is
idempotent); damaged mail is quarantined and the rest goes on.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from router.errors import SluiceError, SpoolFull, SpoolUnavailable
from router.model.envelope import Envelope, HeaderFacts, NewRecipient, QueuedMessage, Work
from router.model.outcome import Disposition, Outcome
from router.model.parcel import Report, Settled
from router.model.reply import Reply
from router.ports import BodyWriter
from router.spool import reader as queries
from router.spool import schema
from router.spool.accepting import Accept, StoredBody
from router.spool.batch import Releases
from router.spool.bodies import BLOCK, BODIES, Bodies, SpoolBody, verify_inline
from router.spool.company import worth_waiting
from router.spool.desk import Desk
from router.spool.health import Health
from router.spool.hooks import WriterHooks
from router.spool.journal import SpoolJournal
from router.spool.lock import SpoolLock
from router.spool.numbering import MAX_SPOOL
from router.spool.operations import Release, ReleasePosition, Remember, Reroute, Revive, Wake
from router.spool.options import SpoolOptions
from router.spool.owner import SetAside
from router.spool.place import JOURNAL, REMOVED, ensure_database, prepare
from router.spool.reader import Damage, Found, Reader
from router.spool.restoring import Restore
from router.spool.sequence import Sequence as NumberSequence
from router.spool.settling import Settle
from router.spool.upkeep import Upkeep
from router.spool.writer import Writer

log = logging.getLogger("sluice.spool")
T = TypeVar("T")


class Spool:
    """
    One open spool (`Intake` and `Queue`). Made by `Spool.open`; `desk` is for operators, `journal` for the record.

    Work that is already on its way is not left out of `due` and `draining`: the caller knows what it has in flight.
    """

    def __init__(
        self, directory: Path, number: int, options: SpoolOptions, lock: SpoolLock, wall: Callable[[], float]
    ) -> None:
        self.directory = directory
        self.number = number
        self._options = options
        self._lock = lock
        self._wall = wall
        self._releases = Releases()
        self._arriving = 0
        """Messages that wait for their commit."""
        self._bodies = Bodies(directory / BODIES, inline_limit=options.inline_limit, room=options.room)
        self._health = Health(
            directory,
            minimum_free=options.minimum_free,
            minimum_inodes=options.minimum_inodes,
            reserve=options.reserve,
        )
        self._bodies.failure = self._health.body_failure
        self._sequence = NumberSequence(directory)
        self._hooks = WriterHooks(directory, number, self._sequence, self._bodies, self._health)
        self._writer = Writer(self._hooks, asyncio.get_running_loop(), self._releases, f"{number:04d}")
        self._reader = Reader(directory / schema.DATABASE, number)
        self._hooks.pass_over = self._reader.pass_over
        self._reader.ruined = self._hooks.ruined
        self._upkeep = Upkeep(
            directory / JOURNAL, self._reader, self._writer, self._bodies, options.pace, wall, self._health
        )
        self._closed = False
        self.journal = SpoolJournal(directory / JOURNAL, self._reader)
        self.desk = Desk(number, directory / REMOVED, self._reader, self._writer, self._bodies, wall)
        self.warnings: tuple[str, ...] = ()

    @classmethod
    async def open(
        cls,
        directory: Path,
        number: int,
        *,
        create: bool = False,
        options: SpoolOptions | None = None,
        lock: SpoolLock | None = None,
        wall: Callable[[], float] = time.time,
    ) -> Self:
        """
        Become the owner of a spool, making it first if `create` and there was none; with `lock` it is ours already.
        `wall` tells the time that is written down.

        Raises `SpoolLocked` when another process owns it, `SpoolUnavailable` when it cannot be used: wrong mode or
        file system, a later schema version, another number, a spool whose database is gone.
        """
        if not 0 <= number <= MAX_SPOOL:
            raise ValueError("spool numbers have four digits")
        warnings = await asyncio.to_thread(prepare, directory, create=create)
        taken = lock or SpoolLock(directory)
        if not taken.held:
            taken.acquire()
        try:
            await asyncio.to_thread(ensure_database, directory, number, create=create)
            spool = cls(directory, number, options or SpoolOptions(), taken, wall)
        except BaseException:
            taken.release()
            raise
        spool.warnings = tuple(warnings)
        try:
            await asyncio.to_thread(spool._health.start)
            await spool._writer.start()
        except BaseException:
            await spool.close()
            raise
        spool._upkeep.start()
        return spool

    async def close(self) -> None:
        """Commit what waits, checkpoint, give the lock up. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._upkeep.stop()
        await self._writer.close()
        await asyncio.to_thread(self._shut)
        self._lock.release()

    def _shut(self) -> None:
        self._bodies.close()
        self._reader.close()
        self._health.stop()
        self._sequence.close(self._hooks.numbers.message or None)

    # Intake

    def open_body(self) -> SpoolBody:
        """A new, empty body."""
        return self._bodies.open()

    async def accept(
        self,
        envelope: Envelope,
        recipients: Sequence[NewRecipient],
        body: BodyWriter,
        header: HeaderFacts,
        received_at: float,
        *,
        company: int = 0,
    ) -> Work:
        """See `Intake.accept`. The work's recipients are queued or held; a small body is at hand in `inline`."""
        if not isinstance(body, SpoolBody):
            raise TypeError("the body was not opened by this spool")
        generation = self._releases.generation
        stored = await body.finish()
        operation = Accept(
            self.number, envelope, recipients, stored, header, received_at, generation, self._options.keep,
            lazy=worth_waiting(company, self._arriving + 1),
        )  # fmt: skip
        try:
            committing = self._writer.submit(operation)
        except SpoolUnavailable:  # not even queued
            self._forget(stored)
            raise
        self._arriving += 1
        try:
            return await committing
        except SpoolFull:
            # Certainly rolled back. After any other failure the row may be there after a restart (PRC4), and its
            # file must be, too; if not, the reaper finds it.
            self._forget(stored)
            raise
        finally:
            self._arriving -= 1

    def _forget(self, stored: StoredBody) -> None:
        self._bodies.unlink_later([stored.file] if stored.file else [])

    async def restore(self, restore: Restore) -> str:
        """Take a message of a damaged spool in, with a body of this one; its new queue-id."""
        return await self._writer.submit(restore)

    def unhealthy(self) -> Reply | None:
        """See `Intake.unhealthy`."""
        return self._health.unhealthy()

    def pause(self) -> float:
        """See `Intake.pause`."""
        return self._health.pause

    # Queue

    async def due(self, lane: str, now: float, limit: int) -> list[Work]:
        """See `Queue.due`."""
        return await self._works(self._reader.due, lane, now, limit)

    async def draining(self, mailbox: str, limit: int, octets: int = 0) -> list[Work]:
        """See `Queue.draining`."""
        return await self._works(partial(self._reader.draining, octets=octets), mailbox, limit)

    async def draining_mailboxes(self) -> list[str]:
        """See `Queue.draining_mailboxes`."""
        return await self._read(queries.draining_mailboxes)

    async def lanes(self, now: float) -> list[tuple[str, float]]:  # noqa: ARG002 - the port's; an index needs no now
        """See `Queue.lanes`. The lane '' has recipients whose route was not known at reception."""
        return await self._read(queries.lanes)

    async def held_mailboxes(self) -> list[str]:
        """See `Queue.held_mailboxes`."""
        return await self._read(queries.held_mailboxes)

    async def queued_mailboxes(self) -> list[str]:
        """Mailboxes with queued recipients: in doubt after an unclean end (barrier rule 8)."""
        return await self._read(queries.queued_mailboxes)

    async def settle(
        self, message: QueuedMessage, outcomes: Sequence[Outcome], report: Report | None = None, *, urgent: bool = False
    ) -> Settled:
        """See `Queue.settle`, and `router.spool.settling` for the rules."""
        return await self._writer.submit(Settle(self.number, message, outcomes, report, lazy=not urgent))

    async def release(self, mailboxes: Sequence[str], now: float) -> int:
        """See `Queue.release`. Done in chunks: interrupted, it is simply done again."""
        names = tuple(name for name in dict.fromkeys(mailboxes) if name)
        total, position = 0, ReleasePosition()
        while names:
            count, following = await self._writer.submit(Release(names, now, position))
            total += count
            if following is None:
                break
            position = following
        return total

    async def reroute(self, mailboxes: Sequence[str], now: float) -> int:
        """See `Queue.reroute`. Done in chunks; counts those that had a lane or were not due."""
        names, total, more = tuple(name for name in mailboxes if name), 0, True
        while more:
            count, more = await self._writer.submit(Reroute(names, now))
            total += count
        return total

    async def revive(self, now: float) -> int:
        """See `Queue.revive`. Done in chunks."""
        total = 0
        while count := await self._writer.submit(Revive(now)):
            total += count
        return total

    async def wake(self, lane: str, now: float) -> int:
        """See `Queue.wake`. Done in chunks; counts those that were not due."""
        total, more = 0, True
        while more:
            count, more = await self._writer.submit(Wake(lane, now))
            total += count
        return total

    async def body(self, message: QueuedMessage) -> AsyncIterator[bytes]:
        """See `Queue.body`: awaiting it verifies the body, iterating reads it, and verifies a large one."""
        if message.inline is None and message.body_file:
            await self._bodies.check(message)
            return self._bodies.blocks(message)
        return _blocks(await self._inline(message))

    async def head(self, message: QueuedMessage, limit: int) -> bytes:
        """See `Queue.head`."""
        if message.inline is None and message.body_file:
            return await self._bodies.head(message, limit)
        return (await self._inline(message))[:limit]

    # What the spool remembers

    async def remembered(self) -> tuple[str, int]:
        """Uuid of the control database this spool belongs to ('' for none yet) and the highest epoch seen."""
        stored = await self._read(queries.meta)
        return stored.get("uuid", ""), int(stored.get("epoch", "0"))

    async def remember(self, uuid: str, epoch: int, *, force: bool = False) -> tuple[str, int]:
        """
        Note an epoch of a control database; what is remembered from now on. Another uuid is not taken over, nor a
        lower epoch, unless `force` (a restored database was accepted by an operator).
        """
        return await self._writer.submit(Remember(uuid, epoch, force))

    @property
    def clean_start(self) -> bool:
        """The former owner closed the spool in order; otherwise its last deliveries are in doubt."""
        return self._hooks.clean_start

    @property
    def findings(self) -> tuple[str, ...]:
        """Damage to the spool as a whole, and rows that cannot be read, for operators."""
        rows = (f"recipient {number}: {why}" for number, why in tuple(self._reader.unreadable.items()))
        return (*self._hooks.findings, *rows)

    @property
    def ruin(self) -> str:
        """Why the database as a whole is taken to be damaged, '' while it is not: its owner should let go of it."""
        return self._hooks.ruin

    @property
    def free_octets(self) -> int:
        """Free space at the last look."""
        return self._health.free.octets

    @property
    def trouble(self) -> str:
        """Private text of the last trouble, for the log and for operators."""
        return self._health.cause

    async def move_journal(self) -> int:
        """Move the journal's rows to their files now (it happens every few seconds anyway); how many."""
        return await self._upkeep.move_journal()

    async def _inline(self, message: QueuedMessage) -> bytes:
        if message.inline is not None:
            return message.inline
        return verify_inline(message, await self._read(queries.inline_body, message.number))

    async def _read(self, query: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader.pool, partial(self._reader.call, query, *args))

    async def _works(self, query: Callable[..., Found], *args: object) -> list[Work]:
        """Read works; what is damaged is quarantined on the way."""
        generation = self._releases.generation
        found = await self._read(query, *args, generation)
        if found.damaged:
            await self._quarantine(found.damaged)
        return found.works

    async def _quarantine(self, damaged: Sequence[Damage]) -> None:
        for damage in damaged:
            log.error("spool %04d: recipient %d is set aside: %s", self.number, damage.recipient, damage.why)
            if damage.structural:
                self._hooks.ruined(damage.why)
            if damage.readable:
                note = f"damaged: {damage.why}"
                operation = SetAside(self.number, (damage.recipient,), Disposition.QUARANTINED, self._wall(), note)
                try:
                    await self._writer.submit(operation)
                except SluiceError:
                    # An index that contradicts its row breaks the writer's connection each time it is touched.
                    log.warning("spool %04d: the row cannot be changed either", self.number, exc_info=True)
                    self._reader.pass_over(damage.recipient, damage.why)


async def _blocks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), BLOCK):
        yield body[start : start + BLOCK]
