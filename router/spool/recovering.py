"""
Bringing mail back from a spool that was set aside, once: into a spool of its own, which becomes visible all at once.

The new spool is filled under a name that nobody opens (`NNNN.recovering`) and gets its right name when all is in it
and durable. Its number is noted in the damaged directory before anything else, so a run that follows knows whether
the former one had come that far: if the spool is there, nothing is brought back again; if not, what was begun is thrown
away, because nothing can have been delivered from it.

Guarantees: each undelivered recipient is in the new spool exactly once, however often this was killed; the damaged
files are not changed. What cannot be told is written to `untold/` beside them: the message and its envelope.

On failure: `SpoolLocked` while another run is at it, `Conflict` when the note cannot be understood, `OSError`,
`SpoolUnavailable`. It may be run again.
"""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from router.errors import Conflict
from router.spool.accepting import StoredBody
from router.spool.bodies import CHUNK
from router.spool.lock import SpoolLock
from router.spool.options import SpoolOptions
from router.spool.place import make_directory
from router.spool.restoring import Restore
from router.spool.salvage import Salvage, Salvaged
from router.spool.schema import sync_directory
from router.spool.setting_aside import RECOVERED, Aside, aside, brought_back
from router.spool.spool import Spool
from router.spool.whole_file import write_durably

UNTOLD = "untold"
_TOGETHER = 200
_OCTETS = 8 * 1024 * 1024
_NO_LIMITS = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0)


@dataclass(slots=True)
class Recovered:
    """What was found, counted in recipients unless it says otherwise. `spool` is 0 when nothing was brought back."""

    spool: int = 0
    before: bool = False
    """All of it was done by a former run."""
    messages: int = 0
    recipients: int = 0
    closed: int = 0
    """Delivered, returned or removed before the damage; found all the same."""
    untold: int = 0
    """Messages in `untold/`."""
    broken: int = 0
    """Rows that do not match their checksum."""
    journal_complete: bool = True
    brought: dict[str, str] = field(default_factory=dict)
    """New queue-id of each message by its former one."""


