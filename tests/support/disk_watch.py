"""
Watches what a piece of code makes durable: files it wrote and did not sync, names it gave and did not sync.

Guarantees: sees `os.open`, `os.mkdir`, `os.rename`, `os.replace`, `os.unlink` and `os.fsync` of this process, and so
all of pathlib but `open()`; the calls go through. A file renamed before it was synced is a fault at once. SQLite's
files are its own business; of a lock and a reserve nothing need be kept.

On failure: `AssertionError` that names each path.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_OTHERS = (".db", "-wal", "-shm", "-journal", "lock", "reserve")


class DiskWatch:
    """Between `begin` and the check, everything below `root` counts."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root = root.resolve()
        self._patch = patch
        self.synced: list[Path] = []
        """Files and directories in the order of their fsync."""
        self._written: set[Path] = set()
        self._named: set[Path] = set()
        self._faults: list[str] = []
        for name in ("open", "mkdir", "rename", "replace", "unlink", "fsync"):
            self._patch.setattr(os, name, self._around(name, getattr(os, name)))

    def durable(self, *but: str) -> None:
        """All that was written and named is on disk; `but` are names of files whose content may be lost."""
        lost = [f"{path} was not synced" for path in self._written if path.name not in but]
        lost += [f"the name of {path} was not synced" for path in self._named]
        if self._faults or lost:
            raise AssertionError("; ".join([*self._faults, *sorted(lost)]))
        assert self.synced, "nothing was synced: there was nothing to watch"

    def _around(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keys: Any) -> Any:
            new = name == "open" and not os.path.lexists(args[0])
            result = original(*args, **keys)
            if name == "open":
                self._opened(args[0], args[1], new)
            else:
                getattr(self, f"_{name}")(*args)
            return result

        return call

    def _path(self, path: Any) -> Path | None:
        whole = Path(os.path.abspath(os.fspath(path)))  # noqa: PTH100 - links stay what they are
        inside = whole.is_relative_to(self._root) and not whole.name.endswith(_OTHERS)
        return whole if inside else None

    def _opened(self, name: Any, flags: int, new: bool) -> None:
        path = self._path(name)
        if path is None:
            return
        if flags & (os.O_WRONLY | os.O_RDWR):
            self._written.add(path)
        if new:
            self._named.add(path)

    def _mkdir(self, name: Any, *_mode: int) -> None:
        path = self._path(name)
        if path is not None:
            self._named.add(path)

    def _rename(self, source: Any, target: Any) -> None:
        former, path = self._path(source), self._path(target)
        if former in self._written and path is not None:
            self._written.discard(former)
            self._faults.append(f"{path} was renamed before it was synced")
        if former is not None:
            self._named.discard(former)
        if path is not None:
            self._named.add(path)

    _replace = _rename

    def _unlink(self, name: Any) -> None:
        path = self._path(name)
        if path is not None:
            self._written.discard(path)
            self._named.discard(path)

    def _fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - nothing is resolved
        self.synced.append(path)
        self._written.discard(path)
        if path.is_dir():
            self._named = {one for one in self._named if one.parent != path}
