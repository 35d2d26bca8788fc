"""
The event loop of a worker: uvloop where it is installed, asyncio's own otherwise or when SLUICE_LOOP=asyncio.

Guarantees: after `to_the_end` a signal that comes once more does not change how the process ends.
"""

import asyncio
import importlib
import os
import signal
from collections.abc import Coroutine
from typing import Any

_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A fresh loop, not yet running."""
    if os.environ.get("SLUICE_LOOP", "uvloop") == "uvloop":
        try:
            loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
        except ImportError:
            pass
        else:
            return loop
    return asyncio.new_event_loop()


async def to_the_end(run: Coroutine[Any, Any, int]) -> int:
    """The main coroutine of a process: once it has ended, signals that come once more are ignored for good."""
    code = await run
    loop = asyncio.get_running_loop()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    for number in _ENDS:
        # A loop that closes would give it back its first meaning, which is death.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return code
