"""
A site whose worker lives many short lives: for tests that kill it at one chosen step after the other.

    async with Lives(tmp_path, ["ann@example.edu"]) as lives:
        worker = await lives.live()                        # a worker that serves
        with Strace(worker.pid, "fdatasync", "signal=KILL:when=2"):
            await lives.send("ann@example.edu", 800)
        await lives.died(worker, since)                    # waited for; what came to a store since then is excused
        await lives.live()
        await lives.judge()                                # drain, and check every message of all lives so far

People live at `old`; there is a store `new`, too. Both record in the test's loop.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from router.ledger.book import Ledger
from router.ledger.load import Fate, Load, Submission
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan
from router.ledger.verdict import Verdict
from router.settings.published import kept_at
from support.nursery import Born, Nursery
from support.site import Site, StoreAt

COMMIT = 0.5
"""Seconds from a store's reply to the commit of the outcome, at most, on a machine that is not overloaded."""


def minutes() -> float:
    """How long the long run is to be; 0 for the short one."""
    return float(os.environ.get("SLUICE_CRASH_MINUTES", "0"))


def stride(short: int) -> int:
    """Of a long row of steps, each so-manieth is tried in the short run, every one in the long run."""
    return 1 if minutes() else short


def states(pid: int) -> list[str]:
    """Of each thread of a process, as /proc has it: R, S, D, T, …"""
    found = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found.append(stat.read_text().rpartition(")")[2].split()[0])
    return found


class Lives:
    """See the module's text. One worker at a time, on spool 1."""

    def __init__(self, directory: Path, people: Sequence[str]) -> None:
        self.old, self.new = RecordingStore("old"), RecordingStore("new")
        self._directory = directory
        self._people = people
        self._stack = AsyncExitStack()
        self._submissions: list[Submission] = []
        self._crashes: list[tuple[float, float]] = []
        self._windows: list[tuple[str, float, float]] = []
        self._count = 0
        self._worker: Born | None = None
        self.site: Site
        self.nursery: Nursery

    async def __aenter__(self) -> Self:
        for store in (self.old, self.new):
            await self._stack.enter_async_context(store)
        at = [StoreAt("old", self.old.port), StoreAt("new", self.new.port, "new")]
        self.site = Site(self._directory, at, users=dict.fromkeys(self._people, "old"))
        await self._stack.enter_async_context(self.site)
        # One start as in production makes the spool and keeps the configuration.
        await asyncio.to_thread(self.site.stop)
        kept = kept_at(self.site.settings)
        self.nursery = self._stack.enter_context(Nursery(self.site.config, kept, self._directory / "lives.log"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()
        await self._stack.aclose()

    async def live(self) -> Born:
        """A new worker."""
        self._worker = await asyncio.to_thread(self.nursery.worker, self.site.port)
        return self._worker

    async def died(self, worker: Born, since: float) -> int:
        """Wait for the end of a worker that was killed; its status. Stores may have taken something in vain."""
        status = await asyncio.to_thread(self.nursery.wait, worker)
        self._worker = None
        self._crashes.append((since - COMMIT, time.monotonic()))
        return status

    async def kill(self, worker: Born) -> None:
        """SIGKILL, and wait."""
        worker.kill()
        await self.died(worker, time.monotonic())

    def freeze(self, worker: Born) -> None:
        """
        Have it do nothing more, not even what it is about to do.

        Hazard: a sync that is under way while a file system is shut down may return success for what never came to the
        disk (seen with ext4 of Linux 6.18). A worker that goes on to say 250 then has no power cut behind it.
        """
        os.kill(worker.pid, signal.SIGSTOP)
        end = time.monotonic() + 60
        while not all(one in "TtDZ" for one in states(worker.pid)):
            assert time.monotonic() < end, "the worker does not stand still"
            time.sleep(0.001)

    async def end(self) -> None:
        """Kill the worker, if there is one."""
        if self._worker is not None:
            await self.kill(self._worker)

    @property
    def worker(self) -> Born:
        """The one that is alive."""
        assert self._worker is not None
        return self._worker

    def alive(self, worker: Born) -> bool:
        """Whether it still runs."""
        return "\nState:\tZ" not in Path(f"/proc/{worker.pid}/status").read_text()

    async def send(self, to: str, size: int) -> Submission | None:
        """One message of about so many octets; None when the worker died before it could be offered."""
        self._count += 1
        plan = Plan(["a@outside.example"], [to], (1,), (size,), connections=1, run=f"case{self._count}")
        load = Load("127.0.0.1", self.site.port, plan, timeout=60)
        run = asyncio.create_task(load.run(1))
        while not run.done():
            await asyncio.wait([run], timeout=0.02)
            if self._worker is None or not self.alive(self._worker):
                load.stop()
        self._submissions += run.result()
        return self._submissions[-1] if run.result() else None

    async def keep(self, to: str, size: int) -> Submission:
        """One message that must be acknowledged."""
        said = await self.send(to, size)
        assert said is not None
        assert said.fates == (Fate.ACKNOWLEDGED,), self.nursery.said()
        return said

    def quiet(self, address: str, opened: float) -> None:
        """Nothing may have come to a store for a mailbox from then to now."""
        self._windows.append((address, opened, time.monotonic()))

    def stores_of(self, tag: str) -> list[str]:
        """The stores that took the message with this tag, once for each time."""
        return [one.store for store in (self.old, self.new) for one in store.arrivals if one.tag == tag]

    async def judge(self, crashes_excuse: bool = True) -> Verdict:
        """Drain, and check everything."""
        assert await self.site.drained(60) == 0, self.nursery.said()
        self.site.balance()
        ledger = Ledger()
        for began, ended in self._crashes if crashes_excuse else ():
            ledger.crash(began, ended, "the worker was killed")
        for window in self._windows:
            ledger.window(*window)
        ledger.submitted(self._submissions)
        for store in (self.old, self.new):
            ledger.arrived(store.arrivals)
        self.site.tell(ledger)
        verdict = ledger.check()
        assert verdict.ok, verdict.report()
        assert "CRITICAL" not in self.nursery.said(), self.nursery.said()
        return verdict
