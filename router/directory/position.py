"""
How far the changes of a directory have been read, and from where they must be asked for next.

Guarantees: pure. Whatever has changed since the position, on this server, is at or above its `bound`. Two things make
a plain "newer than the newest seen" miss changes: clocks of one second, and replicas, which get several changes of
their master in any order. Against the first the bound lies some seconds lower. Against the second counts what the
server itself says it has completely (`contextCSN`, one for each master): when that has moved on, the bound is where it
stood before.

On failure: a text that is no position is None; then only a sweep helps.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from router.directory.versions import CHANGE_ATTRIBUTES, ENTRY_CSN, USN_CHANGED

OVERLAP = 5.0
"""Seconds that are asked for again."""

_NUMBER_STAYS = "#000000#000#000000"
_SECONDS = 14
_CSN = re.compile(r"[0-9]{14}\.[0-9]{6}Z#[0-9a-f]{6}#[0-9a-f]{3}#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class Position:
    """
    `attribute` tells the changes, `newest` is the greatest value of it that was seen (a count without leading zeros is
    padded), `serial` grows with each answer that told something, `complete` is contextCSN by server id.
    """

    attribute: str
    newest: str = ""
    serial: int = 0
    complete: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        pairs = ",".join(f"{sid}={csn}" for sid, csn in sorted(self.complete.items()))
        return f"{self.attribute}|{self.newest}|{self.serial}|{pairs}"


def parse_position(text: str) -> Position | None:
    """What `str` wrote."""
    parts = text.split("|")
    if len(parts) != 4 or parts[0] not in CHANGE_ATTRIBUTES or not parts[2].isdecimal():
        return None
    pairs = [pair.partition("=") for pair in parts[3].split(",") if pair]
    if (parts[1] and _time_or_count(parts[0], parts[1]) is None) or not all(_CSN.fullmatch(csn) for _, _, csn in pairs):
        return None
    return Position(parts[0], parts[1], int(parts[2]), {sid: csn for sid, _, csn in pairs})


def bound(position: Position, complete: Mapping[str, str]) -> str:
    """
    The smallest value of the attribute to ask for, as the server spells it; '' asks for everything.

    `complete` is contextCSN now, read before the entries are.
    """
    if position.attribute == USN_CHANGED:
        return str(int(position.newest)) if position.newest else ""
    lowest = earlier(position.attribute, position.newest, OVERLAP)
    moved = [csn for sid, csn in position.complete.items() if complete.get(sid, csn) > csn]
    return min([lowest, *moved]) if lowest else ""


def went_back(position: Position, complete: Mapping[str, str]) -> bool:
    """Whether the server has less than it had: a backup was restored, or it has been set up anew."""
    return any(complete.get(sid, "") < csn for sid, csn in position.complete.items())


def by_server(values: tuple[bytes, ...]) -> dict[str, str]:
    """
    The values of contextCSN by the server id inside.

    >>> by_server((b"20260101000000.000000Z#000000#001#000000",))
    {'001': '20260101000000.000000Z#000000#001#000000'}
    """
    found = (value.decode("ascii", "replace") for value in values)
    return {csn.split("#")[2]: csn for csn in found if _CSN.fullmatch(csn)}


def earlier(attribute: str, value: str, seconds: float) -> str:
    """
    A value of the attribute that stands for some seconds before.

    >>> earlier("modifyTimestamp", "20260101000003Z", 5.0)
    '20251231235958Z'
    """
    if not value or attribute == USN_CHANGED:
        return value
    then = datetime.strptime(value[:_SECONDS], "%Y%m%d%H%M%S").replace(tzinfo=UTC) - timedelta(seconds=seconds)
    stamp = then.strftime("%Y%m%d%H%M%S")
    return f"{stamp}.000000Z{_NUMBER_STAYS}" if attribute == ENTRY_CSN else f"{stamp}Z"


def _time_or_count(attribute: str, value: str) -> int | None:
    """A number when the value can be reckoned with."""
    if not value.isascii():
        return None
    if attribute == USN_CHANGED:
        return int(value) if value.isdecimal() else None
    try:
        return int(datetime.strptime(value[:_SECONDS], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
