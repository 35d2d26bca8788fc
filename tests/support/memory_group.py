"""
A memory limit for the processes of a test: one control group, of version 1 or 2, whatever this machine mounts.

    with MemoryGroup(256 << 20) as group:
        with group.joined():                # children started in here are in the group, and stay in it
            site.start()
        ...
        assert group.killed() == 0          # nothing was killed for want of memory
        group.resident(), group.peak()      # octets of memory that is not file cache; the highest of all charges

Guarantees: needs root and nothing else, no systemd; the group is gone afterwards. Without a control group that this
user may make the test fails, and says why: it never goes on without a limit.
"""

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_NUMBERS = itertools.count()
_REMEDY = (
    "the test limits memory by a control group: run it as root, with the memory controller mounted for writing "
    "(in a container: --privileged --cgroupns=host)"
)


class MemoryGroup:
    """See the module's text. `limit` in octets."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._home = _home()
        self._unified = (self._home / "cgroup.controllers").exists()
        self.path = self._home / f"sluice-test-{os.getpid()}-{next(_NUMBERS)}"

    def __enter__(self) -> Self:
        try:
            if self._unified and "memory" not in (self._home / "cgroup.subtree_control").read_text().split():
                (self._home / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
            self._write("memory.max" if self._unified else "memory.limit_in_bytes", str(self.limit))
        except OSError as error:
            pytest.fail(f"no control group below {self._home}: {error}. {_REMEDY}")
        self._no_swap()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                self.path.rmdir()
            except OSError:
                # Processes that were killed leave a moment after they have been waited for.
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
            else:
                return

    def _no_swap(self) -> None:
        """What is swapped out would not count. A kernel without swap accounting has no such file."""
        name, value = ("memory.swap.max", "0") if self._unified else ("memory.memsw.limit_in_bytes", str(self.limit))
        with contextlib.suppress(OSError):
            self._write(name, value)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """This process is in the group while the block runs."""
        before = _group_of_this_process(self._home, unified=self._unified)
        self._write("cgroup.procs", str(os.getpid()))
        try:
            yield
        finally:
            (before / "cgroup.procs").write_text(str(os.getpid()))

    def members(self) -> list[int]:
        """Process ids of those that are in it."""
        return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]

    def kill_all(self, patience: float = 60.0) -> None:
        """SIGKILL to every process in it, and to those that were forked meanwhile, until there is none."""
        end = time.monotonic() + patience
        while members := self.members():
            if os.getpid() in members:
                pytest.fail("this process has joined the group that it is to kill: one group at a time")
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > end:
                pytest.fail(f"processes {members} of {self.path} do not end")
            time.sleep(0.005)

    def killed(self) -> int:
        """Processes that the kernel ended because the group was full."""
        name = "memory.events" if self._unified else "memory.oom_control"
        return _figures(self.path / name).get("oom_kill", 0)

    def resident(self) -> int:
        """Octets that the processes hold now, file cache apart."""
        return _figures(self.path / "memory.stat")["anon" if self._unified else "rss"]

    def peak(self) -> int:
        """The highest charge so far, file cache and buffers of sockets included."""
        names = ("memory.peak", "memory.current") if self._unified else ("memory.max_usage_in_bytes",)
        found = [self.path / name for name in names if (self.path / name).exists()]
        return int(found[0].read_text())

    def _write(self, name: str, value: str) -> None:
        (self.path / name).write_text(value)


def _home() -> Path:
    """Where the memory controller is mounted: version 1 if it has it, else the unified hierarchy."""
    unified = None
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(place)
        if kind == "cgroup2" and "memory" in (Path(place) / "cgroup.controllers").read_text().split():
            unified = Path(place)
    if unified is None:
        pytest.fail(f"no memory controller is mounted. {_REMEDY}")
    return unified


def _group_of_this_process(home: Path, *, unified: bool) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, place = line.split(":", 2)
        if "memory" in controllers.split(",") or (unified and number == "0"):
            found = home / place.lstrip("/")
            return found if found.is_dir() else home
    return home


def _figures(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}
