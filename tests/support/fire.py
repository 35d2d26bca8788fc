"""
A relay under fire: load, two workers of the real `sluice serve`, operators, and somebody who kills, stops, reloads and
restarts; and the judge of it all.

    async with Fire(tmp_path, people, seed) as fire:
        await fire.storm(rounds=1)
        verdict = await fire.judge()

The judge: the ledger over every message; what a command says against the journal, the requests and the audit; nothing
at a store while somebody is on hold. On failure: assertions, with the seed in the test's output.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from router.demo.relay import RelayFailed
from router.ledger.behaviour import Behaviour, Refusal, Stage
from router.ledger.book import Ledger
from router.ledger.load import Load
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan
from router.ledger.verdict import Verdict
from router.settings.published import kept_at
from support.bursts import COMMIT, written_once
from support.fire_judge import Judge
from support.nursery import Nursery
from support.orders import Orders
from support.site import Site, StoreAt

ENOUGH = 6
"""Commands of a storm that do what they were asked."""
BUSY = Behaviour(
    delays={Stage.RCPT: 0.1, Stage.DOT: 0.05},
    refusals=(Refusal("p0@*", "451 4.3.0 later"), Refusal("p1@*", "451 4.3.0 later")),
)


class Fire:
    """See the module's text."""

    def __init__(self, directory: Path, people: Sequence[str], seed: int) -> None:
        self.old, self.new = RecordingStore("old", behaviour=BUSY), RecordingStore("new", behaviour=BUSY)
        self._directory = directory
        self._people = people
        self._seed = seed
        self._draw = random.Random(seed)
        self._stack = AsyncExitStack()
        self._loads: list[Load] = []
        self._crashes: list[tuple[float, float]] = []
        self.faults = 0
        self.site: Site
        self.nursery: Nursery
        self.orders: Orders

    async def __aenter__(self) -> Self:
        for store in (self.old, self.new):
            await self._stack.enter_async_context(store)
        at = [StoreAt("old", self.old.port), StoreAt("new", self.new.port, "new")]
        self.site = Site(self._directory, at, users=dict.fromkeys(self._people, "old"), workers=2)
        await self._stack.enter_async_context(self.site)
        kept = kept_at(self.site.settings)
        self.nursery = self._stack.enter_context(Nursery(self.site.config, kept, self._directory / "orders.log"))
        self.orders = Orders(self.nursery, self._people, self._mail, self._seed, pause=0.3)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _mail(self) -> list[str]:
        """Queue-ids of late: some of it is delivered by now."""
        return [one.queue_id for one in self._loads[-1].submissions[-30:] if one.queue_id] if self._loads else []

    # --- the storm

    async def storm(self, operators: int = 3) -> None:
        """One round: each kind of fault once, in a random order, while mail comes in and operators work."""
        load = Load(
            "127.0.0.1",
            self.site.port,
            Plan(
                ["a@outside.example"], self._people, (1, 1, 2, 3), (800, 3000, 100_000), rate=15,
                connections=3, seed=self._seed, run=f"fire{self._seed}-{len(self._loads)}",
            ),
            timeout=20,
        )  # fmt: skip
        self._loads.append(load)
        running = asyncio.create_task(load.run())
        faults: list[Callable[[], Awaitable[None]]] = [
            self._kill, self._pause, self._pause, self._reload, self._restart, self._end_all,
        ]  # fmt: skip
        self._draw.shuffle(faults)
        async with self.orders.operators(operators):
            for fault in faults:
                await asyncio.sleep(self._draw.uniform(0.3, 1.2))
                await fault()
                self.faults += 1
            await asyncio.sleep(0.5)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                if self._enough():
                    break
                await asyncio.sleep(0.1)
        load.stop()
        await running

    def _enough(self) -> bool:
        """Commands of each kind of end: killed, and done."""
        ends = [one.status for one in self.orders.given]
        return -signal.SIGKILL in ends and ends.count(0) >= ENOUGH

    def _workers(self) -> list[int]:
        return [pid for pid in self.site.worker_pids() if Path(f"/proc/{pid}").exists()]

    async def _kill(self) -> None:
        workers = self._workers()
        if not workers:
            return
        began = time.monotonic()
        victim = self._draw.choice(workers)
        os.kill(victim, signal.SIGKILL)
        await self._gone([victim])
        self._crash(began)

    async def _pause(self) -> None:
        """Whoever holds somebody meanwhile has to wait: what is under way arrives when the workers go on."""
        workers = self._workers()
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        holding = asyncio.create_task(self.orders.give("hold", ["hold", *self._people], frozenset(self._people)))
        await asyncio.sleep(self._draw.uniform(1, 2))
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)
        await holding

    async def _reload(self) -> None:
        self.site.reload()

    async def _restart(self) -> None:
        """An orderly end; commands work on the spools meanwhile."""
        await asyncio.to_thread(self.site.stop)
        await asyncio.sleep(self._draw.uniform(0.2, 1))
        await self._start()

    async def _end_all(self) -> None:
        began = time.monotonic()
        await asyncio.to_thread(self.site.kill)
        self._crash(began)
        await asyncio.sleep(self._draw.uniform(0, 0.5))
        await self._start()

    async def _start(self) -> None:
        """As a manager of services does it: again, when a command has just been the owner of a spool."""
        end = time.monotonic() + 60
        while True:
            try:
                await asyncio.to_thread(self.site.start)
            except RelayFailed as error:
                if "is in use by process" not in str(error) or time.monotonic() > end:
                    raise
                await asyncio.sleep(0.2)
            else:
                return

    async def _gone(self, pids: Sequence[int]) -> None:
        end = time.monotonic() + 60
        while any(_lives(pid) for pid in pids):
            assert time.monotonic() < end
            await asyncio.sleep(0.02)

    def _crash(self, began: float) -> None:
        self._crashes.append((began - COMMIT, time.monotonic() + COMMIT / 2))

    # --- the judgement

    async def judge(self) -> Verdict:
        """Let everything come to its end, and check all of it."""
        self.old.behaviour = self.new.behaviour = Behaviour()
        everybody = frozenset(self._people)
        end = time.monotonic() + 60
        while not any(one.verb == "hold" and one.status == 0 for one in self.orders.given):
            assert time.monotonic() < end, "no hold is ever quiet"
            await self.orders.give("hold", ["hold", *self._people], everybody)
        judge = Judge(self.site, self.orders.given, [*self.old.arrivals, *self.new.arrivals])
        await judge.answered()
        judge.commands()
        windows = judge.windows(self._people)
        assert (await self.orders.give("release", ["release", *self._people], everybody)).status in {0, 75}
        unparked = await self.orders.give("unpark", ["queue", "unpark", "--all"], frozenset())
        assert unparked.status in {0, 75}, self.nursery.said()
        left = await self.site.drained(60)
        assert left == 0, f"{left} are left\n{self.site.relay.tail()}"
        self.site.balance()
        ledger = Ledger()
        for began, ended in self._crashes:
            ledger.crash(began, ended, "a crash")
        for window in windows:
            ledger.window(*window)
        for load in self._loads:
            ledger.submitted(load.submissions)
        for store in (self.old, self.new):
            ledger.arrived(store.arrivals)
        self.site.tell(ledger)
        verdict = ledger.check()
        assert verdict.ok, verdict.report()
        written_once(self.site)
        return verdict


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
