"""
The operators of the demo: several at a time move people, and take some of them back.

Guarantees: a move is the real operation, and its times are taken outside of it: `quiet` after the barrier was
reported, `copied` before the release begins, so what a store sees between the two is a broken promise. A way back
begins after the way there has ended. On failure: a move that fails is recorded with its reason, and the others go on.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from router.control.operations import HoldResult
from router.demo.cast import NEW, OLD, Cast
from router.demo.office import Office
from router.errors import SluiceError

_MOVES_SHARE = 0.75
"""Part of the time in which moves begin; the ways back follow."""


class Interrupted(Exception):
    """The demo is being ended."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move. Times are CLOCK_MONOTONIC seconds, 0 when it did not come so far; `error` is empty on success."""

    mailbox: str
    source: str
    target: str
    began: float
    quiet: float = 0.0
    copied: float = 0.0
    ended: float = 0.0
    error: str = ""

    @property
    def barrier(self) -> float:
        """Seconds from the command to the moment its mailbox was quiet."""
        return self.quiet - self.began


class Stop:
    """Ends all waiting at once. `sleep` raises `Interrupted` from then on."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def sleep(self, seconds: float) -> None:
        if self._event.wait(max(0.0, seconds)):
            raise Interrupted


class Movers:
    """`parallel` operators; `copy` is how long the stand-in for copying one mailbox takes, `seconds` all of it."""

    def __init__(self, office: Office, cast: Cast, stop: Stop, *, seconds: float, parallel: int, copy: float) -> None:
        self._office = office
        self._cast = cast
        self._stop = stop
        self._seconds = seconds
        self._parallel = parallel
        self._copy = copy
        self.moves: list[Move] = []
        """Ended ones, in the order of their ends."""
        self._copying: set[str] = set()

    @property
    def total(self) -> int:
        return len(self._cast.moved) + len(self._cast.rolled_back)

    @property
    def copying(self) -> int:
        """Mailboxes that are quiet and being copied now."""
        return len(self._copying)

    def run(self) -> None:
        """Move everybody. Blocks; returns early when stopped."""
        begin, step = time.monotonic(), self._seconds * _MOVES_SHARE / len(self._cast.moved)
        with ThreadPoolExecutor(self._parallel, "mover") as pool, suppress(Interrupted):
            there = {}
            for number, person in enumerate(self._cast.moved):
                self._stop.sleep(begin + number * step - time.monotonic())
                there[person.address] = pool.submit(self._move, person.address, OLD, NEW)
            self._bring_back(pool, there)

    def _bring_back(self, pool: ThreadPoolExecutor, there: Mapping[str, "Future[None]"]) -> None:
        step = self._seconds * (1 - _MOVES_SHARE) / max(1, len(self._cast.rolled_back))
        for person in self._cast.rolled_back:
            # Their moves were handed in before, so waiting for them here cannot starve the pool.
            pool.submit(self._move, person.address, NEW, OLD, there[person.address])
            self._stop.sleep(step)

    def _move(self, mailbox: str, source: str, target: str, after: "Future[None] | None" = None) -> None:
        if after is not None:
            after.result()
        quiet = copied = 0.0
        error = ""
        began = time.monotonic()

        def copy(_held: HoldResult) -> int:
            nonlocal quiet, copied
            quiet = time.monotonic()
            self._copying.add(mailbox)
            try:
                self._stop.sleep(self._copy)
            finally:
                self._copying.discard(mailbox)
            copied = time.monotonic()
            return 0

        try:
            error = self._operate(mailbox, target, copy)
        except Interrupted:
            error = "interrupted"
        except SluiceError as failure:
            error = f"{type(failure).__name__}: {failure}"
        self.moves.append(Move(mailbox, source, target, began, quiet, copied, time.monotonic(), error))

    def _operate(self, mailbox: str, target: str, copy: Callable[[HoldResult], int]) -> str:
        """Why it did not succeed, or ''."""
        act = self._office.act(f"demo: move to {target}")
        result = self._office.operations.move(mailbox, target, act, run=copy)
        if result.release is None:
            return f"not quiet; waits for {', '.join(map(str, result.hold.waiting_for)) or 'nothing known'}"
        return "" if result.release.applied else "released, but not applied everywhere in time"
