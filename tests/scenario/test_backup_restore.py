"""
Yesterday's routing state is never used by mistake (promise 8): a control database that was restored, swapped or lost.

The relay takes mail and keeps it, refuses nobody for good, delivers nothing and says so, until an operator has
accepted what it found. Backups are taken with the real command, under load.
"""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bursts import acknowledged
from support.mother import MOTHER
from support.site import Site

from router.control.alarms import open_alarms
from router.control.database import ControlDatabase
from router.demo.relay import RelayFailed
from router.ledger.book import Ledger
from router.ledger.load import Load
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]
Send = Callable[..., Any]
ALICE, BOB, DAVE = "alice@example.edu", "bob@example.edu", "dave@example.edu"


async def sluice(site: Site, *words: str, expect: int = 0) -> dict[str, Any]:
    """The real command; its JSON answer."""
    done = await asyncio.to_thread(MOTHER.run, ["--config", str(site.config), "--json", *words], 120)
    assert done.returncode == expect, (words, done)
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
    return answer


def seen(store: RecordingStore) -> list[str]:
    return sorted(name for arrival in store.arrivals for name, _ in arrival.recipients)


def forget(site: Site) -> None:
    """The office has the database open; what comes next puts another file in its place."""
    if site._office is not None:
        site._office.close()
        site._office = None


def put_in_place(site: Site, database: Path) -> None:
    forget(site)
    shutil.copy(database, site.state_dir / "restored.tmp")
    (site.state_dir / "restored.tmp").rename(site.state_dir / "control.db")


def restored_alarms(site: Site) -> list[str]:
    found = site.office.database.run_read(open_alarms)
    return [alarm.kind for alarm in found if alarm.kind == "restored"]


async def nothing_is_delivered_until_it_is_accepted(site: Site, stores: Stores, send: Send, until: Any) -> None:
    before = {name: len(store.arrivals) for name, store in stores.items()}
    # Known by what was restored: taken. Unknown to it: perhaps only created since.
    refused = await send(site, ALICE, "nobody@example.edu", tag="doubtful")
    assert refused.keys() == {"nobody@example.edu"}
    assert refused["nobody@example.edu"].startswith("451")
    await until(lambda: restored_alarms(site), "the alarm is raised")
    await asyncio.sleep(1.5)  # several times what a delivery takes
    assert {name: len(store.arrivals) for name, store in stores.items()} == before
    status = await sluice(site, "status", expect=1)
    assert status["queue"]["queued"] >= 1

    await sluice(site, "check", "--accept-restored", "--reason", "restored after a disk was lost")
    await until(lambda: not restored_alarms(site), "the alarm is cleared")
    refused = await send(site, "nobody@example.edu", ALICE, tag="again")
    assert refused["nobody@example.edu"].startswith("550")
    assert await site.drained() == 0
    site.balance()


