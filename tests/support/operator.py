"""
An operator at a site of `Lives`: real commands in real processes, several at once, stopped or killed at a chosen step.

    operator = Operator(lives)
    ran = await operator.run("queue", "park", queue_id, "--reason", "test")       # status, document, seconds
    born = await operator.stopped("queue", "park", …, at=2)                       # it has stopped itself at step 2
    born.kill(); await operator.end(born)

On failure: a command that does not end within `PATIENCE` fails the test.
"""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.control import audit, requests
from router.control.requests import Request
from router.spool.finding import QueueEntry, QueueFilter
from support.lives import Lives
from support.nursery import Born

PATIENCE = 90.0
NEVER = 0


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended; times are of `time.monotonic()`."""

    words: tuple[str, ...]
    status: int
    output: str
    began: float
    ended: float

    @property
    def killed(self) -> bool:
        return self.status < 0

    @property
    def document(self) -> Any:
        return json.loads(self.output) if self.output else {}

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Operator:
    """Runs commands, and looks at what became of them. For tests that run in the event loop."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives
        self._orders = asyncio.Lock()

    async def start(self, *words: str, at: int = NEVER) -> Born:
        """A command that runs, up to a step."""
        async with self._orders:
            born = await asyncio.to_thread(self._lives.nursery.command, *words, stop_at=at)
        born.go()
        return born

    async def end(self, born: Born, words: Sequence[str] = (), began: float | None = None) -> Ran:
        """Wait for its end."""
        since = time.monotonic() if began is None else began
        limit = time.monotonic() + PATIENCE
        while True:
            async with self._orders:
                status = await asyncio.to_thread(self._lives.nursery.ended, born)
            if status is not None:
                return Ran(tuple(words), status, self._lives.nursery.printed(born), since, time.monotonic())
            assert time.monotonic() < limit, f"{' '.join(words)} does not end"
            await asyncio.sleep(0.01)

    async def run(self, *words: str) -> Ran:
        """A command from beginning to end."""
        began = time.monotonic()
        return await self.end(await self.start(*words), words, began)

    async def stopped(self, *words: str, at: int) -> Born | None:
        """A command that has stopped itself at a step; None when it came to its end before (and is waited for)."""
        born = await self.start(*words, at=at)
        await asyncio.sleep(0.01)
        limit = time.monotonic() + PATIENCE
        while (state := state_of(born.pid)) != "T":
            if state == "Z":
                await self.end(born, words)
                return None
            assert time.monotonic() < limit, f"{' '.join(words)} neither stops nor ends"
            await asyncio.sleep(0.01)
        return born

    async def freeze(self, worker: Born) -> None:
        """Stop a worker at a moment when it has no lock of the control database in its hands."""
        while True:
            os.kill(worker.pid, signal.SIGSTOP)
            await self.until(lambda: state_of(worker.pid) == "T")
            with closing(self.control()) as control:
                try:
                    control.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError:
                    os.kill(worker.pid, signal.SIGCONT)
                    await asyncio.sleep(0.01)
                    continue
                control.execute("ROLLBACK")
                return

    def control(self) -> sqlite3.Connection:
        """The control database, by hand, without waiting for others' locks."""
        return sqlite3.connect(self._lives.site.state_dir / "control.db", isolation_level=None, timeout=0)

    # --- what became of it

    def queue(self) -> list[QueueEntry]:
        """What is in the queue."""
        with self._lives.site.books() as books:
            return books.queue(QueueFilter())

    def states(self, tag: str) -> list[str]:
        """The states of a message's recipients that are still here."""
        with self._lives.site.books() as books:
            return [place for found, _, place in books.kept() if found == tag and place not in {"removed", "returned"}]

    def journalled(self, queue_id: str, disposition: str) -> int:
        """How often the journal has this of a message."""
        rows = self._lives.site.journal()
        return sum(row.queue_id == queue_id and row.disposition == disposition for row in rows)

    def requests(self) -> list[Request]:
        """All that workers were ever asked for, oldest first."""
        database = self._lives.site.office.database
        return sorted(database.run_read(lambda c: requests.get(c, range(1, 2000))), key=lambda request: request.number)

    def known(self, verb: str) -> list[Request]:
        """Those of a verb that a worker may see, or has answered."""
        return [one for one in self.requests() if one.kind == verb and one.state != requests.DRAFT]

    def audited(self, verb: str) -> int:
        """Rows of the audit about a verb of the queue."""
        database = self._lives.site.office.database
        return len(database.run_read(lambda c: audit.rows(c, verb=f"queue {verb}", limit=2000)))

    async def until(self, what: Callable[[], bool], patience: float = 60.0) -> None:
        """Wait until a condition holds."""
        limit = time.monotonic() + patience
        while not what():
            assert time.monotonic() < limit, self._lives.nursery.said()
            await asyncio.sleep(0.02)


def state_of(pid: int) -> str:
    """`T` stopped, `Z` dead, and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
