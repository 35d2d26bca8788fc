"""
Commands that are killed at a chosen step: the real command line in a process of its own, which sends itself SIGKILL.

    async with Killing(site.config) as killing:
        said = await killing.run(3, "hold", "ann@example.edu", "--reason", "test")      # dies at its third step
        assert said.killed and said.step == "before the transaction"

Steps are the beginning and the end of each write transaction of the control database and of each modify that is sent
to a directory; `NEVER` lets the command end by itself. Processes are forked from one that has everything imported.

On failure: a command that hangs is ended after two minutes, which fails the test.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NEVER = 1_000_000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit status, the steps that it took and the last one, and what it printed."""

    status: int
    steps: int
    step: str
    output: str

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def document(self) -> Any:
        return json.loads(self.output)


class Killing:
    """Runs commands one after the other; use it as an async context manager."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            await process.wait()

    async def run(self, at: int, *words: str) -> Ended:
        """One command, killed at step `at`."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        order = {"at": at, "words": ["--config", str(self._config), "--json", *words]}
        process.stdin.write(json.dumps(order).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(process.stdout.readline(), 120))
        return Ended(**answer)


class _Steps:
    """Counts, and kills. What it counted is in a file, for nothing of the process survives."""

    def __init__(self, file: Path, at: int) -> None:
        self._file = file
        self._at = at
        self._count = 0

    def __call__(self, name: str) -> None:
        self._count += 1
        self._file.write_text(f"{self._count} {name}")
        if self._count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: type, method: str, what: str) -> None:
        """Each call of the method is two steps."""
        real: Callable[..., Any] = getattr(owner, method)

        def counted(*arguments: Any, **keys: Any) -> Any:
            self(f"before the {what}")
            result = real(*arguments, **keys)
            self(f"after the {what}")
            return result

        setattr(owner, method, counted)


def main() -> None:
    """Take orders from standard input, a line each, until it ends."""
    # Imported before the first fork, so that no command has to do it again.
    from router.admin.cli import app, hold, move, release  # noqa: F401, PLC0415
    from router.control.database import ControlDatabase  # noqa: PLC0415
    from router.directory.connection import LdapConnection  # noqa: PLC0415

    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryDirectory(prefix="sluice-killing-") as place:
            steps, output = Path(place) / "steps", Path(place) / "output"
            steps.write_text("0 none")
            child = os.fork()
            if not child:
                count = _Steps(steps, order["at"])
                count.around(ControlDatabase, "run_write", "transaction")
                count.around(LdapConnection, "modify", "modify")
                _become(output)
                os._exit(_finish(app.run(order["words"])))
            _, ended = os.waitpid(child, 0)
            number, _, name = steps.read_text().partition(" ")
            answer = {
                "status": os.waitstatus_to_exitcode(ended),
                "steps": int(number),
                "step": name,
                "output": output.read_text(),
            }
        print(json.dumps(answer), flush=True)  # noqa: T201 - the protocol of this process


def _become(output: Path) -> None:
    """The child's own standard streams, before anything was read or written."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(file, 1)


def _finish(status: int) -> int:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return status


if __name__ == "__main__":
    main()
