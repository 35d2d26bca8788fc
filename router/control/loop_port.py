"""
What passes between a worker's event loop and the thread that follows the control database for it.

On failure: `LoopClosed` when the loop is gone, which is the end of the process and no error.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection

from router.control.requests import Request
from router.model.change import Blocking, ChangeSet, Snapshot


class LoopClosed(Exception):
    """The event loop is gone: the process is ending."""


class LoopPort(Protocol):
    """
    The worker's event loop, as its thread sees it. The first two block until the loop has answered.

    Each raises `LoopClosed` when there is no loop any more.
    """

    def joined(self, snapshot: Snapshot) -> Sequence[Blocking]: ...
    def changed(self, found: ChangeSet) -> Sequence[Blocking]: ...
    def outage(self, down: bool) -> None: ...
    def request(self, request: Request) -> None: ...


class Job:
    """A write that somebody on the loop waits for."""

    def __init__(self, work: Callable[[Connection], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        self.work = work
        self.done = done
