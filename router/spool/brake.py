"""
How much slower mail is taken as the disk runs short. Pure.

Between twice what must stay free and once, every MAIL waits, longer the less is left; below, it is refused (`Health`).
Stores that are slower than their clients so slow these down before they hear 452, and what arrives comes down to what
leaves, if that is possible at all.
"""

LONGEST = 2.0
"""Seconds that a MAIL waits where almost nothing is left; clients wait five minutes for it (RFC 5321 4.5.3.2)."""


def pause(free: int, minimum: int) -> float:
    """Seconds to wait, with `free` octets (or inodes) of which `minimum` must stay."""
    if minimum <= 0 or free >= 2 * minimum:
        return 0.0
    missing = 1.0 - max(0, free - minimum) / minimum
    return LONGEST * missing * missing
