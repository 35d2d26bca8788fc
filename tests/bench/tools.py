"""
Postfix's own load tools: smtp-source hands messages in, smtp-sink is the store and writes down what arrived.

`Sink.judge` is the ledger: every message that smtp-source makes has a Message-Id of its own (so has each of the
ledger's load generator), and each must have arrived exactly once. What arrives goes to one file in memory, for every
relay alike.

On failure: an assertion that says what was lost, doubled or not answered; a run like that has no figures.
"""

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Self

from router.demo.config import LOOPBACK

SENDER = "bench@outside.example"
_IDENTITY = re.compile(rb"(?m)^Message-I[dD]: <([^@>]+)@")
_PERIOD = 0.01


class Sink:
    """smtp-sink on a port of its own, or on `port`. `delay` seconds are spent before each reply to the dot."""

    def __init__(self, *, delay: int = 0, port: int = 0) -> None:
        self.port = port or free_port()
        self._dump = Path(f"/dev/shm/sluice-bench-{os.getpid()}-{self.port}")
        self._seen, self._arrived = 0, 0
        nobody = ["-u", pwd.getpwnam("nobody").pw_name] if os.geteuid() == 0 else []
        slow = ["-w", str(delay)] if delay else []
        self._command = [tool("smtp-sink"), *nobody, *slow, "-D", str(self._dump), f"{LOOPBACK}:{self.port}", "1000"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/dev/shm"
        )
        wait_for(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._dump.unlink(missing_ok=True)

    @property
    def arrived(self) -> int:
        """How many messages are written down so far; reads what is new only."""
        with contextlib.suppress(FileNotFoundError), self._dump.open("rb") as file:
            file.seek(self._seen)
            new = file.read()
            whole = new.rfind(b"\n") + 1
            self._seen += whole
            self._arrived += len(_IDENTITY.findall(new[:whole]))
        return self._arrived

    @property
    def octets(self) -> int:
        """How much is written down so far."""
        return self._dump.stat().st_size if self._dump.exists() else 0

    def wait(self, count: int, patience: float = 300.0) -> float:
        """Until `count` messages are there; the CLOCK_MONOTONIC time at which they were."""
        end = time.monotonic() + patience
        while self.arrived < count:
            assert time.monotonic() < end, f"{self.arrived} of {count} messages arrived within {patience} s"
            time.sleep(_PERIOD)
        return time.monotonic()

    def judge(self, count: int) -> None:
        """Assert that exactly `count` messages arrived, each once."""
        dump = self._dump.read_bytes() if self._dump.exists() else b""  # there is none before the first message
        seen = Counter(_IDENTITY.findall(dump))
        doubled = sum(times - 1 for times in seen.values())
        assert len(seen) == count, f"{count - len(seen)} messages were lost: the run does not count"
        assert not doubled, f"{doubled} messages were doubled: the run does not count"


def source(
    port: int,
    count: int,
    *,
    kept: bool = True,
    sessions: int = 20,
    length: int = 5120,
    many: bool = False,
    to: str = "p0@example.edu",
) -> float:
    """
    Hand `count` messages of `length` octets in; seconds until the last one is acknowledged.

    `kept`: on connections that are used again. `many`: each to another person, whose name has a number before it.
    Raises `CalledProcessError` when one of them was refused.
    """
    options = [*(["-d"] if kept else []), *(["-N"] if many else [])]
    command = [
        tool("smtp-source"), *options, "-l", str(length), "-m", str(count), "-s", str(min(sessions, count)),
        "-f", SENDER, "-t", to, f"{LOOPBACK}:{port}",
    ]  # fmt: skip
    began = time.monotonic()
    subprocess.run(command, check=True, timeout=120)
    return time.monotonic() - began


def numbered(count: int) -> list[str]:
    """The first people that `source` writes to with `many`."""
    return [f"{number}p0@example.edu" for number in range(1, count + 1)]


def tool(name: str) -> str:
    """The path of one of Postfix's programs."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert found is not None, f"{name} is missing: install Debian's package postfix"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 0.2):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on port {port}")
