"""
One relay under load between two recording next hops, with everything that the ledger must know of it.

    async with Bout(make, directory, disk=disk) as bout:
        await bout.start()
        bout.load(seed)
        ...
        await bout.kill()                                  # SIGKILL to every process of the relay
        await bout.end_load()
        tally = await bout.judge()                         # drained, then compared

Guarantees: each relay is judged by the same ledger in the same way. The Received field on top is taken off whoever
wrote it, so that octets can be compared; memory is that of the relay's control group.
"""

import asyncio
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from hashlib import sha256
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Self

from support.loop_disk import LoopDisk
from support.memory_group import MemoryGroup
from support.smuggling import BARE

from compare.figures import Tally
from compare.relay import HOSTNAME, Place, Relay, wait_for
from router.ledger.arrival import Arrival, find_tag
from router.ledger.behaviour import Behaviour, Stage
from router.ledger.book import Ledger
from router.ledger.load import Fate, Load, Submission
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan

PEOPLE = {f"p{number}@example.edu": ("old", "new")[number % 2] for number in range(6)}
SIZES = (800, 3_000, 20_000, 100_000, 300_000)
LARGE = 65_536
"""Octets from which a message counts as large."""
HUNG = Behaviour(hang=frozenset({Stage.CONNECT}))
MEMORY = 4 << 30
"""Octets; far more than any of them needs."""
_FIELD_END = re.compile(rb"\r\n(?![ \t])")

Make = Callable[[Place], Relay]


class Records(list[Arrival]):
    """
    Arrivals of one store, with the digest of what is below the Received field of the relay.

    `bare` has the tags of small messages that came with a CR or an LF by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bare: set[str] = set()

    def take(self, arrival: Arrival) -> None:
        content = arrival.body or b""
        end = _FIELD_END.search(content)
        ours = content.startswith(b"Received:") and end and HOSTNAME.encode() in content[: end.start()]
        trace, rest = (content[: end.start()], content[end.end() :]) if ours and end else (b"", content)
        tag, digest = find_tag(rest), sha256(rest).hexdigest()
        if len(rest) < LARGE and BARE.search(rest):
            self.bare.add(tag)
        self.append(replace(arrival, tag=tag, digest=digest, trace=trace.decode("latin-1"), body=None))


class Bout:
    """See the module's text. `disk` is where the queue lives; without it, the machine's own."""

    def __init__(
        self,
        make: Make,
        *,
        disk_megabytes: int = 0,
        homes: Mapping[str, str] = PEOPLE,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.records = {name: Records() for name in ("old", "new")}
        self.stores = {
            name: RecordingStore(name, keep_bodies=True, sink=records.take) for name, records in self.records.items()
        }
        self.submissions: list[Submission] = []
        self.disk: LoopDisk | None = None
        self.group = MemoryGroup(MEMORY)
        self._make, self._megabytes, self._homes, self._settings = make, disk_megabytes, homes, settings or {}
        self._crashes: list[tuple[float, float]] = []
        self._stack = AsyncExitStack()
        self._load: Load | None = None
        self._task: asyncio.Task[list[Submission]] | None = None
        self.relay: Relay

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open(self) -> None:
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-compare-")))
        await asyncio.to_thread(directory.chmod, 0o755)
        if self._megabytes:
            self.disk = self._stack.enter_context(LoopDisk(directory, megabytes=self._megabytes))
        for store in self.stores.values():
            await self._stack.enter_async_context(store)
        self._stack.enter_context(self.group)
        ports = {name: store.port for name, store in self.stores.items()}
        self.relay = await asyncio.to_thread(self._make, Place(directory, ports, self._homes, self._settings))
        self._stack.push_async_callback(asyncio.to_thread, self._close)

    def _close(self) -> None:
        self.group.kill_all()
        self.relay.killed()
        self.relay.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end_load()
        await self._stack.aclose()

    # --- the relay

    async def start(self) -> None:
        """Start it, in the group; it greets when this returns."""

        def work() -> None:
            with self.group.joined():
                self.relay.start()
            assert wait_for(self.relay.port), f"{self.relay.name} does not greet: {self.relay.told()}"

        await asyncio.to_thread(work)

    async def kill(self, since: float = 0.5) -> None:
        """SIGKILL to all its processes. What stores took since `since` seconds before may come again."""
        began = time.monotonic() - since
        await asyncio.to_thread(self.group.kill_all)
        await asyncio.to_thread(self.relay.killed)
        self._crashes.append((began, time.monotonic()))

    async def sync(self) -> None:
        """All that the relay has made so far is on its disk: a cut is to hit one that exists."""
        if self.disk is not None:
            await asyncio.to_thread(self.disk.sync)

    # --- mail

    def behave(self, behaviour: Behaviour) -> None:
        """What both next hops do from now on."""
        for store in self.stores.values():
            store.behaviour = behaviour

    def load(self, seed: int, sizes: Sequence[int] = SIZES, host: str = "127.0.0.1") -> None:
        """Offer messages as fast as they are taken, until `end_load`."""
        plan = Plan(
            ["a@outside.example"], list(self._homes), (1, 1, 2, 3), sizes, connections=6, seed=seed, run=f"load{seed}"
        )
        self._load = Load(host, self.relay.port, plan, timeout=10)
        self._task = asyncio.create_task(self._load.run())

    async def end_load(self, until: float = inf) -> list[Submission]:
        """
        What was said to the messages of this load.

        What was said after `until` does not count as said: a machine without power says nothing.
        """
        if self._load is None or self._task is None:
            return []
        self._load.stop()
        found = [unheard(one) if one.at + one.seconds >= until else one for one in await self._task]
        self._load = self._task = None
        self.submissions += found
        return found

    async def drained(self, patience: float) -> int:
        """Ask for a try of everything, again and again, until nothing is queued; what is left after so many seconds."""
        end = time.monotonic() + patience
        while left := await asyncio.to_thread(self.relay.queued):
            if time.monotonic() > end:
                break
            await asyncio.to_thread(self.relay.flush)
            await asyncio.sleep(0.3)
        return left

    async def judge(self, patience: float = 60.0) -> Tally:
        """Drain, and compare everything so far."""
        left = await self.drained(patience)
        ledger = Ledger(allowed=lambda who, _at: {self._homes[who]})
        for began, ended in self._crashes:
            ledger.crash(began, ended, "a fault")
        ledger.submitted(self.submissions)
        for records in self.records.values():
            ledger.arrived(records)
        arrived = {(one.tag, who) for records in self.records.values() for one in records for who, _ in one.recipients}
        await asyncio.to_thread(self.relay.tell, ledger, ledger.acknowledged - arrived)
        aside = await asyncio.to_thread(self.relay.aside)
        large = sum(fate is Fate.ACKNOWLEDGED for one in self.submissions if one.size >= LARGE for fate in one.fates)
        return Tally.of(ledger.check(), left, aside, large, self.submissions)


def unheard(one: Submission) -> Submission:
    """The same message to a client that did not hear whether it was kept."""
    fates = tuple(Fate.UNANSWERED if fate is Fate.ACKNOWLEDGED else fate for fate in one.fates)
    return replace(one, fates=fates)
