"""Load for crash tests: many messages, small and large, that are remembered with what was said of each."""

import asyncio
import time
from collections.abc import Sequence

from router.ledger.book import Ledger
from router.ledger.load import Fate, Load, Submission
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan
from router.ledger.verdict import Verdict
from support.site import Site

SIZES = (800, 3_000, 20_000, 100_000, 300_000)
"""On both sides of the limit beyond which a body is a file."""


class Bursts:
    """Rounds of load against one site, and one verdict over all of them."""

    def __init__(self, site: Site, stores: Sequence[RecordingStore], people: Sequence[str], seed: int = 1) -> None:
        self._site = site
        self._stores = stores
        self._people = people
        self._seed = seed
        self._rounds = 0
        self._crashes: list[tuple[float, float]] = []
        self._load: Load | None = None
        self._task: asyncio.Task[list[Submission]] | None = None
        self.submissions: list[Submission] = []

    def begin(self) -> None:
        """Offer messages as fast as they are taken, until `end`."""
        self._rounds += 1
        plan = Plan(
            ["a@outside.example"], self._people, (1, 1, 2, 3), SIZES, connections=6,
            seed=self._seed * 1000 + self._rounds, run=f"burst{self._seed}-{self._rounds}",
        )  # fmt: skip
        self._load = Load("127.0.0.1", self._site.port, plan, timeout=10)
        self._task = asyncio.create_task(self._load.run())

    async def end(self) -> int:
        """Come to an end; how many messages of this burst were acknowledged."""
        assert self._load is not None
        assert self._task is not None
        self._load.stop()
        found = await self._task
        self.submissions += found
        return sum(Fate.ACKNOWLEDGED in one.fates for one in found)

    def crash(self, began: float) -> None:
        """Something was killed since then: what stores took in that time may come again."""
        self._crashes.append((began, time.monotonic()))

    @property
    def acknowledged(self) -> int:
        """Messages that a client was told are kept."""
        return sum(Fate.ACKNOWLEDGED in one.fates for one in self.submissions)

    async def judge(self, patience: float = 60.0) -> Verdict:
        """Drain, and check every message so far."""
        left = await self._site.drained(patience)
        assert left == 0, f"{left} are left\n{self._site.relay.tail()}"
        self._site.balance()
        ledger = Ledger()
        for began, ended in self._crashes:
            ledger.crash(began, ended, "a crash")
        ledger.submitted(self.submissions)
        for store in self._stores:
            ledger.arrived(store.arrivals)
        self._site.tell(ledger)
        verdict = ledger.check()
        assert verdict.ok, verdict.report()
        return verdict
