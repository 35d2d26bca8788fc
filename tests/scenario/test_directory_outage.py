"""
A directory that is silent, gone or back while mail comes in (barrier.md 13): known people are answered with 250 and
delivered for as long as their data count, unknown addresses are never refused for good, and nothing needs help after.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.directory_site import QUICK, answer, directory_site, followed, states
from support.directory_traffic import Traffic
from support.people_ldif import NEW_HOST, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.control import alarms
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Until = Callable[..., Awaitable[None]]
Stores = dict[str, RecordingStore]
ANN, BOB, HELD, LIST, SERVICE = (f"{name}@example.edu" for name in ("ann", "bob", "held", "announce", "helpdesk"))
GROUPS = {
    "known": (ANN, BOB),
    "extended": ("ann+list@example.edu", "bob+x@example.edu"),
    "held": (HELD,),
    "lists": (LIST, SERVICE),
    "unknown": ("nobody-{}@example.edu", "nobody@example.edu"),
}
DEADLINE = 2.0
RECOVERY = 45.0
"""Seconds, on a machine that is slow and stands still now and then; the next sweep is a quarter of an hour away."""
OLD, AGAIN = "waits: it was last followed", "goes on: it is followed again"
"""What a worker says when mail waits for a directory, and when it does not any more."""
LATE = 45.0
"""Seconds after which it has noticed, on a slow machine."""


@pytest.fixture
def server() -> Iterator[Slapd]:
    people = [sun_person("ann"), sun_person("bob", NEW_HOST), sun_person("held", mailUserStatus="hold")]
    with Slapd([sun_domain("example.edu"), *people]) as one:
        yield one


def make(tmp_path: Path, stores: Stores, server: Slapd, ldap: dict[str, Any] | None = None, **more: Any) -> Site:
    roles = {"old": "old", "new": "new", "lists": "other"}
    at = [StoreAt(name, store.port, role=roles[name]) for name, store in stores.items()]
    lists = [{"store": "lists", "manager": "majordomo", "addresses": [LIST]}]
    return directory_site(
        tmp_path, at, server, ldap=QUICK | (ldap or {}), lists=lists, services={SERVICE: "lists"}, **more
    )


def down(site: Site) -> str:
    """The text of the alarm for the directory, '' when there is none."""
    open_ = site.office.database.run_read(alarms.open_alarms)
    return next((one.text for one in open_ if one.kind == "directory-down"), "")


async def calm(traffic: Traffic, until: Until) -> float:
    """From when on everybody is answered as they should be: a worker has seen that the directory is followed."""
    await until(lambda: "550 5.1.1" in traffic.codes("unknown"), "unknown addresses are refused")
    await until(lambda: "250 2.1.5" in traffic.codes("known"), "known people are accepted")
    began = traffic.mark()
    await until(lambda: all(len(traffic.of(name, began)) > 4 for name in GROUPS), "there is traffic")
    return began


async def at_rest(site: Site, stores: Stores, traffic: Traffic, server: Slapd) -> None:
    """The hold ends, everything is delivered once, no notice was sent, the books balance."""
    await asyncio.to_thread(traffic.stop)
    await asyncio.to_thread(server.modify, replace(sun_dn("held"), mailUserStatus="active"))
    assert await site.drained() == 0
    traffic.exactly_once(stores.values())
    site.balance()


def called_old(site: Site) -> bool:
    """Whether the worker's last word is that mail waits."""
    said = site.relay.log.read_text()
    return said.rfind(OLD) > said.rfind(AGAIN)


def last_followed(site: Site) -> float:
    """By `time.monotonic()`."""
    return max(one.followed_at or 0.0 for one in states(site)) - time.time() + time.monotonic()


async def never_called_old(site: Site, seconds: float = 3.0, tries: int = 10) -> None:
    """A directory that is followed is never called old. On a machine that stands still it is not followed."""
    for _ in range(tries):
        before, end, steady = site.relay.log.read_text().count(OLD), time.monotonic() + seconds, True
        while time.monotonic() < end:
            looked = time.monotonic()
            steady &= looked - last_followed(site) < 1.0
            await asyncio.sleep(0.05)
            steady &= time.monotonic() - looked < 0.5
        if steady:
            assert site.relay.log.read_text().count(OLD) == before
            return
    pytest.fail("the machine stood still again and again")


