"""Reload, fewer workers than spools, and a control database restored from a copy: with the real relay."""

import asyncio
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.site import Site

from router.control import alarms
from router.control.spools import accept_restored
from router.ledger.behaviour import Behaviour, Stage
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]
Send = Callable[..., Any]


async def alarmed(site: Site, kind: str) -> None:
    """Wait until an alarm of this kind is open."""
    found: set[str] = set()
    end = asyncio.get_running_loop().time() + 90
    while kind not in found:
        assert asyncio.get_running_loop().time() < end, f"no alarm but {found}"
        await asyncio.sleep(0.05)
        rows = await asyncio.to_thread(site.office.database.run_read, alarms.open_alarms)
        found = {one.kind for one in rows}


async def in_force(site: Site) -> None:
    """Wait until every worker runs the configuration as it is in the file now."""
    wanted = site.settings.fingerprint
    await asyncio.to_thread(
        site.office.wait_for_members,
        lambda found: bool(found) and {one.fingerprint for one in found} == {wanted},
        90.0,
    )


async def test_reload_follows_the_file_and_a_bad_one_leaves_the_former_in_force(
    stores: Stores, make_site: MakeSite, send: Send
) -> None:
    async with make_site(workers=2, fresh=True) as site:
        await send(site, "alice@example.edu", tag="before")
        await stores["old"].arrived(1, timeout=60)

        site.reload({"stores": {"old": {"hosts": [f"127.0.0.1:{stores['lists'].port}"]}}})
        await in_force(site)
        await send(site, "alice@example.edu", tag="moved-host")
        await stores["lists"].arrived(1, timeout=60)
        assert len(stores["old"].arrivals) == 1

        good = site.config.read_text()
        site.config.write_text(good.replace('"old"', '"odl"'))
        site.reload()
        await alarmed(site, "configuration")
        await send(site, "alice@example.edu", tag="former")
        await stores["lists"].arrived(2, timeout=60)
        site.config.write_text(good)
        assert await site.drained() == 0
        site.balance()


async def test_spool_without_a_worker_is_drained_when_there_are_fewer(
    tmp_path: Path, stores: Stores, make_site: MakeSite, send: Send
) -> None:
    async with make_site(workers=2, fresh=True) as site:
        for store in stores.values():
            store.behaviour = Behaviour(replies={Stage.CONNECT: "421 4.3.2 not now"})
        number = 0
        async with asyncio.timeout(120):
            while not await asyncio.to_thread(mail_in_each_spool, site):
                number += 1
                await send(site, "alice@example.edu", "carol@example.edu", tag=f"m{number}")
        assert await asyncio.to_thread(site.stop) == 0
        site._layout["workers"] = 1
        site._write()
        for store in stores.values():
            store.behaviour = Behaviour()
        await asyncio.to_thread(site.start)
        assert await site.drained() == 0
        assert len(stores["old"].arrivals) == len(stores["new"].arrivals) == number
        await asyncio.to_thread(site.office.wait_for_members, lambda found: len(found) == 1, 90.0)
        site.balance()


def mail_in_each_spool(site: Site) -> bool:
    with site.books() as books:
        counts = books.counts()
    return len(counts) == 2 and all(one.mail.queued for one in counts)


async def test_restored_database_delivers_nothing_until_it_is_accepted(
    tmp_path: Path, stores: Stores, make_site: MakeSite, send: Send
) -> None:
    async with make_site() as site:
        await asyncio.to_thread(site.stop)
        copy = tmp_path / "copy.db"
        shutil.copy(site.state_dir / "control.db", copy)
        await asyncio.to_thread(site.start)
        moved = await site.move("alice@example.edu", "new")
        assert moved.release is not None
        assert moved.release.applied
        await send(site, "alice@example.edu", tag="moved")
        await stores["new"].arrived(1, timeout=60)
        await asyncio.to_thread(site.stop)
        # Whoever restores a database has nothing open on the former one.
        site.office.close()
        site._office = None
        shutil.copy(copy, site.state_dir / "control.db")
        await asyncio.to_thread(site.start)
        await alarmed(site, "restored")
        assert await send(site, "alice@example.edu", "bob@example.edu", tag="doubtful") == {}
        # Longer than several retries: by yesterday's state alice's mail would go to her old store.
        await asyncio.sleep(3)
        assert (len(stores["old"].arrivals), len(stores["new"].arrivals)) == (0, 1)
        with site.books() as books:
            assert {(entry.recipient, entry.state) for entry in books.queue()} == {
                ("alice@example.edu", "queued"),
                ("bob@example.edu", "queued"),
            }

        accept = partial(accept_restored, highest_epoch=1000, act=site.office.act("accepted by hand"))
        await asyncio.to_thread(site.office.database.run_write, accept)
        assert await site.drained(60) == 0
        # The copy is now the truth, and alice lived at old when it was made.
        assert sorted(name for one in stores["old"].arrivals for name, _ in one.recipients) == [
            "alice@example.edu",
            "bob@example.edu",
        ]
        site.balance()
