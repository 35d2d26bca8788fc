"""
Operators who work on a site all at once: every verb that changes the queue or a hold, on overlapping selections, by
the real command line in processes of their own, some of which are killed at a random moment.

    desk = Orders(nursery, people, seed)
    async with desk.operators(3): …           # they work while the block runs
    desk.given                                # what was asked, and what became of it

Each order has a reason of its own, by which the journal, the audit and the requests name it.
On failure: a command that does not end within its timeout and `SLACK` fails the test.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from support.nursery import Born, Nursery

TIMEOUT = 3
SLACK = 60.0
"""Seconds: the machine is under load, a process has to start, and one transaction may wait for the lock."""
QUEUE = ("flush", "requeue", "park", "unpark", "delete")
HOLDS = ("hold", "hold", "release", "move")
KILLED = 0.25
"""Of all orders, so many are killed."""


@dataclass(frozen=True, slots=True)
class Order:
    """One command: times are of `time.monotonic()`, `about` are people (empty: everybody), `status` as of waitpid."""

    reason: str
    verb: str
    words: tuple[str, ...]
    about: frozenset[str]
    began: float
    ended: float
    status: int
    output: str

    @property
    def document(self) -> Any:
        return json.loads(self.output) if self.output.strip() else {}

    def concerns(self, person: str) -> bool:
        return not self.about or person in self.about


class Orders:
    """See the module's text. `mail` gives queue-ids that may be named."""

    def __init__(
        self, nursery: Nursery, people: Sequence[str], mail: Callable[[], Sequence[str]], seed: int, *, pause: float
    ) -> None:
        self._nursery = nursery
        self._people = people
        self._mail = mail
        self._draw = random.Random(seed)
        self._pause = pause
        self._one = asyncio.Lock()
        self._over = asyncio.Event()
        self.given: list[Order] = []

    @asynccontextmanager
    async def operators(self, count: int) -> AsyncIterator[None]:
        """So many operators, until the block ends."""
        self._over.clear()
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._operate())
            try:
                yield
            finally:
                self._over.set()

    async def _operate(self) -> None:
        while not self._over.is_set():
            verb = self._draw.choice((*QUEUE, *HOLDS))
            words, about = self._queue(verb) if verb in QUEUE else self._hold(verb)
            killed = self._draw.uniform(0, 0.4) if self._draw.random() < KILLED else None
            await self.give(verb, words, about, killed)
            await asyncio.sleep(self._draw.uniform(0, self._pause))

    async def give(self, verb: str, words: Sequence[str], about: frozenset[str], killed: float | None = None) -> Order:
        """Give one order, and wait for its end; `killed` after so many seconds."""
        reason = f"order-{len(self.given)}-{self._draw.randrange(1 << 30)}"
        complete = [*words, "--reason", reason, "--timeout", f"{TIMEOUT}" if verb in QUEUE else f"{TIMEOUT}s"]
        began = time.monotonic()
        async with self._one:
            born = await asyncio.to_thread(self._nursery.command, *complete)
        born.go()
        status = await self._end(born, complete, began, killed)
        output = self._nursery.printed(born)
        order = Order(reason, verb, tuple(complete), about, began, time.monotonic(), status, output)
        self.given.append(order)
        return order

    async def _end(self, born: Born, words: Sequence[str], began: float, killed: float | None) -> int:
        limit = time.monotonic() + TIMEOUT * (3 if words[0] == "move" else 1) + SLACK
        while True:
            async with self._one:
                status = await asyncio.to_thread(self._nursery.ended, born)
            if status is not None:
                return status
            now = time.monotonic()
            if killed is not None and now > began + killed:
                born.kill()
                killed = None
            assert now < limit, f"{' '.join(words)} hangs: {self._nursery.said()}"
            await asyncio.sleep(0.01)

    # --- what is asked for

    def _queue(self, verb: str) -> tuple[list[str], frozenset[str]]:
        chosen, about = self._selection(verb)
        return ["queue", verb, *chosen, *(["--yes"] if verb == "delete" else [])], about

    def _selection(self, verb: str) -> tuple[list[str], frozenset[str]]:
        person = self._draw.choice(self._people)
        ids = list(self._mail())
        some = self._draw.sample(ids, min(len(ids), 4)) if ids else ["000100000001"]
        choices: list[tuple[list[str], frozenset[str]]] = [
            (some, frozenset()),
            (some[:1], frozenset()),
            (["--mailbox", person], frozenset({person})),
            (["--recipient", person], frozenset({person})),
        ]
        if verb != "delete":
            choices += [(["--store", "old"], frozenset()), (["--recipient", "@example.edu"], frozenset())]
            choices += [(["--all"], frozenset()), (["--reason-text", "later"], frozenset())]
        return self._draw.choice(choices)

    def _hold(self, verb: str) -> tuple[list[str], frozenset[str]]:
        some = self._draw.sample(list(self._people), self._draw.choice((1, 1, 2)))
        if verb == "release" and self._draw.random() < 0.3:
            return [verb, "--home", self._draw.choice(("old", "new"))], frozenset()
        to = ["--to", self._draw.choice(("old", "new"))]
        run = ["--run", "true"] if verb == "move" else []
        return [verb, *some, *(to if verb == "move" or (verb == "release" and len(some) == 1) else []), *run], (
            frozenset(some)
        )
