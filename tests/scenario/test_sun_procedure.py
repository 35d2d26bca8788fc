"""
The procedure of Sun's guide (20.15.1.3) with ldapmodify as the administrator's hand, under traffic: status hold,
queue check, mailHost, copy, former status. No restart, no cache to be set to zero, no release by hand.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.directory_site import directory_site, followed
from support.hands import (
    Traffic,
    exactly_once,
    hold_of,
    nobody_was_told,
    none_after,
    quiet_at,
    record,
    sluice,
    tags,
)
from support.people_ldif import NEW_HOST, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Until = Callable[..., Awaitable[None]]
ANN, ANNA, BOB = "ann@example.edu", "anna@example.edu", "bob@example.edu"
DOMAIN = "o=example.edu,ou=domains,dc=example,dc=edu"


@pytest.fixture
def server() -> Iterator[Slapd]:
    people = [sun_person("ann", mailAlternateAddress=ANNA), sun_person("bob")]
    with Slapd([sun_domain("example.edu"), *people]) as one:
        yield one


def site_of(directory: Path, stores: dict[str, RecordingStore], server: Slapd, workers: int = 1) -> Site:
    at = [StoreAt(name, store.port, role="new" if name == "new" else "old") for name, store in stores.items()]
    return directory_site(directory, at, server, workers=workers)


async def waiting(site: Site, mailbox: str) -> int:
    """The queue check of the procedure: recipients of the mailbox that are here."""
    said = await sluice(site, "queue", "list", "--mailbox", mailbox)
    assert said.code == 0, said.error
    lines = said.document.get("lines", [said.document] if said.document else [])
    return sum(len(line["recipients"]) for line in lines if "recipients" in line)


@pytest.mark.parametrize("former", ["active", None])
async def test_one_person(
    tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd, until: Until, former: str | None
) -> None:
    old, new = stores["old"], stores["new"]
    server.modify(replace(sun_dn("ann"), mailUserStatus=former))
    async with site_of(tmp_path, stores, server) as site:
        await until(lambda: followed(site), "the directory is followed")
        pids = site.worker_pids()
        async with Traffic(site, ANN, BOB) as traffic, Traffic(site, ANNA, prefix="a") as alias:
            await traffic.some(10)
            server.modify(replace(sun_dn("ann"), mailUserStatus="hold"))
            await until(lambda: hold_of(site, ANN) == "quiet directory", "the hold is quiet, and somebody else's")
            quiet = quiet_at(site, ANN)
            await traffic.some(10)
            assert await waiting(site, ANN) >= 10
            assert len(tags(old, BOB)) > 0, "others are not held"
            server.modify(replace(sun_dn("ann"), mailHost=NEW_HOST))
            await until(lambda: record(site, ANN).mailbox.home == "new", "the new home is known")
            await traffic.some(10)
            await alias.some(3)
            assert tags(new, ANN) == tags(new, ANNA) == [], "a new home is no release"
            backlog = [one.tag for one in traffic.sent]
            server.modify(replace(sun_dn("ann"), mailUserStatus=former))
            await until(lambda: hold_of(site, ANN) == "", "the hold has ended")
            await traffic.some(10)
        await site.drained()
        assert site.worker_pids() == pids
        for address in (ANN, ANNA):
            none_after(old, address, quiet)
        exactly_once(traffic.sent, ANN, stores.values())
        exactly_once(traffic.sent, BOB, [old])
        exactly_once(alias.sent, ANNA, stores.values())
        came = [tag for tag in tags(new, ANN) if tag in backlog]
        assert len(came) >= 20
        assert came == sorted(came), "in order of arrival"
        nobody_was_told(site, stores.values())
        site.balance()
        told = await sluice(site, "user", "show", ANN)
        assert told.code == 0, told.error


async def test_a_whole_domain_and_two_workers(
    tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    old, new = stores["old"], stores["new"]
    async with site_of(tmp_path, stores, server, workers=2) as site:
        await until(lambda: followed(site), "the directory is followed")
        async with Traffic(site, ANN, BOB) as traffic:
            await traffic.some(10)
            server.modify(replace(DOMAIN, mailDomainStatus="hold"))
            both = ["quiet directory"] * 2
            await until(lambda: [hold_of(site, ANN), hold_of(site, BOB)] == both, "both holds are quiet")
            quiet = max(quiet_at(site, ANN), quiet_at(site, BOB))
            assert quiet < time.monotonic()
            await traffic.some(10)
            assert await waiting(site, ANN) >= 10
            server.modify(replace(sun_dn("ann"), mailHost=NEW_HOST) + replace(sun_dn("bob"), mailHost=NEW_HOST))
            homes = ["new"] * 2
            await until(lambda: [record(site, one).mailbox.home for one in (ANN, BOB)] == homes, "both have moved")
            await asyncio.sleep(0.3)
            assert tags(new, ANN) == tags(new, BOB) == []
            server.modify(replace(DOMAIN, mailDomainStatus="active"))
            await until(lambda: hold_of(site, ANN) == hold_of(site, BOB) == "", "the holds have ended")
            await traffic.some(10)
        await site.drained()
        for address in (ANN, BOB):
            none_after(old, address, quiet)
            exactly_once(traffic.sent, address, stores.values())
            assert len(tags(new, address)) >= 20
        nobody_was_told(site, stores.values())
        site.balance()
