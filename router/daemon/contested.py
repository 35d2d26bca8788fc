"""
A mirror that asks again about people whom a directory has twice: an entry that was renamed is two until then.

Guarantees: asked when the directory was followed, at most `MOST` at a time; only a complete answer counts, and one that
says that there are two is believed. The mail of such people waits meanwhile, and nothing else does.

On failure: the question is asked again after `REST` seconds; the mirror's own failures go to who follows it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from router.daemon.directory_loop import Shadow
from router.directory.faults import Fault
from router.directory.inquiry import Told
from router.model.directory import Cookie, DirectoryItem, Unplaced

MOST = 200
REST = 60.0


class Contested(Shadow, Protocol):
    """The mirror of one directory (`router.control.mirror.Mirror`)."""

    def take_contested(self) -> list[str]: ...
    def confirm(self, items: Sequence[DirectoryItem], asked: float) -> object: ...


class Asked(Protocol):
    """Looks address keys up in the directory (`router.directory.inquiry.Inquiry`). Blocking, never raises."""

    def ask(self, keys: Sequence[str], until: float) -> Told: ...


class Confirming:
    """A `Shadow` for the directory loop; `deadline` seconds for one question."""

    def __init__(
        self,
        mirror: Contested,
        inquiry: Asked,
        deadline: float,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._mirror = mirror
        self._inquiry = inquiry
        self._deadline = deadline
        self._monotonic = monotonic
        self._wall = wall
        self._due: dict[str, float] = {}
        """Mailboxes to ask about, and from when on."""

    def followed(self, cookie: Cookie) -> None:
        """Then those who are contested are asked for."""
        self._mirror.followed(cookie)
        now = self._monotonic()
        for key in self._mirror.take_contested():
            self._due.setdefault(key, now)
        keys = [key for key, at in self._due.items() if at <= now][:MOST]
        if keys:
            self._ask(keys, now)

    def cookie(self) -> Cookie:
        return self._mirror.cookie()

    def apply(self, items: Sequence[DirectoryItem | Unplaced]) -> object:
        return self._mirror.apply(items)

    def begin_sweep(self) -> None:
        self._mirror.begin_sweep()

    def swept(self, items: Sequence[DirectoryItem | Unplaced]) -> object:
        return self._mirror.swept(items)

    def end_sweep(self) -> object:
        return self._mirror.end_sweep()

    def fault(self, text: str) -> None:
        self._mirror.fault(text)

    def _ask(self, keys: Sequence[str], now: float) -> None:
        asked = self._wall()
        told = self._inquiry.ask(keys, now + self._deadline)
        answered: set[str] = set()
        for key in keys:
            answer = told.answers.get(key)
            if answer is None or isinstance(answer, Fault):
                self._due[key] = now + REST
            else:
                self._mirror.confirm(answer, asked)
                answered.add(key)
                del self._due[key]
        # Who is still contested really is there twice: the next change of either entry brings it up again.
        for key in set(self._mirror.take_contested()) - answered:
            self._due.setdefault(key, now)
