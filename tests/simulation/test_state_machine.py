"""
Any sequence of accept, hold, release, abort, store trouble, crash, restart and passing time keeps promises 2, 3 and 6.

The product's own receiver, dispatcher, lanes, releases and barrier bookkeeping run over the reference spool and over
the real one; stores are in memory and the clock is the test's. A crash cancels every task wherever it is.
"""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.memory import Arrival, MemorySpool, StagedSender, SteppedClock, World
from support.plane import Plane
from support.scratch import SCRATCH

from router.model.outcome import Disposition
from router.model.reply import HopReply
from router.spool.options import SpoolOptions
from router.spool.spool import Spool

pytestmark = pytest.mark.timeout(600)

DEE = "dee@example.edu"
PEOPLE = ("ann@example.edu", "bea@example.edu", "cem@example.edu", DEE)
LIST = "news@example.edu"
FORWARDS = {DEE: ("ann@example.edu", LIST)}
"""Besides keeping a copy."""
HOMES = ("old", "new")
MONTH = 30 * 86400.0

people = st.sampled_from(PEOPLE)
homes = st.sampled_from(HOMES)
recipients = st.lists(st.sampled_from((*PEOPLE, LIST)), min_size=1, max_size=4, unique=True)


class Watched(StagedSender):
    """A store that checks each arrival against the world: the right home, and nobody who is quiet."""

    def __init__(self, lane: str, world: World, arrivals: list[Arrival], quiet: set[str]) -> None:
        super().__init__(lane, world, arrivals)
        self.quiet = quiet
        self.wrong: list[str] = []

    async def send(self, parcel: Any, gate: Any) -> Any:
        before = len(self._arrivals)
        verdicts = await super().send(parcel, gate)
        for arrival in self._arrivals[before:]:
            if arrival.queue_id == parcel.queue_id and arrival.wire in self.quiet:
                self.wrong.append(f"{arrival.wire} reached {self._lane} while quiet")
        return verdicts

    async def _maybe_pause(self, stage: str, aborted: asyncio.Event) -> None:
        if stage == "reply":
            self._check_homes()
        await super()._maybe_pause(stage, aborted)

    def _check_homes(self) -> None:
        """Called in the step in which the store took the message."""
        for arrival in self._arrivals:
            box = self._world.mailboxes.get(arrival.wire)
            if arrival.epoch == self._world.epoch and arrival.lane == self._lane and box is not None:
                if box.home != self._lane:
                    self.wrong.append(f"{arrival.wire} reached {self._lane}, its home is {box.home}")
                if arrival.wire in self.quiet:
                    self.wrong.append(f"{arrival.wire} reached {self._lane} while quiet")


