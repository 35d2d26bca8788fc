"""The settings of a spool, in octets and seconds."""

from dataclasses import dataclass, field

from router.ports import Room
from router.spool.upkeep import Pace


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """
    Settings of a spool. Sizes in octets, times in seconds.

    `room` says which descriptors the files of arriving messages may have.
    `keep`: how long a message stays after reception even if all its recipients are closed (0: not kept).
    """

    inline_limit: int = 64 * 1024
    minimum_free: int = 256 * 1024 * 1024
    minimum_inodes: int = 10_000
    reserve: int = 8 * 1024 * 1024
    keep: float = 0.0
    room: Room | None = None
    pace: Pace = field(default_factory=Pace)
