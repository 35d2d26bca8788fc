"""
How the supervisor starts a process: what it orders, what it gets for it, and the plain way, a new interpreter.

Guarantees: the new process has the descriptors that were ordered, under the numbers that its command line names, and
knows whose end is its own. On failure: `OSError` (too many processes, no memory); nothing was started.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Order:
    """A process to start: a module of `router.daemon` with `main(words)`, and what it is told."""

    program: str
    name: str
    """As `ps` shows it: at most 15 octets."""
    words: tuple[str, ...] = ()
    ready: int = -1
    """A descriptor of the caller, to which the process writes once it serves; -1: none."""
    listen: tuple[int, ...] = ()
    """Listening sockets of the caller."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What is passed on, in the order that `arguments` expects."""
        return (*self.listen, *((self.ready,) if self.ready >= 0 else ()))

    def arguments(self, parent: int, descriptors: Sequence[int]) -> list[str]:
        """Of `main`, where the descriptors have these numbers; `parent` is the process whose end is its own."""
        listen = ",".join(str(one) for one in descriptors[: len(self.listen)])
        return [
            *self.words, "--supervisor", str(parent),
            *(["--listen", listen] if listen else []),
            *(["--ready", str(descriptors[-1])] if self.ready >= 0 else []),
        ]  # fmt: skip


class Process(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """Its exit code, or minus the signal that ended it."""

    def send_signal(self, number: int, /) -> None:
        """Raises `ProcessLookupError` when it has ended."""


class Starter(Protocol):
    """Starts processes."""

    async def start(self, order: Order) -> Process:
        """Raises `OSError`."""


class Executed:
    """Each process is an interpreter of its own, which imports everything anew: most of a second."""

    async def start(self, order: Order) -> Process:
        """See `Starter`."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"router.daemon.{order.program}"),
            *order.arguments(os.getpid(), order.descriptors),
            pass_fds=order.descriptors,
            stdin=asyncio.subprocess.DEVNULL,
        )
