"""
Provisioning goes on while mailboxes are on hold: what it writes meanwhile is drift and not acted on, until the command
that ends the hold. And without a hold: addresses that move, entries renamed, one address on two entries.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.directory_site import answer, directory_site, followed, states, submit
from support.hands import (
    Sent,
    Traffic,
    alarms,
    exactly_once,
    hold_of,
    nobody_was_told,
    none_begun_after,
    read_again,
    record,
    sluice,
    tags,
)
from support.people_ldif import NEW_HOST, OLD_HOST, delete, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Until = Callable[..., Awaitable[None]]
ANN, ANNA, BOB = "ann@example.edu", "anna@example.edu", "bob@example.edu"
SWEEP = 0.5
DRIFT, DISPUTE, PROBLEM = "directory-drift", "directory-dispute", "directory-problem"


@pytest.fixture
def server() -> Iterator[Slapd]:
    people = [sun_person("ann", mailAlternateAddress=ANNA), sun_person("bob", NEW_HOST)]
    with Slapd([sun_domain("example.edu"), *people]) as one:
        yield one


@pytest.fixture
async def site(tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd) -> Site:
    at = [StoreAt(name, store.port, role="new" if name == "new" else "old") for name, store in stores.items()]
    return directory_site(tmp_path, at, server, ldap={"sweep": f"{SWEEP}s", "max_loss": 1})


def renamed(name: str, to: str) -> str:
    return f"dn: {sun_dn(name)}\nchangetype: modrdn\nnewrdn: uid={to}\ndeleteoldrdn: 1\n\n"


async def send(site: Site, address: str, tag: str) -> Sent:
    await asyncio.to_thread(submit, site, address, tag=tag)
    return Sent(tag, (address,), 0.0)


async def settle(site: Site, server: Slapd) -> None:
    """Several polls and a sweep."""
    seen, began, end = server.mark(), time.time(), time.monotonic() + 60
    await asyncio.sleep(1.2)
    while (states(site)[0].swept_at or 0.0) < began + SWEEP:
        assert time.monotonic() < end, "nothing is swept any more"
        await asyncio.sleep(0.05)
    await read_again(site, server, seen)


async def test_active_is_written_over_our_hold_in_the_middle_of_a_copy(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until, tmp_path: Path
) -> None:
    old, new = stores["old"], stores["new"]
    copying, done = tmp_path / "copying", tmp_path / "done"
    copy = f"sh -c 'touch {copying}; while [ ! -e {done} ]; do sleep 0.05; done'"
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        async with Traffic(site, ANN, BOB) as traffic:
            await traffic.some()
            words = ("move", ANN, "--to", "new", "--run", copy, "--reason", "test")
            move = asyncio.ensure_future(sluice(site, *words))
            await until(copying.exists, "the copy runs")
            await until(lambda: server.entry(sun_dn("ann"))["mailUserStatus"] == ["hold"], "the directory says hold")
            seen = tags(old, ANN)
            server.modify(replace(sun_dn("ann"), mailUserStatus="active"))
            await until(lambda: alarms(site, DRIFT), "the drift is told")
            assert "over our hold" in alarms(site, DRIFT)[0]
            await settle(site, server)
            assert hold_of(site, ANN) == "quiet command"
            assert (tags(old, ANN), tags(new, ANN)) == (seen, [])
            status = await sluice(site, "status")
            assert status.code == 1, "an alarm is open"
            done.touch()
            said = await move
            assert said.code == 0, said
            assert "meanwhile" in said.document["moves"][0]["release"]["drift"]
            await traffic.some()
        assert await site.drained() == 0
        found = server.entry(sun_dn("ann"))
        assert (found["mailUserStatus"], found["mailHost"]) == (["active"], [NEW_HOST])
        assert tags(old, ANN) == seen
        exactly_once(traffic.sent, ANN, stores.values())
        exactly_once(traffic.sent, BOB, stores.values())
        await until(lambda: not alarms(site, DRIFT), "the alarm goes with the hold")
        nobody_was_told(site, stores.values())
        site.balance()


async def test_a_status_and_a_home_written_over_our_hold_count_after_it(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        assert (await site.hold(ANN)).quiet
        sent = [await send(site, ANN, "m1")]
        server.modify(replace(sun_dn("ann"), mailHost=NEW_HOST, mailUserStatus="inactive"))
        await until(lambda: alarms(site, DRIFT), "the drift is told")
        await settle(site, server)
        mailbox = record(site, ANN).mailbox
        assert (mailbox.home, hold_of(site, ANN)) == ("old", "quiet command")
        assert (await asyncio.to_thread(answer, site, ANN)).startswith("250"), "on hold, mail is accepted"
        released = await site.release(ANN)
        assert (released.released, released.error) == (True, "")
        assert record(site, ANN).mailbox.home == released.home == "new", "the directory's, which nobody took back"
        assert (await asyncio.to_thread(answer, site, ANN)).startswith("450 4.2.1")
        await settle(site, server)
        assert tags(stores["old"], ANN) == tags(stores["new"], ANN) == []
        server.modify(replace(sun_dn("ann"), mailUserStatus="active"))
        assert await site.drained() == 0
        exactly_once(sent, ANN, [stores["new"]])
        assert alarms(site, DRIFT) == []


async def test_addresses_given_and_taken_during_our_hold_count_after_it(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    fresh = "ann.new@example.edu"
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        assert (await site.hold(ANN)).quiet
        server.modify(replace(sun_dn("ann"), mailAlternateAddress=fresh))
        server.modify(replace(sun_dn("bob"), mailAlternateAddress=ANNA))
        await until(lambda: alarms(site, DRIFT), "the drift is told")
        await settle(site, server)
        sent = await send(site, ANNA, "m1")
        assert (await asyncio.to_thread(answer, site, fresh)).startswith("4")
        await asyncio.sleep(0.5)
        assert tags(stores["old"], ANNA) == tags(stores["new"], ANNA) == [], "it is still the held mailbox's"
        assert (await site.release(ANN)).released
        assert await site.drained() == 0
        exactly_once([sent], ANNA, [stores["new"]])  # where its owner now lives
        later = await send(site, fresh, "m2")
        assert await site.drained() == 0
        exactly_once([later], fresh, [stores["old"]])
        assert alarms(site, DRIFT) == alarms(site, DISPUTE) == []


async def test_an_entry_deleted_during_our_hold(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        assert (await site.hold(ANN)).quiet
        server.modify(delete(sun_dn("ann")))
        await until(lambda: any("not in" in text for text in alarms(site, DRIFT)), "it is told that the entry is gone")
        sent = [await send(site, ANN, "m1")]
        assert hold_of(site, ANN) == "quiet command"
        released = await site.release(ANN, to="new")
        assert (released.released, released.error) == (True, "")
        await settle(site, server)
        assert await site.left_at(1, 0.5) == 1, "kept: nobody's accepted mail is returned for that (promise 5)"
        server.modify(sun_person("ann", NEW_HOST))
        assert await site.drained() == 0
        exactly_once(sent, ANN, [stores["new"]])
        nobody_was_told(site, stores.values())
        site.balance()


@pytest.mark.parametrize("by", ["command", "directory"])
async def test_an_entry_renamed_during_a_hold(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until, by: str
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        if by == "command":
            assert (await site.hold(ANN)).quiet
        else:
            server.modify(replace(sun_dn("ann"), mailUserStatus="hold"))
        await until(lambda: hold_of(site, ANN) == f"quiet {by}", "ann is on hold")
        async with Traffic(site, ANN) as traffic:
            await traffic.some()
            server.modify(renamed("ann", "ann2"))
            await traffic.some(20)
            await settle(site, server)
            assert hold_of(site, ANN) == f"quiet {by}"
            assert tags(stores["old"], ANN) == tags(stores["new"], ANN) == []
            if by == "command":
                released = await site.release(ANN, to="new")
                assert (released.home, released.error) == ("new", "")
            else:
                server.modify(replace(sun_dn("ann2"), mailUserStatus="active", mailHost=NEW_HOST))
            await traffic.some()
        assert await site.drained() == 0
        found = server.entry(sun_dn("ann2"))
        assert (found["mailUserStatus"], found["mailHost"]) == (["active"], [NEW_HOST])
        assert (record(site, ANN).mailbox.home, hold_of(site, ANN)) == ("new", "")
        exactly_once(traffic.sent, ANN, [stores["new"]])
        await until(lambda: not alarms(site, DRIFT) and not alarms(site, PROBLEM), "nothing is wrong any more")


async def test_an_entry_renamed_under_traffic(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        async with Traffic(site, ANN, patient=True) as traffic:
            for before, after in (("ann", "ann2"), ("ann2", "ann3")):
                await traffic.some(10)
                server.modify(renamed(before, after))
                await asyncio.sleep(0.5)
            server.modify(replace(sun_dn("ann3"), mailHost=NEW_HOST))
            await until(lambda: record(site, ANN).mailbox.home == "new", "the renamed entry counts")
            await traffic.some(10)
        assert await site.drained() == 0
        exactly_once(traffic.sent, ANN, stores.values())
        assert tags(stores["new"], ANN)
        nobody_was_told(site, stores.values())
        assert alarms(site, PROBLEM) == []


async def test_an_alias_moves_from_one_person_to_another_under_traffic(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        async with Traffic(site, ANNA, patient=True) as traffic:
            await traffic.some(10)
            server.modify(replace(sun_dn("bob"), mailAlternateAddress=ANNA))
            await until(lambda: alarms(site, DISPUTE), "both have it for a moment")
            assert (await asyncio.to_thread(answer, site, ANNA)).startswith("451 4.3.5")
            assert (await asyncio.to_thread(answer, site, ANN)).startswith("250")
            server.modify(replace(sun_dn("ann"), mailAlternateAddress=None))
            await until(lambda: not alarms(site, DISPUTE), "it has one owner again")
            moment = time.monotonic()
            await traffic.some(10)
        assert await site.drained() == 0
        exactly_once(traffic.sent, ANNA, stores.values())
        none_begun_after(stores["old"], ANNA, moment)
        assert len(tags(stores["new"], ANNA)) >= 10
        nobody_was_told(site, stores.values())


async def test_an_address_moves_onto_a_mailbox_that_the_directory_holds(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        server.modify(replace(sun_dn("bob"), mailUserStatus="hold"))
        await until(lambda: hold_of(site, BOB) == "quiet directory", "bob is on hold")
        async with Traffic(site, ANNA, patient=True) as traffic:
            await traffic.some(5)
            # At no moment is it nobody's, so that it is never refused.
            given, taken = (
                replace(sun_dn("bob"), mailAlternateAddress=ANNA),
                replace(sun_dn("ann"), mailAlternateAddress=None),
            )
            server.modify(given + taken)

            def moved() -> bool:
                return ANNA in record(site, BOB).addresses and hold_of(site, BOB) == "quiet directory"

            await until(moved, "the address is bob's, and his barrier has run again")
            arrived = len(tags(stores["old"], ANNA)) + len(tags(stores["new"], ANNA))
            await traffic.some(10)
            await asyncio.sleep(0.3)
            assert len(tags(stores["old"], ANNA)) + len(tags(stores["new"], ANNA)) == arrived
            server.modify(replace(sun_dn("bob"), mailUserStatus="active"))
            await until(lambda: hold_of(site, BOB) == "", "the hold has ended")
        assert await site.drained() == 0
        exactly_once(traffic.sent, ANNA, stores.values())
        assert len(tags(stores["new"], ANNA)) >= 10


async def test_two_entries_are_one_mailbox_until_that_is_mended(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        server.modify(sun_person("twin", NEW_HOST, mail=ANN))
        await until(lambda: alarms(site, PROBLEM), "it is told")
        await until(lambda: answer(site, ANN).startswith("451 4.3.5"), "ann's mail waits")
        assert (await asyncio.to_thread(answer, site, BOB)).startswith("250")
        refused = await sluice(site, "hold", ANN, "--reason", "test")
        assert refused.code != 0, "there is no knowing which entry to write"
        server.modify(replace(sun_dn("twin"), mail="twin@example.edu"))
        await until(lambda: answer(site, ANN).startswith("250"), "ann's mail goes on")
        sent = await send(site, "twin@example.edu", "m1")
        if hold_of(site, ANN):
            assert (await site.release(ANN)).released
        own = await send(site, ANN, "m2")
        assert await site.drained() == 0
        exactly_once([sent], "twin@example.edu", [stores["new"]])
        exactly_once([own], ANN, [stores["old"]])
        assert alarms(site, PROBLEM) == []
        assert server.entry(sun_dn("ann"))["mailHost"] == [OLD_HOST]
