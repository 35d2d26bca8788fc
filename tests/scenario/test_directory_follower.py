"""The process that follows the directories is killed, stopped, reloaded, and outlives nobody."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.directory_site import QUICK, answer, directory_site, followed, source_of, states
from support.directory_traffic import Traffic
from support.people_ldif import NEW_HOST, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.control import mailboxes
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Until = Callable[..., Awaitable[None]]
Stores = dict[str, RecordingStore]
ANN, BOB = "ann@example.edu", "bob@example.edu"
GROUPS = {"known": (ANN, BOB), "unknown": ("nobody-{}@example.edu",)}
OLD, AGAIN = "waits: it was last followed", "goes on: it is followed again"


@pytest.fixture
def server() -> Iterator[Slapd]:
    with Slapd([sun_domain("example.edu"), sun_person("ann"), sun_person("bob", NEW_HOST)]) as one:
        yield one


def make(tmp_path: Path, stores: Stores, server: Slapd, **ldap: str) -> Site:
    roles = {"old": "old", "new": "new", "lists": "other"}
    at = [StoreAt(name, store.port, role=roles[name]) for name, store in stores.items()]
    return directory_site(tmp_path, at, server, ldap=ldap, settings={"log": {"level": "info"}})


def follower(site: Site) -> int:
    """The pid of the process that follows the directories; 0: there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = process.joinpath("comm").read_text().strip()
            if name == "sluice-follower" and parent(parent(int(process.name))) == site.relay.pid:
                return int(process.name)
        except OSError:
            continue
    return 0


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def home(site: Site, key: str) -> str:
    found = site.office.database.run_read(lambda c: mailboxes.find(c, [key]))
    return found.mailboxes[key].home if key in found.mailboxes else ""


def called_old(site: Site) -> bool:
    """Whether the worker's last word is that mail waits."""
    said = site.relay.log.read_text()
    return said.rfind(OLD) > said.rfind(AGAIN)


async def calm(traffic: Traffic, until: Until) -> float:
    """From when on known people are accepted and unknown addresses refused."""
    await until(lambda: "550 5.1.1" in traffic.codes("unknown"), "unknown addresses are refused")
    await until(lambda: "250 2.1.5" in traffic.codes("known"), "known people are accepted")
    return traffic.mark()


async def finish(site: Site, stores: Stores, traffic: Traffic) -> None:
    await asyncio.to_thread(traffic.stop)
    assert await site.drained() == 0
    traffic.exactly_once(stores.values())
    site.balance()


async def test_a_follower_that_is_killed_comes_back(
    tmp_path: Path, stores: Stores, server: Slapd, until: Until
) -> None:
    site = make(tmp_path, stores, server)
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        with Traffic(site, GROUPS) as traffic:
            began = await calm(traffic, until)
            former = follower(site)
            os.kill(former, signal.SIGKILL)
            await until(lambda: follower(site) not in {0, former}, "another process follows")
            server.modify(replace(sun_dn("ann"), mailHost=NEW_HOST))
            await until(lambda: home(site, ANN) == "new", "the change is seen")
            assert set(traffic.codes("known", began)) == {"250 2.1.5"}
            assert set(traffic.codes("unknown", began)) == {"550 5.1.1"}, "the directory itself answers"
            await finish(site, stores, traffic)


