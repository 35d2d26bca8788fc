"""
Who may have how many of the process's file descriptors, so that clients cannot take those that mail needs to go on.

A new descriptor gets the lowest free number: its number says how many are in use at least. Strangers get those below
the last quarter; the first half of that quarter is for trusted hosts, relays and the files of messages that arrive;
the rest is for deliveries, the journal and the databases.

Guarantees: asks the kernel each time, so that a limit changed while we run counts; no I/O. On failure: nothing fails.
"""

import resource

_PART = 4


def room(number: int, *, favoured: bool) -> bool:
    """Whether a descriptor with this number may be kept; `favoured`: by a client that is known, or for a message."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return True
    kept = limit // _PART
    return number < limit - (kept // 2 if favoured else kept)