class Machine(RuleBasedStateMachine):
    """One relay of one worker, for one example."""

    real_spool = False

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(dir=SCRATCH))
        self.world = World()
        for local in PEOPLE:
            self.world.add(local.partition("@")[0], "old", *FORWARDS.get(local, ()))
        self.world.lists[LIST] = "lists"
        self.clock = SteppedClock()
        self.quiet: set[str] = set()
        self.arrivals: list[Arrival] = []
        names = ("old", "new", "lists")
        self.stores = {name: Watched(name, self.world, self.arrivals, self.quiet) for name in names}
        self.accepted: dict[tuple[str, str], int] = {}
        self.sent = 0
        self.unsure = False
        self.spool: Any = None
        self.plane: Plane
        self._run(self._start())

    def _run(self, work: Any) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(180):
                return await work

        return self.loop.run_until_complete(limited())

    def _step(self, act: Callable[..., object], *args: object) -> None:
        async def once() -> None:
            act(*args)

        self._run(once())

    async def _start(self) -> None:
        if self.real_spool:
            options = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0)
            self.spool = await Spool.open(self.directory / "0001", 1, create=True, options=options)
        elif self.spool is None:
            self.spool = MemorySpool(self.clock)
        self.plane = Plane(self.world, settle=0.01, clock=self.clock, spool=self.spool, senders=dict(self.stores))
        self.plane.arrivals = self.arrivals
        await self.plane.__aenter__()

    @rule(to=recipients)
    def accept(self, to: list[str]) -> None:
        self.sent += 1
        sender = f"s{self.sent}@outside.example"
        refused = self._run(self.plane.send(*to, sender=sender))
        assert refused == []
        for address in to:
            self.accepted[(sender, address)] = 0

    @rule(key=people)
    def hold(self, key: str) -> None:
        if self.world.mailboxes[key].hold is None:
            self._step(self.plane.hold, key)
            self._run(self.plane.settle(lambda: self.plane.barrier.quiet(key)))
            self.quiet.add(key)

    @rule(key=people, home=homes)
    def release(self, key: str, home: str) -> None:
        if self.world.mailboxes[key].hold is not None:
            self.quiet.discard(key)
            self._step(self.plane.release, key, home)

    @rule(key=people)
    def abort(self, key: str) -> None:
        if self.world.mailboxes[key].hold is not None:
            self.quiet.discard(key)
            self._step(self.plane.release, key)

    @rule(store=st.sampled_from(("old", "new", "lists")), trouble=st.sampled_from(("", "down", "busy", "vanish")))
    def store(self, store: str, trouble: str) -> None:
        one = self.stores[store]
        one.refuse_connection = trouble == "down"
        one.vanish = trouble == "vanish"
        busy, ok = HopReply(451, "4.3.0", "busy", "store"), HopReply(250, "2.0.0", "ok", "store")
        one.answer = (lambda _wire: busy) if trouble == "busy" else (lambda _wire: ok)
        self.unsure = self.unsure or trouble == "vanish"

    @rule(seconds=st.sampled_from((1.0, 300.0, 5000.0)))
    def time_passes(self, seconds: float) -> None:
        self.plane.advance(seconds)

    @precondition(lambda self: all(box.hold is not None for box in self.world.mailboxes.values()))
    @rule()
    def a_month_passes_while_everybody_is_held(self) -> None:
        self._run(self.plane.settle())
        before = self._returned()
        self.clock.now += MONTH
        self._run(asyncio.sleep(0.03))
        assert self._returned() == before

    @rule(steps=st.integers(0, 12))
    def crash(self, steps: int) -> None:
        """Every task ends where it happens to be; what was not committed is gone."""
        self._run(self._crash(steps))
        self.unsure = True

    async def _crash(self, steps: int) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.real_spool:
            await self.spool.close()
        await self._start()

    @rule()
    def rest(self) -> None:
        self._run(asyncio.sleep(0.01))

    @invariant()
    def stores_saw_nothing_wrong(self) -> None:
        if hasattr(self, "stores"):
            assert [wrong for store in self.stores.values() for wrong in store.wrong] == []

    def _returned(self) -> int:
        return sum(outcome.disposition is Disposition.RETURNED for _, outcome in self.plane.notes.outcomes)

    def teardown(self) -> None:
        if not hasattr(self, "plane"):
            return
        try:
            self._run(self._finish())
            self._check_books()
        finally:
            with contextlib.suppress(Exception):
                self._run(self.plane.__aexit__())
            if self.real_spool:
                self._run(self.spool.close())
            self.loop.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    async def _finish(self) -> None:
        """All stores work, all holds end, and time enough passes: then nothing may be left."""
        for store in self.stores.values():
            store.refuse_connection = store.vanish = False
            store.answer = lambda _wire: HopReply(250, "2.0.0", "ok", "store")
        for key, box in self.world.mailboxes.items():
            if box.hold is not None:
                self.quiet.discard(key)
                self.plane.release(key)
        turns, end = 0, time.monotonic() + 60
        while turns < 400 or time.monotonic() < end:
            turns += 1
            if turns <= 400:
                self.plane.advance(400.0)
            await asyncio.sleep(0.005)
            if not await self._left():
                return
        raise AssertionError(f"{await self._left()} recipients are stuck")

    async def _left(self) -> int:
        if not self.real_spool:
            return len(self.spool.rows)
        counts = (await self.spool.desk.counts()).mail
        assert counts.balanced
        return int(counts.queued + counts.held + counts.parked + counts.quarantined)

    def _check_books(self) -> None:
        arrived = [arrival.wire for arrival in self.arrivals]
        for address in (*PEOPLE, LIST):
            wanted = [who for who, to in self.accepted if address in (to, *FORWARDS.get(to, ()))]
            # What reaches one address twice, also by a forward, may travel once.
            assert arrived.count(address) >= len(set(wanted)), f"mail for {address} was lost"
            if not self.unsure:
                assert arrived.count(address) <= len(wanted), f"mail for {address} was doubled"
        assert self._returned() == 0


class OverTheRealSpool(Machine):
    """The same, with SQLite underneath."""

    real_spool = True


TestMemory = Machine.TestCase
TestMemory.settings = settings(stateful_step_count=25, deadline=None)
TestReal = pytest.mark.slow(OverTheRealSpool.TestCase)
TestReal.settings = settings(stateful_step_count=15, deadline=None, max_examples=20)
