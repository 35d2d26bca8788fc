"""
Whether a message waits some milliseconds to be committed together with others.

A commit costs the same for one message as for ten. While many clients are at work beside each other most of them come
to their final dot within a few milliseconds, so the first one waits for them, as outcomes do (`LINGER`); the one that
makes them nearly complete is committed at once, with all that wait. Where few are at work nobody waits.

Guarantees: pure. A wrong number of clients costs a message no more than `LINGER`.
"""

CROWD = 5
"""Clients at work beside each other: for fewer nobody waits."""
_NEARLY_ALL = 0.95


def worth_waiting(clients: int, here: int) -> bool:
    """Whether to wait for more, while so many clients are at work and the messages of so many of them are here."""
    return clients >= CROWD and here < clients * _NEARLY_ALL
