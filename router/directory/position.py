"""
How far the changes of a directory have been read, and from where they must be asked for next.

Guarantees: pure. Whatever has changed since the position, on this server, is at or above its `bound`. Two things make
a plain "newer than the newest seen" miss changes: changes that get their time first and come into force later (or
within the same second, where seconds are counted), and replicas, which get several changes of their master in any
order. Against the first the bound lies some seconds lower, but not below `settled`. Against the second counts
what the server itself says it has completely (`contextCSN`, one for each master): when that has moved on, the bound is
where it stood before. What is settled is not repeated: it may have been a change of the whole directory at once.

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
_SERIAL = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Position:
    """
    `attribute` tells the changes, `newest` is the greatest value of it that was seen (a count without leading zeros is
    padded), `serial` grows with each answer that told something, `complete` is contextCSN by server id. All
    changes up to `settled` were in force when they were read.
    """

    attribute: str
    newest: str = ""
    serial: int = 0
    complete: Mapping[str, str] = field(default_factory=dict)
    settled: str = ""

    def __str__(self) -> str:
        pairs = ",".join(f"{sid}={csn}" for sid, csn in sorted(self.complete.items()))
        return f"{self.attribute}|{self.newest}|{self.serial}|{pairs}|{self.settled}"


def parse_position(text: str) -> Position | None:
    """What `str` wrote."""
    parts = text.split("|")
    if len(parts) != 5 or parts[0] not in CHANGE_ATTRIBUTES or not _SERIAL.fullmatch(parts[2]):
        return None
    pairs = [pair.partition("=") for pair in parts[3].split(",") if pair]
    values = [value for value in (parts[1], parts[4]) if value]
    if not all(_is_value(parts[0], value) for value in values) or not all(_CSN.fullmatch(csn) for _, _, csn in pairs):
        return None
    return Position(parts[0], parts[1], int(parts[2]), {sid: csn for sid, _, csn in pairs}, parts[4])


def bound(position: Position, complete: Mapping[str, str]) -> str:
    """
    The smallest value of the attribute to ask for (a count padded, as in `newest`); '' asks for everything.

    `complete` is contextCSN now, read before the entries are.
    """
    if position.attribute == USN_CHANGED:
        return position.newest
    # One entry has a CSN, any number the same second.
    above = position.settled if position.attribute == ENTRY_CSN else earlier(position.attribute, position.settled, -1.0)
    lowest = max(earlier(position.attribute, position.newest, OVERLAP), above)
    moved = [csn for sid, csn in position.complete.items() if complete.get(sid, csn) > csn]
    return min([lowest, *moved]) if lowest else ""


def keeps_up(newest: str, complete: Mapping[str, str]) -> bool:
    """Whether contextCSN covers the newest entry. A server may show one that nobody keeps up any more."""
    areas: dict[str, str] = {}
    for key, csn in complete.items():
        area = key.rpartition(".")[0]
        areas[area] = max(csn, areas.get(area, ""))
    return bool(areas) and min(areas.values()) >= newest


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


def _is_value(attribute: str, value: str) -> bool:
    """Whether the value can be reckoned with."""
    if attribute == USN_CHANGED:
        return value.isascii() and value.isdecimal()
    try:
        datetime.strptime(value[:_SECONDS], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return False
    return value.isascii()
