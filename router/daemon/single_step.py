"""
Single-step mode: a worker that died again and again at one spool delivers one message at a time and notes which.

Guarantees: the note is on disk before the message is touched and gone when it has been dealt with, so what it names
after a death is the message at fault; its recipients are then parked and the rest of the spool goes on.

On failure to write the note: `OSError`, and nothing is delivered.
"""

import asyncio
import contextlib
import os
from pathlib import Path

from router.deliver.lanes import Handle
from router.deliver.place import Place
from router.model.envelope import Work
from router.spool.desk import Desk
from router.spool.finding import QueueFilter
from router.spool.schema import sync_directory

NOTE = "suspect"


class SingleStep:
    """The note of one spool."""

    def __init__(self, directory: Path) -> None:
        self._note = directory / NOTE
        self._lock = asyncio.Lock()

    def guard(self, handle: Handle) -> Handle:
        """`handle`, one message at a time and with the note around it."""

        async def guarded(lane: str, work: Work, place: Place) -> None:
            async with self._lock:
                await asyncio.to_thread(self._write, work.message.queue_id)
                try:
                    await handle(lane, work, place)
                finally:
                    # Whoever gets here has not died of it: an exception or a stop is no reason to park the message.
                    with contextlib.suppress(OSError):
                        await asyncio.to_thread(self._note.unlink, missing_ok=True)

        return guarded

    async def park_suspect(self, desk: Desk) -> str:
        """Park the message that the note names, if there is one; its queue-id or ''."""
        queue_id = await asyncio.to_thread(self._read)
        if queue_id:
            entries = await desk.find(QueueFilter(queue_id=queue_id))
            reason = "the worker died while delivering it"
            await desk.park([entry.number for entry in entries], actor="daemon", reason=reason)
            await asyncio.to_thread(self._note.unlink, missing_ok=True)
        return queue_id

    def _write(self, queue_id: str) -> None:
        descriptor = os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, queue_id.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(self._note.parent)

    def _read(self) -> str:
        try:
            return self._note.read_text("ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""
