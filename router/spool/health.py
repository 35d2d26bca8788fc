"""
Health of a spool: may mail be accepted now? Answered from memory, for every MAIL.

A thread of its own looks at free octets and inodes every second, so a disk that hangs stalls nobody, and is itself
noticed: an observation that is too old counts as a disk that does not answer. A preallocated reserve file is given
up when the database finds the disk full, so that deliveries can still be recorded and the disk frees itself (PRC6);
it is laid out again when there is room. Before space is short, mail is taken more slowly (`router.spool.brake`).

On failure: `unhealthy` says 452 4.3.1 for space, 451 4.3.0 for anything else; recovery is automatic.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from router.errors import SpoolFull, SpoolUnavailable
from router.model.reply import Reply
from router.spool.brake import pause

RESERVE = "reserve"
_PERIOD = 1.0
_STALE = 15.0
_ROOM_TO_MOVE = 4 << 20
"""Octets free: giving pages of the database back writes some first."""

log = logging.getLogger("sluice.spool")


@dataclass(frozen=True, slots=True)
class Space:
    """What a file system has left for us; `inodes` is None where it does not count them."""

    octets: int
    inodes: int | None


def look(directory: Path) -> Space:
    """Ask the file system. Raises `OSError`."""
    found = os.statvfs(directory)
    return Space(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


class Health:
    """Watches one spool's disk and remembers the writer's troubles."""

    def __init__(
        self,
        directory: Path,
        *,
        minimum_free: int,
        minimum_inodes: int,
        reserve: int,
        look: Callable[[Path], Space] = look,
    ) -> None:
        self._directory = directory
        self._minimum_free = minimum_free
        self._minimum_inodes = minimum_inodes
        self._reserve = reserve
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spool-health", daemon=True)
        self._space: Reply | None = None
        self._writer: Reply | None = None
        self._seen = monotonic()
        self.free = Space(0, None)
        """The last observation."""
        self.pause = 0.0
        """Seconds that a MAIL should wait before it is taken."""
        self.cause = ""
        """Why the spool is unhealthy, for the log and for operators."""

    def start(self) -> None:
        """Look once, lay out the reserve, then watch. Raises nothing: a bad disk is a state, not an error."""
        self.poll()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def unhealthy(self) -> Reply | None:
        """The reply for MAIL, or None. No I/O, no waiting."""
        if self._writer is not None:
            return self._writer
        if monotonic() - self._seen > _STALE:
            return SpoolUnavailable.reply
        return self._space

    def short(self) -> bool:
        """Whether the last look found space short."""
        return self._space is SpoolFull.reply or pause(self.free.octets, self._minimum_free) > 0

    def room_to_move(self) -> bool:
        """Whether it found enough to move some pages of the database about."""
        return self.free.octets >= _ROOM_TO_MOVE

    def trouble(self, error: SpoolUnavailable | None) -> None:
        """The database cannot be written, or can be written again. Logged when it changes, not every time."""
        if error is None:
            if self._writer is not None:
                log.warning("spool %s: writing works again", self._directory)
            self._writer = None
            return
        if self._writer is None:
            log.error("spool %s: %s", self._directory, error.private)
        self.cause = error.private
        self._writer = error.reply

    def body_failure(self, error: OSError) -> None:
        """A body file failed with an I/O error: new mail is refused until the next look finds the disk working."""
        log.error("spool %s: %s", self._directory, error)
        self.cause = str(error)
        self._space = SpoolUnavailable.reply

    def make_room(self) -> bool:
        """Give up the reserve. False when there is none left to give."""
        self._space = SpoolFull.reply
        try:
            (self._directory / RESERVE).unlink()
        except OSError:
            return False
        log.error("spool %s: the disk is full, the reserve was given up", self._directory)
        return True

    def poll(self) -> None:
        """Look now; called by the watching thread."""
        try:
            self.free = self._look(self._directory)
            self._space = self._judge(self.free)
            self._brake(self.free)
        except OSError as error:
            self.cause = str(error)
            self._space = SpoolUnavailable.reply
        self._seen = monotonic()
        if self._space is None and self._reserve:
            self._lay_out_reserve()

    def _judge(self, space: Space) -> Reply | None:
        short = space.octets < self._minimum_free
        if short or (space.inodes is not None and space.inodes < self._minimum_inodes):
            self.cause = _told(space)
            return SpoolFull.reply
        return None

    def _brake(self, space: Space) -> None:
        inodes = 0.0 if space.inodes is None else pause(space.inodes, self._minimum_inodes)
        self.pause = max(pause(space.octets, self._minimum_free), inodes)
        if self.pause and self._space is None and self._writer is None:
            self.cause = f"{_told(space)}: mail is taken more slowly"

    def _lay_out_reserve(self) -> None:
        path = self._directory / RESERVE
        try:
            if path.exists() and path.stat().st_size == self._reserve:
                return
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._reserve)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("spool %s: no reserve could be laid out: %s", self._directory, error)

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD):
            self.poll()


def _told(space: Space) -> str:
    inodes = "" if space.inodes is None else f" and {space.inodes} inodes"
    return f"{space.octets} octets{inodes} are free"