async def test_a_follower_that_stands_still_makes_mail_wait_and_goes_on(
    tmp_path: Path, stores: Stores, server: Slapd, until: Until
) -> None:
    site = make(tmp_path, stores, server, stale_delivery="2s", stale="4s")
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        with Traffic(site, GROUPS) as traffic:
            began = await calm(traffic, until)
            pid = follower(site)
            os.kill(pid, signal.SIGSTOP)
            await until(lambda: called_old(site), "mail waits")
            # The first may have been accepted before; what comes after it finds mail waiting.
            first, stopped = len(traffic.accepted), traffic.mark()
            await asyncio.sleep(0.5)
            await until(lambda: "451 4.4.3" in traffic.codes("known", max(began, stopped)), "known people are put off")
            waiting = [tag for tag, who in traffic.accepted[first:] if who == ANN]
            assert not set(waiting[1:]) & {one.tag for one in stores["old"].arrivals}
            os.kill(pid, signal.SIGCONT)
            back = traffic.mark()
            await until(lambda: not called_old(site), "it is followed again")
            await until(lambda: "250 2.1.5" in traffic.codes("known", back), "known people are accepted again")
            await finish(site, stores, traffic)


async def test_a_follower_ends_with_its_supervisor(tmp_path: Path, stores: Stores, server: Slapd, until: Until) -> None:
    site = make(tmp_path, stores, server)
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        pid = follower(site)
        os.kill(site.relay.pid, signal.SIGKILL)
        await until(lambda: not alive(pid), "it ends")
        site.kill()


async def test_a_follower_that_stands_still_keeps_no_stop_from_ending(
    tmp_path: Path, stores: Stores, server: Slapd, until: Until
) -> None:
    site = make(tmp_path, stores, server)
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        os.kill(follower(site), signal.SIGSTOP)
        assert await asyncio.to_thread(site.stop) == 0


async def test_a_reload_while_the_directory_is_down_and_the_control_database_is_busy(
    tmp_path: Path, stores: Stores, server: Slapd, until: Until
) -> None:
    site = make(tmp_path, stores, server, **QUICK)
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        with Traffic(site, GROUPS) as traffic:
            began = await calm(traffic, until)
            server.stall()
            await until(lambda: states(site)[0].fault, "the outage is told")
            told = traffic.mark()
            former = follower(site)
            more = source_of(server, QUICK | {"follow": "200ms"})
            await asyncio.to_thread(site.reload, {"directory": ["database", {"ldap": more}]})
            await until(lambda: follower(site) not in {0, former}, "another process follows")
            await asyncio.to_thread(_lock, site, 3.0)
            server.wake()
            back = traffic.mark()
            await until(lambda: "550 5.1.1" in traffic.codes("unknown", back), "unknown is said again")
            await until(lambda: followed(site), "the directory is followed again")
            assert set(traffic.codes("known", began)) == {"250 2.1.5"}
            assert set(traffic.codes("unknown", told, back)) == {"451 4.4.3"}
            server.modify(replace(sun_dn("ann"), mailHost=NEW_HOST))
            await until(lambda: home(site, ANN) == "new", "changes are seen again")
            await finish(site, stores, traffic)


def _lock(site: Site, seconds: float) -> None:
    """Nobody else can write into the control database for a while."""
    with sqlite3.connect(site.state_dir / "control.db", isolation_level=None, timeout=60) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        database.execute("ROLLBACK")
    database.close()


async def test_somebody_renamed_whom_a_message_finds_before_the_follower_does(
    tmp_path: Path, stores: Stores, server: Slapd, until: Until
) -> None:
    """The entry is there twice in the mirror then, and nothing that is new to the follower tells it so."""
    site = make(tmp_path, stores, server)
    async with site:
        await until(lambda: answer(site, ANN).startswith("250"), "ann is known")
        pid = follower(site)
        os.kill(pid, signal.SIGSTOP)
        renamed = f"dn: {sun_dn('ann')}\nchangetype: modrdn\nnewrdn: uid=anna\ndeleteoldrdn: 1\n\n"
        server.modify(renamed + replace(sun_dn("anna"), mailAlternateAddress="anna@example.edu"))
        assert (await asyncio.to_thread(answer, site, "anna@example.edu"))[:3] in {"250", "451"}
        os.kill(pid, signal.SIGCONT)
        for address in ("anna@example.edu", ANN):
            await until(lambda to=address: answer(site, to).startswith("250"), "the mailbox is one again")
