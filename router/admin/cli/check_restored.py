"""
`sluice check --accept-restored`: an operator takes a restored or new control database as the truth.

Guarantees: its epoch rises above every epoch that any spool remembers, and every spool must be readable for that, so
that none is left behind. Spools that a worker owns learn of it from that worker; the others are opened as their owner
and told here. Repeating it does no harm.

On failure: `CommandFailed`; when a spool cannot be read, nothing was changed.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from router.admin.cli.context import Context, acting_as_owner
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.hold_operations import operations
from router.control.database import site_uuid
from router.control.members import Member
from router.control.spools import accept_restored
from router.errors import SluiceError
from router.spool.lock import SpoolLocked
from router.spool.offline import as_owner, view


@dataclass(frozen=True, slots=True)
class Accepted:
    """`told` are the spools that were told here, `owned` those whose workers are to; `lagging` have not yet."""

    epoch: int
    told: tuple[int, ...]
    owned: tuple[int, ...]
    lagging: tuple[Member, ...]


def accept(context: Context, reason: str, timeout: float) -> Accepted:
    """Accept the database and tell every spool. Raises `CommandFailed`, `ControlUnavailable`."""
    places = context.spools()
    highest = max((_remembered(place) for place in places), default=0)
    database = context.database()
    act = context.act(reason, restored=True)
    epoch = database.run_write(partial(accept_restored, highest_epoch=highest, act=act))
    uuid = database.run_read(site_uuid)
    told: list[int] = []
    owned: list[int] = []
    for place in places:
        number = int(place.name)
        (told if _tell(place, number, uuid, epoch) else owned).append(number)
    lagging = operations(context).wait_applied(epoch, timeout)
    return Accepted(epoch, tuple(told), tuple(owned), lagging)


def _remembered(place: Path) -> int:
    try:
        with view(place) as spool:
            return spool.remembered()[1]
    except SluiceError as error:
        remedy = "mend or move the spool away first: the new epoch must lie above what it remembers"
        raise CommandFailed(Exit.IO_ERROR, f"{place}: cannot be read: {error.private}", remedy) from error


def _tell(place: Path, number: int, uuid: str, epoch: int) -> bool:
    """False when a worker owns the spool."""

    async def remember() -> None:
        async with as_owner(place, number) as spool:
            await spool.remember(uuid, epoch, force=True)

    try:
        with acting_as_owner(place):
            asyncio.run(remember())
    except SpoolLocked:
        return False
    return True
