"""
How often the relay makes the disk write: calls of fsync and fdatasync for each message that it acknowledged.

Under strace, so this run's times mean nothing. On one connection a message is acknowledged before the next one comes:
there a relay that keeps its word needs at least one call for each, and a run with fewer is void. On many connections
one call may serve several messages.
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import tree
from bench.relays import Plan, running
from bench.row import Case, Figures, Row
from bench.tools import Sink, source, tool

MESSAGES = int(os.environ.get("BENCH_SYNCED", "200"))
_CALLS = "fsync,fdatasync,sync_file_range,syncfs,sync,msync"
_WARM = 20
_PATIENCE = 20.0
_LINE = re.compile(r"(?m)^ *[\d.]+ +[\d.]+ +\d+ +(\d+) (?:.* )?(\w+)$")


class Tracer:
    """strace over every process of a tree and all that they start. `counts` has the calls by name in the end."""

    def __init__(self, root: int, summary: Path) -> None:
        self._summary = summary
        self.counts: dict[str, int] = {}
        self._pids = tree(root)
        who = [word for pid in self._pids for word in ("-p", str(pid))]
        command = [tool("strace"), "-f", "-qq", "-c", "-e", f"trace={_CALLS}", "-o", str(summary), *who]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def attached(self) -> bool:
        assert self._process.poll() is None, "strace could not attach"
        return all(_traced(pid) for pid in self._pids)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(_PATIENCE)
        rows = _LINE.findall(self._summary.read_text() if self._summary.exists() else "")
        self.counts = {name: int(count) for count, name in rows if name != "total"}


@contextmanager
def traced(root: int) -> Iterator[Tracer]:
    """Attached while the block runs."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as directory:
        tracer = Tracer(root, Path(directory, "summary"))
        try:
            end = time.monotonic() + _PATIENCE
            while not tracer.attached():
                assert time.monotonic() < end, "strace did not attach to every process"
                time.sleep(0.02)
            yield tracer
        finally:
            tracer.stop()


def _run(sessions: int) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        with Sink() as sink, running(relay, Plan({"old": sink.port})) as made:
            source(made.port, _WARM)
            sink.wait(_WARM)
            made.settle(30)
            with traced(made.root()) as tracer:
                source(made.port, MESSAGES, sessions=sessions)
                sink.wait(_WARM + MESSAGES)
                made.settle(60)
            sink.judge(_WARM + MESSAGES)
        calls = sum(tracer.counts.values())
        assert sessions > 1 or calls >= MESSAGES, f"{calls} syncs for {MESSAGES} acknowledged messages"
        return {"syncs": calls / MESSAGES, "fsync": _share(tracer, "fsync"), "fdatasync": _share(tracer, "fdatasync")}

    return run


def _share(tracer: Tracer, name: str) -> float:
    return tracer.counts.get(name, 0) / MESSAGES


def _traced(pid: int) -> bool:
    """Whether every thread has a tracer; one that is gone needs none."""
    try:
        return all(
            "\nTracerPid:\t0\n" not in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
        )
    except OSError:
        return True


ROW = Row(
    "syncs",
    "Syncs",
    f"{MESSAGES} messages of 5 KB on kept connections, accepted and delivered, under strace.",
    {
        "syncs": "syncs a message",
        "fsync": "of them fsync",
        "fdatasync": "of them fdatasync",
    },
    [Case("one connection", _run(1), rounds=1), Case("20 connections", _run(20), rounds=1)],
)
