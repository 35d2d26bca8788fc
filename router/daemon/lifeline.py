"""
Processes that end with the one that started them, and what `ps` calls them.

A worker left alone would keep its spool and its share of the connections, with nobody to end it when it hangs.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def be_called(name: str) -> None:
    """Show up under this name (at most 15 octets) in `ps -o comm`, `top` and `pgrep`."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def ends_with(parent: int) -> bool:
    """Have the kernel send us SIGTERM when our parent (a pid, or 0) dies; False when it has died already."""
    if not parent:
        return True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    return os.getppid() == parent
