"""
strace as a fault injector: attaches to a running process and kills it, or makes a call fail, at a chosen call.

    with Strace(pid, "fdatasync", "signal=KILL:when=3") as strace:
        ...                                                  # the process dies before its third fdatasync is done
    strace.calls()                                           # lines of those that were made

strace counts for each thread and each call by itself. A signal is delivered before the call takes effect, so the
n-th crash is what is on disk after n - 1 calls of that thread.

On failure: a missing strace, or one that may not attach, fails the test.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_ATTEMPTS = 3
_PATIENCE = 60.0
_LEAVE = 0.2
_FAREWELL = 20.0


class Strace:
    """Attached while the block runs. `calls` are separated by commas; without `inject` they are only written down."""

    def __init__(self, pid: int, calls: str, inject: str = "", *, log: Path | None = None) -> None:
        self._pid = pid
        self._log = log
        if shutil.which("strace") is None:
            pytest.fail("strace is missing: ./dev servers installs it")
        words = ["strace", "-f", "-qq", "-y", "-s", "16", "-e", f"trace={calls}", "-o", str(log or os.devnull)]
        if inject:
            words += ["-e", f"inject={calls}:{inject}"]
        self._command = [*words, "-p", str(pid)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # A thread that ends at the moment of the attachment makes strace give up.
        if not any(self._attach() for _ in range(_ATTEMPTS)):
            pytest.fail("strace could not attach")
        return self

    def _attach(self) -> bool:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + _PATIENCE
        while not _traced(self._pid):
            if self._process.poll() is not None or time.monotonic() > end:
                self.detach()
                return False
            time.sleep(0.005)
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def detach(self) -> None:
        """Let go of the process. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if _runs(self._pid):
            process.terminate()
        end = time.monotonic() + _FAREWELL
        while process.poll() is None:
            try:
                process.wait(_LEAVE)
            except subprocess.TimeoutExpired:
                # Told to end at the moment when its process dies, it waits for ever for a thread that is gone. While
                # its process lives it must end by itself: a call that it was tampering with would be cut short.
                if not _runs(self._pid) or time.monotonic() > end:
                    process.kill()
                    process.wait()

    def calls(self) -> list[str]:
        """What was called."""
        return self._log.read_text(errors="replace").splitlines() if self._log is not None else []


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _traced(pid: int) -> bool:
    """Whether every thread has a tracer; a process that is gone has none."""
    try:
        threads = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return False
    return bool(threads) and all("\nTracerPid:\t0\n" not in status for status in threads)
