"""Load for crash tests: many messages, small and large, that are remembered with what was said of each."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from router.errors import SpoolUnavailable
from router.ledger.book import Ledger
from router.ledger.load import Fate, Load, Submission
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan, tag_of
from router.ledger.verdict import Verdict
from router.model.outcome import Disposition
from support.site import Site

SIZES = (800, 3_000, 20_000, 100_000, 300_000)
"""On both sides of the limit beyond which a body is a file."""

COMMIT = 10.0
"""
Seconds from a store's reply to the commit of the outcome, at most, on a machine that stands still now and then. What
was written down by then is known exactly: see `written_once` and `Bursts.note`.
"""


def written_once(site: Site) -> None:
    """Nothing was delivered again that the journal had as delivered, however long before a crash that was."""
    rows = [row for row in site.journal() if row.disposition == Disposition.DELIVERED.value]
    often = Counter((tag_of(row.message_id), row.recipient) for row in rows)
    twice = [key for key, count in often.items() if count > 1 and key[0]]
    assert twice == [], "delivered again though it was written down"


class Bursts:
    """Rounds of load against one site, and one verdict over all of them."""

    def __init__(self, site: Site, stores: Sequence[RecordingStore], people: Sequence[str], seed: int = 1) -> None:
        self._site = site
        self._stores = stores
        self._people = people
        self._seed = seed
        self._rounds = 0
        self._crashes: list[tuple[float, float]] = []
        self._written: list[tuple[float, frozenset[tuple[str, str]]]] = []
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
        self._load = None
        self.submissions += found
        return acknowledged(found)

    async def until(self, enough: Callable[[Sequence[Submission]], bool], patience: float = 60.0) -> None:
        """Go on with the burst until what was said so far in it is enough, or the time is over."""
        assert self._load is not None
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if enough(self._load.submissions):
                return
            await asyncio.sleep(0.02)

    def note(self) -> None:
        """What the journal has as delivered now, when nobody writes into it, never comes again. Blocks."""
        # Hazard: an owner that was stopped in the middle of a commit may keep readers out.
        with suppress(SpoolUnavailable), self._site.books() as books:
            self._written.append((time.monotonic(), frozenset(books.delivered())))

    def crash(self, since: float) -> None:
        """Something was killed after that moment: what stores took about then may come again."""
        self._crashes.append((since - COMMIT, time.monotonic() + COMMIT / 2))

    @property
    def acknowledged(self) -> int:
        """Messages that a client was told are kept."""
        running = self._load.submissions if self._load is not None else []
        return acknowledged([*self.submissions, *running])

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
        written_once(self._site)
        for moment, written in self._written:
            later = [one for store in self._stores for one in store.arrivals if one.began > moment]
            again = [(one.tag, who) for one in later for who, _ in one.recipients if (one.tag, who) in written]
            assert again == [], "delivered again though it was written down"
        return verdict


def acknowledged(said: Sequence[Submission]) -> int:
    """Messages that a client was told are kept."""
    return sum(Fate.ACKNOWLEDGED in one.fates for one in said)