@pytest.mark.parametrize("how", ["silent", "killed"])
async def test_known_people_are_served_while_the_directory_is_away(
    tmp_path: Path, stores: Stores, server: Slapd, until: Until, how: str
) -> None:
    site = make(tmp_path, stores, server)
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        with Traffic(site, GROUPS) as traffic:
            calmed = await calm(traffic, until)
            (server.stall if how == "silent" else server.kill)()
            began = traffic.mark()
            await until(lambda: down(site), "the outage is told")
            told = traffic.mark()
            await asyncio.sleep(4.0)
            arrived = len(stores["old"].arrivals)
            await until(lambda: len(stores["old"].arrivals) > arrived, "known people's mail goes on")
            (server.wake if how == "silent" else server.start)()
            back = traffic.mark()
            await until(lambda: "550 5.1.1" in traffic.codes("unknown", since=back), "unknown is said again")
            recovery = time.monotonic() - back
            assert set(traffic.codes("unknown", told, back)) == {"451 4.4.3"}
            for group in ("known", "extended", "held", "lists"):
                assert set(traffic.codes(group, calmed)) == {"250 2.1.5"}, group
            # A pause of the machine makes any one of them longer.
            assert statistics.median(one.seconds for one in traffic.of("unknown", told, back)) < DEADLINE + 1
            assert statistics.median(one.seconds for one in traffic.of("known", began)) < 1.0
            assert max(traffic.longest(group) for group in GROUPS) < RECOVERY
            assert recovery < RECOVERY
            await at_rest(site, stores, traffic, server)


async def test_mail_waits_when_the_data_are_too_old_and_known_people_are_put_off_at_last(
    tmp_path: Path, stores: Stores, server: Slapd, until: Until
) -> None:
    site = make(tmp_path, stores, server, {"stale_delivery": "2s", "stale": "5s"}, settings={"postmaster": ANN})
    people, others = stores["old"], stores["lists"]
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        with Traffic(site, GROUPS) as traffic:
            calmed = await calm(traffic, until)
            await never_called_old(site)
            await until(lambda: not called_old(site), "it is followed")
            calmed = traffic.mark()
            server.stall()
            await until(lambda: called_old(site), "mail waits")
            stopped = traffic.mark()
            followed_at = last_followed(site)
            assert 1.5 < stopped - followed_at < LATE
            # The first may have been accepted before; what comes after it finds mail waiting.
            first = len(traffic.accepted)
            here, there = len(people.arrivals), len(others.arrivals)
            await asyncio.sleep(1.5)
            await until(lambda: len(others.arrivals) > there, "lists and services go on")
            await until(lambda: "451 4.4.3" in traffic.codes("known", calmed), "known people are put off")
            late = traffic.mark()
            assert 4.5 < late - followed_at < LATE
            assert set(traffic.codes("known", calmed, followed_at + 4.5)) <= {"250 2.1.5"}
            waiting = [tag for tag, who in traffic.accepted[first:] if who == ANN]
            assert not set(waiting[1:]) & {one.tag for one in people.arrivals}, "people's mail waits"
            told = await asyncio.to_thread(answer, site, "postmaster@example.edu")
            assert told.startswith("250"), "postmaster is one of them, and is accepted in every case (RFC 5321 4.5.1)"
            await asyncio.sleep(1.0)
            await until(
                lambda: all(traffic.codes(one, since=late) for one in ("known", "extended")), "they are asked for"
            )
            assert (
                set(traffic.codes("known", since=late)) == set(traffic.codes("extended", since=late)) == {"451 4.4.3"}
            )
            assert set(traffic.codes("held", calmed)) == set(traffic.codes("lists", calmed)) == {"250 2.1.5"}
            server.wake()
            back = traffic.mark()
            await until(lambda: "250 2.1.5" in traffic.codes("known", since=back), "known people are accepted again")
            await until(lambda: len(people.arrivals) > here, "and delivered")
            await until(lambda: "550 5.1.1" in traffic.codes("unknown", since=back), "unknown is said again")
            recovery = time.monotonic() - back
            assert recovery < RECOVERY
            assert set(traffic.codes("unknown", stopped, back)) == {"451 4.4.3"}
            await at_rest(site, stores, traffic, server)
