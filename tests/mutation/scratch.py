"""
A copy of the tree in a directory of its own, in which mutants are made and tests are run.

Guarantees: the checkout is never written to. One mutant is in the copy at a time, and it is taken back before the
next. A changed file gets a time of its own, so that no compiled file of another version is used. A run that takes too
long is ended with all processes that it started.

On failure: `OSError` where the copy cannot be made.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from mutation.source import Mutant, changed

_COPIED = ("router", "tests", "config", "docs", "systemd", "pyproject.toml", "README.md", "CHANGELOG.md", "dev")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".hypothesis", "*.pyc")
_OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "--no-header", "-ra", "--tb=short")
_TIME = 1_000_000_000
TOO_LONG = 124
"""Exit status of a run that was ended."""


@dataclass(frozen=True, slots=True)
class Run:
    """What pytest said: its exit status (`TOO_LONG` when it was ended) and its words."""

    status: int
    words: str


class Scratch:
    """One copy of the tree at `root`; a context manager that removes it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._times = count(_TIME, 10)
        self._place = Path(tempfile.mkdtemp(prefix="sluice-mutants-"))
        self.tree = self._place / "tree"
        self.stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.tree.mkdir()
        for name in _COPIED:
            source = self._root / name
            if source.is_dir():
                shutil.copytree(source, self.tree / name, ignore=_LEFT_OUT, symlinks=True)
            elif source.exists():
                shutil.copy2(source, self.tree / name)
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        shutil.rmtree(self._place, ignore_errors=True)

    def stop(self) -> None:
        """End the run under way; none begins any more. Called from another thread."""
        self.stopped = True
        process = self._process
        if process is not None:
            _end(process)

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        path = self.tree / mutant.path
        whole = path.read_bytes()
        self._write(path, changed(whole, mutant.edits))
        try:
            yield
        finally:
            self._write(path, whole)

    def _write(self, path: Path, text: bytes) -> None:
        path.write_bytes(text)
        moment = next(self._times)
        os.utime(path, (moment, moment))

    def pytest(self, tests: Sequence[str], seconds: float, options: Sequence[str] = (), **more: str) -> Run:
        """Run these tests (node ids or paths, in this order) until the first fails, at most for `seconds`."""
        listed = self._place / "tests.txt"
        listed.write_text("".join(f"{test}\n" for test in tests))
        command = [sys.executable, "-m", "pytest", *_OPTIONS, *options, f"@{listed}"]
        return self._run(command, seconds, self._environment() | more)

    def _environment(self) -> dict[str, str]:
        mine = {
            "PYTHONPATH": f"{self.tree}{os.pathsep}{self.tree / 'tests'}",
            "HYPOTHESIS_PROFILE": "quick",
            "TMPDIR": str(self._place),
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/lib/dovecot:/usr/libexec/dovecot",
        }
        return {**{name: value for name, value in os.environ.items() if name != "CI"}, **mine}

    def _run(self, command: Sequence[str], seconds: float, environment: dict[str, str]) -> Run:
        if self.stopped:
            return Run(TOO_LONG, "")
        with subprocess.Popen(
            command,
            cwd=self.tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            self._process = process
            try:
                words, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                _end(process)
                words, _ = process.communicate()
                return Run(TOO_LONG, words.decode(errors="replace"))
            except BaseException:
                _end(process)
                raise
            finally:
                self._process = None
                _end(process)  # what the tests left behind
        return Run(process.returncode, words.decode(errors="replace"))


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
