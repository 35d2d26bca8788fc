"""
Runs a session's coroutine by callbacks of the event loop.

What a task would do, without a task for the session and another for each commit, and without a future for each wait.
When data has come the coroutine goes on in the next turn, not in the transport's callback: uvloop lets go of the
interpreter's lock after each of those, and the spool's thread, woken by the commit of one session, would fight for it
through all the others' callbacks (measured on kept connections: 30 futex calls per message instead of 8).

Guarantees: one step at a time, never two at once; nothing that the coroutine waits for is ever cancelled on its
behalf, so a commit that it has begun is finished, whoever leaves (RX17). Nothing is raised into the event loop.
On failure: an error that comes out of the coroutine is logged and ends it.

There is no current task inside: what needs one (`asyncio.timeout`) has to be given a task of its own.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from router.accept.inbox import Inbox

_log = logging.getLogger(__name__)


class Stepper:
    """One coroutine from its first step, in the next turn of the loop, to its end."""

    __slots__ = ("_coroutine", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        loop.call_soon(self._step)

    def _soon(self) -> None:
        """Not at once: see above."""
        self._loop.call_soon(self._step)

    def _step(self, _: object = None) -> None:
        try:
            awaited = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            return
        except Exception:  # noqa: BLE001 - the loop can do nothing about it
            _log.exception("a session ended with an error")
            return
        if isinstance(awaited, Inbox):
            awaited.then(self._soon)
        elif awaited is None:  # asyncio.sleep(0)
            self._loop.call_soon(self._step)
        else:  # a future; it hands its result or error to the coroutine itself
            awaited._asyncio_future_blocking = False  # noqa: SLF001 - what a task does: the future was awaited rightly
            awaited.add_done_callback(self._step)
