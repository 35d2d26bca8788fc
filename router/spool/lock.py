"""
The lock of a spool: one process owns it, for as long as that process lives.

Guarantees: a second owner is refused; the kernel drops the lock when its holder dies, however it dies, so nothing
is left to clean up after kill -9. The descriptor is close-on-exec: a command started by the owner never keeps the
lock alive. The pid in the file is for messages only and proves nothing.

On failure: `SpoolLocked` names the pid of the holder; `OSError` when the file itself cannot be made.
"""

import fcntl
import os
from pathlib import Path

from router.errors import Conflict

LOCK = "lock"


class SpoolLocked(Conflict):
    """Another process owns the spool. `pid` is what it wrote into the lock file, or 0."""

    def __init__(self, directory: Path, pid: int) -> None:
        super().__init__(f"{directory} is in use by process {pid or 'unknown'}")
        self.pid = pid


class SpoolLock:
    """An exclusive flock(2) on `lock` in the spool's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None

    def acquire(self, *, blocking: bool = False) -> None:
        """
        Take the lock. Raises `SpoolLocked` at once when another process has it, or waits for that process to end.

        Waiting blocks the thread. A lock file that was replaced while we waited is noticed and taken anew.
        """
        while self._descriptor is None:
            descriptor = self._open_and_lock(blocking=blocking)
            if _is_current(descriptor, self._directory / LOCK):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
                self._descriptor = descriptor
            else:
                os.close(descriptor)

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def release(self) -> None:
        """Give the lock up; idempotent."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _open_and_lock(self, *, blocking: bool) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._directory / LOCK, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            pid = _read_pid(descriptor)
            os.close(descriptor)
            raise SpoolLocked(self._directory, pid) from None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _read_pid(descriptor: int) -> int:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else 0
