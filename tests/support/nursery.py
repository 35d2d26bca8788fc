"""
A nursery of processes for crash tests: real workers and real commands, forked where everything is imported already.

    with Nursery(site.config) as nursery:
        worker = nursery.worker(port)                       # `sluice serve`'s own worker process, and it serves
        command = nursery.command("hold", "ann@example.edu", "--reason", "test")    # stopped before its first step
        command.go(); nursery.wait(command)                 # exit status, or minus the signal
    nursery.printed(command)                            # what it wrote to standard output

A command with `stop_at` stops itself (SIGSTOP) at that step: steps are the beginning and the end of each of its write
transactions in the control database.

A worker is up in a fraction of the time that a whole relay needs, so that hundreds can be killed. The site must have
been started once, so that its configuration is kept and its spool has a number.

Guarantees: the nursery's children end with it. On failure: `NurseryFailed` with what the child printed.
"""

import argparse
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LOOPBACK = "127.0.0.1"


class NurseryFailed(RuntimeError):
    """A child did not come up."""


@dataclass(frozen=True, slots=True)
class Born:
    """A child of the nursery."""

    pid: int

    def go(self) -> None:
        """Let a command begin."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; the child is known until somebody waited for it, so that the number is still its own."""
        os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """Blocks; one order at a time."""

    def __init__(self, config: Path, kept: Path, output: Path) -> None:
        self._words = [str(config), str(kept), str(output)]
        self._output = output
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *self._words],
            env={**os.environ, "PYTHONPATH": paths, "SLUICE_ALLOW_ROOT": "yes"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()

    def worker(self, port: int, spool: int = 1) -> Born:
        """A worker that serves on a port of loopback. Raises `NurseryFailed`."""
        answer = self._order(do="worker", port=port, spool=spool)
        if not answer["ready"]:
            raise NurseryFailed(f"the worker did not come up:\n{self.said()}")
        return Born(answer["pid"])

    def command(self, *words: str, stop_at: int = 0) -> Born:
        """A command, stopped before it begins, and once more at a step (0: never)."""
        return Born(self._order(do="command", words=words, stop_at=stop_at)["pid"])

    def wait(self, born: Born) -> int:
        """Its exit status, or minus the signal that ended it. A child that does not end fails the test's time."""
        return int(self._order(do="wait", pid=born.pid)["status"])

    def ended(self, born: Born) -> int | None:
        """As `wait`, but None while it runs: asked only until it has told the status."""
        status = self._order(do="ended", pid=born.pid)["status"]
        return None if status is None else int(status)

    def printed(self, born: Born) -> str:
        """What a command wrote to standard output."""
        return self._output.with_name(f"{self._output.name}.{born.pid}").read_text()

    def said(self) -> str:
        """The end of what workers printed, and commands to standard error."""
        return self._output.read_text(errors="replace")[-6000:] if self._output.exists() else ""

    def _order(self, **order: Any) -> Any:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise NurseryFailed(f"the nursery has ended:\n{self.said()}")
        return json.loads(line)


# --- the nursery's own process ----------------------------------------------------------------------------------


class _Ward:
    def __init__(self, config: str, kept: str, output: str) -> None:
        self._config = config
        self._kept = kept
        self._output = output

    def worker(self, port: int, spool: int) -> dict[str, Any]:
        from router.daemon import worker_process  # noqa: PLC0415 - imported before the first fork

        read_end, write_end = os.pipe()
        words = ["--slot", str(spool - 1), "--spool", str(spool), "--ready", str(write_end)]
        words += ["--supervisor", str(os.getpid())]

        def live() -> int:
            os.close(read_end)
            sys.argv = ["worker", self._kept, *words, "--listen", str(_listen(port).detach())]
            return worker_process.main()

        pid = self._fork(live)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            ready = pipe.read(6) == b"ready\n"
        return {"pid": pid, "ready": ready}

    def command(self, words: list[str], stop_at: int) -> dict[str, Any]:
        from router.admin.cli import app  # noqa: PLC0415 - as above

        def live() -> int:
            own = f"{self._output}.{os.getpid()}"
            os.dup2(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
            if stop_at:
                _stop_at(stop_at)
            os.kill(os.getpid(), signal.SIGSTOP)
            return app.run(["--config", self._config, "--json", *words])

        pid = self._fork(live)
        os.waitpid(pid, os.WUNTRACED)
        return {"pid": pid}

    def wait(self, pid: int) -> dict[str, Any]:
        return {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}

    def ended(self, pid: int) -> dict[str, Any]:
        done, status = os.waitpid(pid, os.WNOHANG)
        return {"status": os.waitstatus_to_exitcode(status) if done else None}

    def _fork(self, live: Callable[[], int]) -> int:
        if pid := os.fork():
            return pid
        status = 70
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            file = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(file, 1)
            os.dup2(file, 2)
            status = live()
            sys.stdout.flush()
        finally:
            os._exit(status)


def _stop_at(step: int) -> None:
    """Stop this process before or after a write transaction of the control database."""
    from router.control.database import ControlDatabase  # noqa: PLC0415 - as above

    real, steps = ControlDatabase.run_write, itertools.count(1)

    def look() -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGSTOP)

    def counted(*arguments: Any, **keys: Any) -> Any:
        look()
        result = real(*arguments, **keys)
        look()
        return result

    ControlDatabase.run_write = counted  # type: ignore[method-assign]  # in this child alone


def _listen(port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind((LOOPBACK, port))
    one.listen(64)
    one.setblocking(False)
    return one


def main() -> None:
    """Take orders from standard input, a line each, until it ends."""
    # Imported before the first fork, so that no child has to do it again.
    from router.admin.cli import app, hold, move, queue, release  # noqa: F401, PLC0415
    from router.daemon import worker_process  # noqa: F401, PLC0415

    parser = argparse.ArgumentParser()
    for name in ("config", "kept", "output"):
        parser.add_argument(name)
    given = parser.parse_args()
    ward = _Ward(given.config, given.kept, given.output)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(getattr(ward, order.pop("do"))(**order)), flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