async def test_backup_under_load_restored_later_is_noticed_and_must_be_accepted(
    stores: Stores, make_site: MakeSite, send: Send, until: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "backup.db"
    async with make_site() as site:
        load = Load("127.0.0.1", site.port, Plan(["sender@outside.example"], [ALICE, BOB], rate=30, connections=2))
        flowing = asyncio.create_task(load.run())
        await stores["old"].arrived(5, timeout=60)
        await sluice(site, "backup", str(copy))
        load.stop()
        await flowing
        assert await site.drained() == 0
        assert copy.stat().st_mode & 0o777 == 0o600
        ControlDatabase.open(f"sqlite:///{copy}").close()

        moved = await site.move(ALICE, "new")
        assert moved.release is not None
        assert moved.release.applied
        await asyncio.to_thread(site.stop)
        put_in_place(site, copy)
        await asyncio.to_thread(site.start)
        await nothing_is_delivered_until_it_is_accepted(site, stores, send, until)
        # What the copy says is the truth now: in it she had not moved. The audit says who decided that.
        assert stores["new"].arrivals == []
        assert seen(stores["old"]).count(ALICE) >= 2
        audit = await sluice(site, "audit")
        assert "accept restored" in json.dumps(audit)


async def test_foreign_database_is_noticed_and_must_be_accepted(
    stores: Stores, make_site: MakeSite, send: Send, until: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    ControlDatabase.open(f"sqlite:///{other}", create=True).close()
    async with make_site() as site:
        await send(site, ALICE, tag="first")
        await stores["old"].arrived(1, timeout=60)
        await asyncio.to_thread(site.stop)
        put_in_place(site, other)
        await asyncio.to_thread(site.import_users, {ALICE: "new", DAVE: "new"})
        await asyncio.to_thread(site.start)
        await nothing_is_delivered_until_it_is_accepted(site, stores, send, until)
        assert seen(stores["new"]) == [ALICE, ALICE]
        # From now on it is the spool's own: a restart asks nothing any more.
        await asyncio.to_thread(site.stop)
        await asyncio.to_thread(site.start)
        await send(site, DAVE, tag="last")
        await stores["new"].arrived(3, timeout=60)
        assert restored_alarms(site) == []


async def test_mail_that_waited_in_the_spool_waits_for_the_acceptance(
    stores: Stores, make_site: MakeSite, send: Send, until: Any, tmp_path: Path
) -> None:
    """Held and deferred mail of before: neither a restart nor a retry sends any of it by the restored state."""
    copy = tmp_path / "backup.db"
    async with make_site() as site:
        await sluice(site, "backup", str(copy))
        assert (await site.hold(ALICE)).quiet
        await send(site, ALICE, tag="held")
        await asyncio.to_thread(site.stop)
        put_in_place(site, copy)  # in it she is not on hold
        await asyncio.to_thread(site.start)
        await nothing_is_delivered_until_it_is_accepted(site, stores, send, until)
        assert seen(stores["old"]) == [ALICE, ALICE, ALICE]


async def test_lost_database_is_not_replaced_by_an_empty_one(stores: Stores, make_site: MakeSite, send: Send) -> None:
    async with make_site() as site:
        await send(site, ALICE, tag="first")
        await stores["old"].arrived(1, timeout=60)
        await asyncio.to_thread(site.stop)
        forget(site)
        kept = site.state_dir / "kept.db"
        (site.state_dir / "control.db").rename(kept)
        with pytest.raises(RelayFailed, match="no control database") as failed:
            await asyncio.to_thread(site.start)
        assert "ended with 78" in str(failed.value)
        assert "Traceback" not in str(failed.value)
        assert not (site.state_dir / "control.db").exists()
        # Nor by one that somebody has made empty.
        (site.state_dir / "control.db").touch(mode=0o600)
        with pytest.raises(RelayFailed, match="has schema none"):
            await asyncio.to_thread(site.start)
        kept.rename(site.state_dir / "control.db")
        await asyncio.to_thread(site.start)
        await send(site, ALICE, tag="second")
        await stores["old"].arrived(2, timeout=60)


@pytest.mark.parametrize("how", ["emptied", "taken away", "overwritten"])
async def test_a_database_lost_under_load_refuses_nobody_and_loses_nothing(
    stores: Stores, make_site: MakeSite, until: Any, tmp_path: Path, how: str
) -> None:
    """Somebody destroys it while mail comes in; an hour later the backup is put in its place."""
    backup, control = tmp_path / "backup.db", tmp_path / "state" / "control.db"
    async with make_site(workers=2) as site:
        await sluice(site, "backup", str(backup))
        forget(site)
        plan = Plan(["a@outside.example"], [ALICE, BOB, "carol@example.edu"], (1, 2), (800, 5_000), connections=3)
        load = Load("127.0.0.1", site.port, plan, timeout=20)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(1.0)
        await until(lambda: acknowledged(load.submissions) > 20, "enough mail was taken")
        destroy(control, how)
        await asyncio.sleep(4.0)
        load.stop()
        said = await running
        assert {code // 100 for one in said for code in one.codes} <= {0, 2, 4}, "nobody is refused for good"
        site.kill()
        for rest in ("-wal", "-shm"):
            control.with_name(control.name + rest).unlink(missing_ok=True)
        put_in_place(site, backup)
        await asyncio.to_thread(site.start)
        await until(lambda: restored_alarms(site) or not undelivered(site), "it is noticed, if it has to be")
        if await asyncio.to_thread(restored_alarms, site):
            await sluice(site, "check", "--accept-restored", "--reason", "the disk was lost")
        assert await site.drained(60) == 0
        ledger = Ledger()
        ledger.crash(0.0, time.monotonic(), "the relay was killed")
        ledger.submitted(said)
        for store in stores.values():
            ledger.arrived(store.arrivals)
        site.tell(ledger)
        verdict = ledger.check()
        assert verdict.ok, verdict.report()
        assert acknowledged(said) > 20
        site.balance()


def undelivered(site: Site) -> int:
    with site.books() as books:
        return books.undelivered()


def destroy(control: Path, how: str) -> None:
    if how == "emptied":
        os.truncate(control, 0)
    elif how == "taken away":
        control.unlink()
    else:
        control.write_bytes(b"\0" * control.stat().st_size)
