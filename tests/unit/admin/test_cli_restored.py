"""
Nothing is changed in a control database that the spools do not know: with each command its epoch would rise, until
nobody could tell any more that it is an old copy (promise 8).
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.control.changes import current_epoch
from router.control.database import ControlDatabase, site_uuid
from router.control.spools import Standing, check_spool
from router.spool.options import SpoolOptions
from router.spool.spool import Spool

Run = Callable[..., Any]

CHANGES = [
    ("hold", "ann@example.edu", "--reason", "move"),
    ("release", "ann@example.edu", "--reason", "move"),
    ("move", "ann@example.edu", "--to", "zimbra", "--reason", "move"),
    ("store", "pause", "cliff", "--reason", "maintenance"),
]


def knowing(state: Path, uuid: str, epoch: int) -> None:
    """A spool that has followed a control database up to `epoch`."""

    async def make() -> None:
        options = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0)
        spool = await Spool.open(state / "spool" / "0001", 1, create=True, options=options)
        await spool.remember(uuid, epoch)
        await spool.close()

    (state / "spool").mkdir(mode=0o700, exist_ok=True)
    asyncio.run(make())


@pytest.mark.parametrize("command", CHANGES)
@pytest.mark.parametrize("other", [False, True])
def test_no_change_before_it_is_accepted(
    sluice: Run, state: Path, database: ControlDatabase, command: tuple[str, ...], other: bool
) -> None:
    uuid = database.run_read(site_uuid)
    knowing(state, "another" if other else uuid, 500)
    before = database.run_read(current_epoch)
    found = sluice(*command)
    assert found.status == 65
    assert "--accept-restored" in found.err
    assert database.run_read(current_epoch) == before


def test_mailboxes_can_be_corrected_before_and_it_stays_an_old_copy(
    sluice: Run, state: Path, database: ControlDatabase
) -> None:
    uuid = database.run_read(site_uuid)
    epoch = database.run_read(current_epoch) + 1
    knowing(state, uuid, epoch)
    for home in ("zimbra", "cliff", "zimbra"):
        found = sluice("user", "set", "ann@example.edu", "--home", home, "--reason", "moved since the backup")
        assert found.status == 0
    check = partial(check_spool, uuid=uuid, highest_epoch=epoch)
    assert database.run_read(current_epoch) > epoch
    assert database.run_read(check) is Standing.OLDER
    assert sluice("hold", "ann@example.edu", "--reason", "move").status == 65
    assert sluice("check", "--accept-restored", "--reason", "corrected").status == 0
    assert database.run_read(partial(check_spool, uuid=uuid, highest_epoch=epoch)) is Standing.OK


def test_after_acceptance_changes_go_on(sluice: Run, state: Path, database: ControlDatabase) -> None:
    knowing(state, database.run_read(site_uuid), 500)
    assert sluice("check", "--accept-restored", "--reason", "looked through").status == 0
    assert sluice("hold", "ann@example.edu", "--reason", "move", "--timeout", "60s").status == 0
