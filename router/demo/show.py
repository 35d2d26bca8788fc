"""
What the demo shows while it runs: bars on a terminal, a line every few seconds in a pipe, nothing for programs.

Guarantees: nothing is written to standard output but lines for people; with `quiet` nothing at all.
"""

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_EVERY = 2.0
"""Seconds between two lines in a pipe."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the demo is."""

    moved: int
    moves: int
    copying: int
    messages: int
    rate: float

    def __str__(self) -> str:
        return f"{self.copying} being copied, {self.messages} messages in, {self.rate:.0f}/s"


class Show(Protocol):
    """Tells somebody how far the demo is. A context manager: what it draws ends with it."""

    def line(self, text: str) -> None: ...
    def moment(self, now: Moment) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Quiet:
    """For programs."""

    def line(self, text: str) -> None:
        """Nobody looks on."""

    def moment(self, now: Moment) -> None:
        """Nobody looks on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Lines(Quiet):
    """For a pipe."""

    def __init__(self) -> None:
        self._next = 0.0

    def line(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def moment(self, now: Moment) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            self.line(f"  {now.moved}/{now.moves} moves, {now}")


class Bars(Quiet):
    """For a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("moving people", total=None, note="", visible=False)

    def line(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def moment(self, now: Moment) -> None:
        self._progress.update(self._task, completed=now.moved, total=now.moves, note=str(now), visible=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def show_for(*, quiet: bool) -> Show:
    """What fits standard output."""
    if quiet:
        return Quiet()
    return Bars(Console()) if sys.stdout.isatty() else Lines()
