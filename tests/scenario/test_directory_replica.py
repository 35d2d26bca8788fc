"""
The relay reads a replica that lags behind the master that it writes to: what a command did is in force when it returns,
and nothing that the replica still says opens, ends or sends anything. The replica catches up when a test says so.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.directory_site import directory_site, followed
from support.gate import Gate
from support.hands import Traffic, alarms, exactly_once, hold_of, nobody_was_told, none_after, record, sluice, tags
from support.people_ldif import NEW_HOST, OLD_HOST, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Follows, Slapd

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Until = Callable[..., Awaitable[None]]
ANN, BOB = "ann@example.edu", "bob@example.edu"


@pytest.fixture
def master() -> Iterator[Slapd]:
    with Slapd([sun_domain("example.edu"), sun_person("ann"), sun_person("bob")]) as one:
        yield one


@pytest.fixture
def gate(master: Slapd) -> Iterator[Gate]:
    with Gate(master.port) as one:
        yield one


@pytest.fixture
def replica(master: Slapd, gate: Gate) -> Iterator[Slapd]:
    with Slapd(follows=Follows(master, through=gate.port)) as one:
        end = time.monotonic() + 60
        while not one.entry(sun_dn("bob")):
            assert time.monotonic() < end
            time.sleep(0.05)
        gate.shut()
        yield one


@asynccontextmanager
async def catching_up(gate: Gate) -> AsyncIterator[None]:
    """While the block runs the replica is told of everything."""
    gate.open()
    try:
        yield
    finally:
        gate.shut()


@pytest.fixture
async def site(tmp_path: Path, stores: dict[str, RecordingStore], master: Slapd, replica: Slapd) -> Site:
    at = [StoreAt(name, store.port, role="new" if name == "new" else "old") for name, store in stores.items()]
    return directory_site(tmp_path, at, replica, ldap={"write_uri": master.uri}, workers=2)


def says(server: Slapd, name: str) -> tuple[str, str]:
    found = server.entry(sun_dn(name))
    return found["mailUserStatus"][0], found["mailHost"][0]


async def test_hold_and_release_ahead_of_the_replica(
    site: Site, stores: dict[str, RecordingStore], master: Slapd, replica: Slapd, gate: Gate, until: Until
) -> None:
    old, new = stores["old"], stores["new"]
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        async with Traffic(site, ANN, BOB) as traffic:
            await traffic.some()
            master.modify(replace(sun_dn("ann"), description="a change"))
            async with catching_up(gate):
                await until(lambda: "description" in replica.entry(sun_dn("ann")), "the replica is refreshed")
            held = [await site.hold(ANN), await site.hold(BOB)]
            assert [(one.quiet, one.unwritten) for one in held] == [(True, "")] * 2
            quiet = time.monotonic()
            assert says(master, "ann") == ("hold", OLD_HOST)
            await traffic.some()
            released = await sluice(site, "release", ANN, "--to", "new", "--reason", "test")
            assert released.code == 0, released
            assert (hold_of(site, ANN), record(site, ANN).mailbox.home) == ("", "new")
            await until(lambda: tags(new, ANN), "the mail is at the new home")
            assert says(replica, "ann") == ("active", OLD_HOST)
            # A restart forgets nothing of it.
            await traffic.end()
            await asyncio.to_thread(site.stop)
            await asyncio.to_thread(site.start)
        async with Traffic(site, ANN, BOB, prefix="u") as more:
            both = [("hold", OLD_HOST), ("active", NEW_HOST)]
            async with catching_up(gate):
                await until(lambda: [says(replica, one) for one in ("bob", "ann")] == both, "the replica says hold")
            assert hold_of(site, BOB) == "quiet command"
            assert says(replica, "ann") == ("active", NEW_HOST)
            await more.some()
            none_after(old, ANN, quiet)
            none_after(old, BOB, quiet)
            assert tags(new, BOB) == []
            moved = await sluice(site, "move", BOB, "--to", "new", "--reason", "test")
            assert moved.code == 0, moved
            assert says(replica, "bob") == ("hold", OLD_HOST)
            end = time.monotonic() + 3
            while time.monotonic() < end:  # it says hold and the old home, and neither counts
                assert (hold_of(site, BOB), record(site, BOB).mailbox.home) == ("", "new")
                await asyncio.sleep(0.1)
            await more.some()
            assert tags(new, BOB)
            async with catching_up(gate):
                await until(lambda: says(replica, "bob") == ("active", NEW_HOST), "the replica has it, too")
            await asyncio.sleep(0.5)
            assert (hold_of(site, BOB), record(site, BOB).mailbox.home) == ("", "new")
        assert await site.drained() == 0
        for address in (ANN, BOB):
            none_after(old, address, quiet)
            exactly_once([*traffic.sent, *more.sent], address, stores.values())
        assert alarms(site, "directory-drift") == []
        nobody_was_told(site, stores.values())
        site.balance()


async def test_moved_and_moved_back_while_the_replica_shows_the_first_move(
    site: Site, stores: dict[str, RecordingStore], master: Slapd, replica: Slapd, gate: Gate, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        assert (await sluice(site, "move", ANN, "--to", "new", "--reason", "test")).code == 0
        async with catching_up(gate):
            await until(lambda: says(replica, "ann") == ("active", NEW_HOST), "the replica has the move")
        async with Traffic(site, ANN) as traffic:
            await traffic.some()
            moved = (await site.move(ANN, "old")).release
            assert moved is not None
            assert (moved.applied, moved.home) == (True, "old")
            back = time.monotonic()
            await traffic.some(20)
            assert says(replica, "ann") == ("active", NEW_HOST)
            none_after(stores["new"], ANN, back)
            # What somebody else writes at the master afterwards counts, as soon as the replica has it.
            gate.open()
            master.modify(replace(sun_dn("ann"), mailUserStatus="hold"))
            await until(lambda: hold_of(site, ANN) == "quiet directory", "somebody else's hold has come through")
            master.modify(replace(sun_dn("ann"), mailUserStatus="active", mailHost=NEW_HOST))
            await traffic.some()
            waiting = set(tags(stores["old"], ANN))
            await until(lambda: hold_of(site, ANN) == "", "and its end")
        assert await site.drained() == 0
        assert set(tags(stores["old"], ANN)) == waiting
        exactly_once(traffic.sent, ANN, stores.values())
        assert says(master, "ann") == says(replica, "ann") == ("active", NEW_HOST)


async def test_a_release_does_not_go_by_a_home_that_the_replica_still_shows(
    site: Site, stores: dict[str, RecordingStore], master: Slapd, replica: Slapd, gate: Gate, until: Until
) -> None:
    """Without --to the home is the directory's, which provisioning has changed at the master meanwhile."""
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        assert (await site.hold(ANN)).quiet
        async with catching_up(gate):
            await until(lambda: says(replica, "ann") == ("hold", OLD_HOST), "the replica is refreshed")
        async with Traffic(site, ANN) as traffic:
            master.modify(replace(sun_dn("ann"), mailHost=NEW_HOST))
            early = await site.release(ANN)
            assert says(replica, "ann") == ("hold", OLD_HOST)
            assert (early.released, early.temporary) == (False, True), early
            assert NEW_HOST in early.error
            assert hold_of(site, ANN) == "quiet command"
            await traffic.some()
            assert tags(stores["old"], ANN) == tags(stores["new"], ANN) == []
            gate.open()
            await until(lambda: says(replica, "ann") == ("hold", NEW_HOST), "the replica has it")
            released = await site.release(ANN)
            assert (released.released, released.home) == (True, "new")
            await traffic.some()
        assert await site.drained() == 0
        exactly_once(traffic.sent, ANN, [stores["new"]])
        assert says(master, "ann") == ("active", NEW_HOST)
