"""The event loop of a worker: uvloop where it is installed, asyncio's own otherwise or when SLUICE_LOOP=asyncio."""

import asyncio
import importlib
import os


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
