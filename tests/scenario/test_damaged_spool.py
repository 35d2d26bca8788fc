"""A spool whose database is destroyed is set aside with its mail, a new one takes mail, no hold is quiet too soon."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.mother import MOTHER
from support.site import Site, StoreAt

from router.ledger.stores import RecordingStore
from router.spool.numbering import parse_queue_id
from router.spool.schema import PAGE_SIZE
from router.spool.setting_aside import Aside, aside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SETTLE = 1.0


def destroy(database: Path, pages: int = 400) -> None:
    """Overwrite the file from its first page on, as a broken disk or a careless `dd` does."""
    with database.open("r+b") as file:
        file.write(b"\xa5" * PAGE_SIZE * min(pages, max(1, database.stat().st_size // PAGE_SIZE)))


def set_aside(site: Site) -> list[Aside]:
    return list(aside(site.state_dir / "spool"))


async def accepted(site: Site, send: Callable[..., Any], *, patience: float = 120.0) -> None:
    """Mail for carol is taken in, at the latest after so long."""
    end = time.monotonic() + patience
    while True:
        try:
            if not await send(site, "carol@example.edu", tag="afterwards"):
                return
        except OSError:  # smtplib's own errors are such, too
            if time.monotonic() > end:
                raise
        await asyncio.sleep(0.2)


async def test_inv_58_damaged_at_the_start_is_set_aside_and_mail_is_accepted(
    stores: dict[str, RecordingStore], make_site: Callable[..., Site], send: Callable[..., Any], until: Any
) -> None:
    async with make_site() as site:
        await site.hold("alice@example.edu")
        await send(site, "alice@example.edu", tag="kept")
        site.kill()
        destroy(site.state_dir / "spool" / "0001" / "queue.db")
        for suffix in ("-wal", "-shm"):
            (site.state_dir / "spool" / "0001" / f"queue.db{suffix}").unlink(missing_ok=True)
        before = (site.state_dir / "spool" / "0001" / "queue.db").read_bytes()
        began = time.monotonic()
        await asyncio.to_thread(site.start)
        assert not await send(site, "carol@example.edu", tag="afterwards")
        assert time.monotonic() - began < 90
        (found,) = set_aside(site)
        assert (found.number, found.recovered) == (1, False)
        assert (found.directory / "queue.db").read_bytes() == before
        assert not (site.state_dir / "spool" / "0001").exists()
        await stores["new"].arrived(1, timeout=60)
        await until(site.journal, "the outcome's commit")
        assert [parse_queue_id(row.queue_id)[0] for row in site.journal() if row.disposition == "delivered"] == [2]
        assert any(alarm.startswith(f"spool-damaged {found.directory.name}") for alarm in site.office.alarms())
        # Restarted once more, number 1 does not come back.
        site.stop()
        await asyncio.to_thread(site.start)
        assert not (site.state_dir / "spool" / "0001").exists()


async def test_inv_58_damaged_while_running_is_set_aside_and_others_go_on(
    stores: dict[str, RecordingStore], make_site: Callable[..., Site], send: Callable[..., Any], until: Any
) -> None:
    async with make_site() as site:
        await site.hold("alice@example.edu")
        for number in range(3):
            await send(site, "alice@example.edu", tag=f"kept{number}")
        site.stop()
        await asyncio.to_thread(site.start)
        destroy(site.state_dir / "spool" / "0001" / "queue.db")
        await accepted(site, send)
        await until(lambda: len(set_aside(site)) == 1, "a spool set aside")
        await accepted(site, send)
        await stores["new"].arrived(1, timeout=60)
        assert set_aside(site)[0].number == 1


async def test_a_hold_waits_for_what_the_dead_owner_of_a_damaged_spool_may_have_sent(
    tmp_path: Path, stores: dict[str, RecordingStore], places: list[StoreAt]
) -> None:
    for settle in (8.0, 30.0, 60.0):
        if await a_hold_waits(tmp_path / f"{settle:.0f}", places, settle):
            return
    pytest.fail("the machine was too slow to see it")


async def a_hold_waits(directory: Path, places: list[StoreAt], settle: float) -> bool:
    """Whether the machine was in time: there is a hold before what may have been sent has settled."""
    await asyncio.to_thread(directory.mkdir)
    at = [replace(one, keys={"settle": f"{settle:.0f}s"}) for one in places]
    async with Site(directory, at, users={"bob@example.edu": "old"}) as site:
        site.kill()
        destroy(site.state_dir / "spool" / "0001" / "queue.db")
        for suffix in ("-wal", "-shm"):
            (site.state_dir / "spool" / "0001" / f"queue.db{suffix}").unlink(missing_ok=True)
        await asyncio.to_thread(site.start)
        began = set_aside(site)[0].at
        early = await site.hold("bob@example.edu", timeout=1.0)
        if time.time() >= began + settle:
            return False
        assert not early.quiet
        held = await site.hold("bob@example.edu", timeout=settle + 60.0)
        assert held.quiet
        assert time.time() >= began + settle - 1.0
        assert held.in_doubt
    return True


def sluice(site: Site, *words: str) -> tuple[int, Any]:
    """The real command in a process of its own: its exit status, and its document."""
    ended = MOTHER.run(["--config", str(site.config), "--json", *words], 120)
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else ended.stderr.decode()


async def test_mail_of_a_damaged_spool_is_brought_back_once_and_follows_the_state_of_now(
    stores: dict[str, RecordingStore], make_site: Callable[..., Site], send: Callable[..., Any], until: Any
) -> None:
    """Alice is on hold and stays so; bob is moved while his mail lies in the damaged spool; carol has hers already."""
    async with make_site() as site:
        await site.hold("alice@example.edu")
        await site.hold("bob@example.edu")
        await send(site, "alice@example.edu", "bob@example.edu", "carol@example.edu", tag="kept")
        await stores["new"].arrived(1, timeout=60)
        await until(lambda: [row for row in site.journal() if row.disposition == "delivered"], "the outcome's commit")
        site.kill()
        destroy(site.state_dir / "spool" / "0001" / "queue.db", pages=1)
        await asyncio.to_thread(site.start)
        (found,) = set_aside(site)
        code, document = await asyncio.to_thread(sluice, site, "status")
        assert (code, document["sound"]) == (1, False)
        assert [(one["number"], one["recovered"]) for one in document["set_aside"]] == [(1, False)]
        await site.release("bob@example.edu", to="new")
        code, document = await asyncio.to_thread(sluice, site, "queue", "recover", str(found.directory))
        assert (code, document["recipients"], document["closed"], document["spool"]) == (0, 2, 1, 3), document
        await stores["new"].arrived(2, timeout=60)
        code, document = await asyncio.to_thread(sluice, site, "queue", "recover", str(found.directory))
        assert (code, document["before"], document["spool"]) == (0, True, 3)
        await asyncio.sleep(3)
        assert [len(stores[name].arrivals) for name in ("old", "new")] == [0, 2]
        with site.books() as books:
            assert [(one.recipient, one.state) for one in books.queue()] == [("alice@example.edu", "held")]
        assert not [alarm for alarm in site.office.alarms() if alarm.startswith("spool-damaged")]
        await site.release("alice@example.edu", to="new")
        await stores["new"].arrived(3, timeout=60)
        assert await site.drained() == 0
        site.balance()
        code, document = await asyncio.to_thread(sluice, site, "status")
        assert [one["recovered"] for one in document["set_aside"]] == [True]
