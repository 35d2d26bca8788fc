"""
Comparing versions of directory entries, as far as that proves anything. Pure.

Guarantees: an answer is given only where it holds whichever server of the directory was asked. An OpenLDAP CSN
(draft-ietf-ldup-model: time with microseconds, count, server, modification) orders all changes of all servers. A
timestamp (modifyTimestamp) has steps of a second: equal ones prove nothing. A `uSNChanged` counts on one server only.
"""

import re

_CSN = re.compile(r"\d{14}\.\d{6}Z#[0-9a-fA-F]{6}#[0-9a-fA-F]{3}#[0-9a-fA-F]{6}")
_SECONDS = 14
_TIMESTAMP = re.compile(r"\d{14}(?:\.\d+)?Z")


def reached(seen: str, written: str) -> bool | None:
    """Whether an entry seen in version `seen` contains what was written as `written`; None: it cannot be told."""
    if _CSN.fullmatch(seen) and _CSN.fullmatch(written):
        return seen.lower() >= written.lower()
    if not (_TIMESTAMP.fullmatch(seen) and _TIMESTAMP.fullmatch(written)):
        return None
    if seen[:_SECONDS] != written[:_SECONDS]:
        return seen > written
    return None if seen == written or len(seen) != len(written) else seen > written


def older(one: str, other: str) -> bool:
    """Whether `one` is certainly an earlier state of the entry than `other`."""
    return reached(one, other) is False
