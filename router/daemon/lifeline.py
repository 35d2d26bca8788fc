"""
Processes that end with the supervisor that started them.

A worker left alone would keep its spool and its share of the connections, with nobody to end it when it hangs.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def ends_with(supervisor: int) -> bool:
    """Have the kernel send us SIGTERM when the supervisor (a pid, or 0) dies; False when it has died already."""
    if not supervisor:
        return True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    return os.getppid() == supervisor
