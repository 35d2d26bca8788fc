"""
One message on its way, as seen by whoever may still call it back (barrier rule 6).

Guarantees: until the final dot may be written, `abort` ends the attempt at once, whatever it is waiting for, and the
dot is never written afterwards; from then on, and after the attempt is over, `abort` does nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from router.ports import Gate

T = TypeVar("T")


class Interrupted(Exception):
    """The attempt was called back before the final dot."""


class Attempt:
    """The permit of one `send`: wraps the gate and remembers how to stop what is under way."""

    __slots__ = ("_gate", "_over", "_stop", "cancelled", "stage")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._stop: Callable[[], object] | None = None
        self._over = False
        self.cancelled = False
        self.stage = gate.stage
        gate.attach(self.abort)

    def abort(self) -> None:
        """Call it back; a no-op once `pass_dot` has returned True or the attempt is over."""
        if self._over or self.cancelled:
            return
        self.cancelled = True
        if self._stop is not None:
            self._stop()

    def pass_dot(self) -> bool:
        """Whether the final dot may be written now, with no await in between."""
        if self.cancelled or not self._gate.pass_dot():
            self.cancelled = True
            return False
        self._over = True
        return True

    def use(self, stop: Callable[[], object]) -> None:
        """From now on `stop` ends what is under way. Raises `Interrupted` if it is too late to begin."""
        if self.cancelled:
            raise Interrupted
        self._stop = stop

    def end(self) -> None:
        """The attempt is over: its connection may serve somebody else now."""
        self._over = True
        self._stop = None

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work` as long as nobody calls the attempt back. Raises `Interrupted`, or what `work` raises."""
        if self.cancelled:
            work.close()
            raise Interrupted
        task = asyncio.ensure_future(work)
        self._stop = task.cancel
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self.cancelled and not (current is not None and current.cancelling()):
                raise Interrupted from None
            raise
        finally:
            self._stop = None