class Recovery:
    """One run. `allocate` gives a spool number that was never used; `wall` is in seconds."""

    def __init__(self, place: Aside, allocate: Callable[[], int], wall: Callable[[], float]) -> None:
        self._place = place
        self._root = place.directory.parent
        self._allocate = allocate
        self._wall = wall

    async def run(self, *, dry_run: bool = False) -> Recovered:
        """Do it, or say what would be done. Blocks in between: for a process that does nothing else."""
        lock = SpoolLock(self._place.directory)
        lock.acquire()
        try:
            if (done := brought_back(self._place.directory)) is not None:
                return replace(Recovered(**done["result"]), before=True)
            self._refuse_twice()
            number = self._noted()
            if number and self._is_there(number):
                return self._ended(Recovered(spool=number, before=True), dry_run=dry_run)
            salvage = Salvage(self._place.directory, self._place.number)
            try:
                return await self._bring(salvage, number, dry_run=dry_run)
            finally:
                salvage.close()
        finally:
            lock.release()

    async def _bring(self, salvage: Salvage, number: int, *, dry_run: bool) -> Recovered:
        result = Recovered(broken=len(salvage.broken), journal_complete=salvage.complete)
        if dry_run:
            for one in salvage.messages():
                _count(result, one)
            return result
        number = number or self._note_number()
        unfinished = self._root / f"{number:04d}.recovering"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        make_directory(unfinished)
        spool = await Spool.open(unfinished, number, create=True, options=_NO_LIMITS)
        try:
            if salvage.memory.get("uuid") and salvage.memory.get("epoch", "").isdigit():
                await spool.remember(salvage.memory["uuid"], int(salvage.memory["epoch"]))
            await self._fill(spool, salvage, result)
        finally:
            await spool.close()
        self._publish(unfinished, number, result)
        return self._ended(result)

    async def _fill(self, spool: Spool, salvage: Salvage, result: Recovered) -> None:
        """Some messages at a time, so that they share a commit."""
        waiting: dict[str, asyncio.Task[str]] = {}
        octets = 0
        for one in salvage.messages():
            _count(result, one)
            if _is_untold(one):
                self._write_untold(one)
            if one.undelivered:
                body = await stored(spool, one.content)
                restore = Restore(spool.number, one.message, one.own, one.undelivered, body, self._wall())
                waiting[one.message.queue_id] = asyncio.ensure_future(spool.restore(restore))
                octets += len(one.content)
            if len(waiting) >= _TOGETHER or octets >= _OCTETS:
                result.brought.update({former: await task for former, task in waiting.items()})
                waiting, octets = {}, 0
        result.brought.update({former: await task for former, task in waiting.items()})

    def _write_untold(self, one: Salvaged) -> None:
        directory = self._place.directory / UNTOLD
        directory.mkdir(mode=0o700, exist_ok=True)
        write_durably(directory / f"{one.message.queue_id}.eml", one.content)
        facts = {
            "queue_id": one.message.queue_id,
            "why": one.why or "whether it was delivered cannot be told",
            "received_at": one.message.received_at,
            "size": one.message.size,
            "sha256": one.message.digest.hex(),
            "envelope": asdict(one.message.envelope),
            "header": asdict(one.message.header),
            "recipients": [asdict(recipient) for recipient in one.untold],
        }
        text = json.dumps(facts, indent=1).encode("ascii")
        write_durably(directory / f"{one.message.queue_id}.json", text + b"\n")
        sync_directory(directory)

    def _publish(self, unfinished: Path, number: int, result: Recovered) -> None:
        """From here on the mail is where workers find it; before, nobody did."""
        if result.messages == 0:
            shutil.rmtree(unfinished)
            return
        result.spool = number
        unfinished.rename(self._root / f"{number:04d}")
        sync_directory(self._root)

    def _note_number(self) -> int:
        # A restored control database may give a number that is in use: that spool is not what we have filled.
        while self._is_there(number := self._allocate()):
            continue
        self._note({"spool": number, "complete": False})
        return number

    def _ended(self, result: Recovered, *, dry_run: bool = False) -> Recovered:
        if not dry_run:
            self._note({"spool": result.spool, "complete": True, "result": {**asdict(result), "brought": {}}})
        return result

    def _note(self, facts: dict[str, object]) -> None:
        write_durably(self._place.directory / RECOVERED, json.dumps(facts).encode("ascii") + b"\n")
        sync_directory(self._place.directory)

    def _noted(self) -> int:
        """The number that a former run had taken; 0 when there was none."""
        try:
            found = json.loads((self._place.directory / RECOVERED).read_text(encoding="utf-8"))
            return int(found["spool"])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError) as error:
            raise Conflict(f"{self._place.directory / RECOVERED} cannot be understood: was it brought back?") from error

    def _is_there(self, number: int) -> bool:
        """The spool filled by a former run has got its name, and may have lost it since by damage of its own."""
        return (self._root / f"{number:04d}").exists() or any(one.number == number for one in aside(self._root))

    def _refuse_twice(self) -> None:
        """A copy of the directory under another time holds the same mail."""
        for other in aside(self._root):
            if other.number == self._place.number and other.directory != self._place.directory:
                raise Conflict(f"{other.directory} is spool {other.number:04d}, too: one of them is a copy")


async def stored(spool: Spool, content: bytes) -> StoredBody:
    """A body ready for its row in the new spool, durable if it is a file."""
    body = spool.open_body()
    for start in range(0, len(content), CHUNK):
        await body.write(content[start : start + CHUNK])
    return await body.finish()


def _is_untold(one: Salvaged) -> bool:
    """Somebody may still have to get it, and nobody can tell who."""
    return bool(one.untold) or one.orphan


def _count(result: Recovered, one: Salvaged) -> None:
    result.messages += bool(one.undelivered)
    result.recipients += len(one.undelivered)
    result.closed += one.closed
    result.untold += _is_untold(one)
