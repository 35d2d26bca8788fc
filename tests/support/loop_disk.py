"""
A small ext4 of a test's own on a loop device, whose power can be cut.

    with LoopDisk(tmp_path, megabytes=64) as disk:
        ...                                            # files below disk.path, which is the state directory of a site
        disk.cut()                                     # all that was not synced is gone; every call on it fails
        ...                                            # stop what uses it
        disk.remount()                                 # as after the power is back: the journal is replayed

The cut is the shutdown ioctl with NOLOGFLUSH, as xfstests use it: neither data nor the file system's own log reach the
image any more. It does not model torn sectors or disks that lie about flushes.

Guarantees: mounts and images end with the block. On failure: a machine that refuses the mount fails the test.
"""

import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_PATIENCE = 60.0


class LoopDisk:
    """Made and mounted for the block. `inodes` 0: as many as mkfs makes."""

    def __init__(self, directory: Path, *, megabytes: int = 64, inodes: int = 0) -> None:
        self.path = directory / "state"
        self._image = directory / "disk.img"
        self._megabytes = megabytes
        self._inodes = inodes
        self._mounted = False

    def __enter__(self) -> Self:
        self.path.mkdir(mode=0o700)
        with self._image.open("wb") as image:
            image.truncate(self._megabytes << 20)
        inodes = ["-N", str(self._inodes)] if self._inodes else []
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", *inodes, str(self._image))
        self._mount()
        self.path.chmod(0o700)
        _run("sync", "-f", str(self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mounted:
            _run("umount", "--lazy", str(self.path))
        self._image.unlink()

    def cut(self) -> None:
        """Take the power away."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """All that was written is on the disk."""
        _run("sync", "-f", str(self.path))

    def remount(self) -> None:
        """Unmount (nobody may use it any more) and mount what the image has."""
        _until_free("umount", str(self.path))
        self._mounted = False
        self._let_go()
        self._mount()

    def break_down(self) -> None:
        """Read-only from now on though files are open for writing, as after an error; `remount` mends it."""
        _run("mount", "-o", "remount,abort", str(self.path))

    def _let_go(self) -> None:
        """Until no other mount namespace has the disk, either: else it would be mounted as it is, cut off."""
        end = time.monotonic() + _PATIENCE
        while subprocess.run(["losetup", "-j", self._image], capture_output=True, check=True, timeout=60).stdout:
            if time.monotonic() > end:
                pytest.fail(f"{self._image} is still in use")
            time.sleep(0.02)

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.path))
        self._mounted = True


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode:
        pytest.fail(f"{' '.join(words)}: {done.stderr.strip()} (crash tests need root and loop devices)")


def _until_free(*words: str) -> None:
    """What a process that was just killed had open is closed a moment after it is gone."""
    end = time.monotonic() + _PATIENCE
    while subprocess.run(words, capture_output=True, check=False, timeout=60).returncode:
        if time.monotonic() > end:
            _run(*words)
            return
        time.sleep(0.1)
