"""
A relay as a child process, for the demo and for tests: the real `sluice serve`, waited for as systemd would.

Guarantees: `start` returns when all listeners accept; `stop` and `kill` leave no process behind. On failure:
`RelayFailed` with the end of the relay's log.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Protocol, Self

_TAIL = 4000


class RelayFailed(RuntimeError):
    """The relay did not start, or ended by itself; the message has the end of its log."""


class Launched(Protocol):
    """A process, as `subprocess.Popen` has it."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


Launch = Callable[[list[str], Mapping[str, str], IO[bytes]], Launched]
"""Arguments of `sluice`, the whole environment, where both outputs go; the leader of a session of its own."""


def launch(arguments: list[str], environment: Mapping[str, str], output: IO[bytes]) -> Launched:
    """A new interpreter."""
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "router", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
    )


def _standing(session: int) -> str:
    """What each process of a session is waiting for, as the kernel tells it."""
    lines = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text(errors="replace").partition("(")[2].rpartition(")")
            if rest.split()[3] == str(session):
                where = stat.with_name("wchan").read_text(errors="replace")
                lines.append(f"{stat.parent.name} {name}: {rest.split()[0]} {where}")
    return "\n".join(lines)


class RelayProcess:
    """One `sluice serve`. `log` receives its standard error; times in seconds."""

    def __init__(
        self, config: Path, log: Path, *, environment: Mapping[str, str] | None = None, launch: Launch = launch
    ) -> None:
        self.config = config
        self.log = log
        self._environment = dict(environment or {})
        self._launch = launch
        self._process: Launched | None = None

    @property
    def pid(self) -> int:
        """Of the supervisor; 0 when not running."""
        return self._process.pid if self._process is not None else 0

    def start(self, patience: float = 30.0) -> Self:
        """Start and wait until it serves. Raises `RelayFailed`."""
        # Abstract: a path below the directory of a test may be longer than a socket's name can be.
        address = f"sluice-notify-{os.getpid()}-{time.monotonic_ns()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, self.log.open("ab") as log:
            listener.bind(f"\0{address}")
            environment = os.environ | {"SLUICE_ALLOW_ROOT": "yes", "NOTIFY_SOCKET": f"@{address}"} | self._environment
            self._process = self._launch(["--config", str(self.config), "serve"], environment, log)
            try:
                self._wait_ready(listener, time.monotonic() + patience)
            except BaseException:
                self.kill()
                raise
        return self

    def _wait_ready(self, listener: socket.socket, end: float) -> None:
        listener.settimeout(0.2)
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in listener.recv(4096):
                    return
            if self._process is not None and self._process.poll() is not None:
                raise RelayFailed(f"the relay ended with {self._process.returncode}:\n{self.tail()}")
        raise RelayFailed(f"the relay is not ready:\n{self.tail()}\n{_standing(self.pid)}")

    def stop(self, patience: float = 40.0) -> int:
        """SIGTERM, and wait; the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RelayFailed(f"the relay did not stop:\n{self.tail()}") from None
        self._process = None
        return code

    def kill(self) -> None:
        """SIGKILL to the supervisor and all its workers, at once: as close to a power cut as processes get."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def reload(self) -> None:
        """SIGHUP."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-_TAIL:] if self.log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()
