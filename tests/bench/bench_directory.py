"""
What a real slapd with 20,000 people gives over one client: lookups gathered and one by one, sweeps, polls, flips seen;
and what a worker then makes of it: classifying people by the mirror, and by what it remembers.

`./dev bench tests/bench/bench_directory.py`. Client and server share the machine; figures, never a verdict.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.people_ldif import replace, sun_dn, sun_domain, sun_people
from support.slapd import BASE, READER, Slapd
from support.sunlike import SunLike

from router.classify.classifier import CachingClassifier
from router.classify.domains import DomainTable
from router.classify.lists import ListTable
from router.classify.rules import AddressRules
from router.classify.services import ServiceTable
from router.control.database import ControlDatabase
from router.control.lookups import DatabaseLookups
from router.control.mirror import Mirror
from router.daemon.clock import SystemClock
from router.directory.feed import LdapFeed
from router.directory.lookups import LdapLookups
from router.directory.writer import LdapWriter
from router.model.address import parse_address
from router.model.directory import Wanted
from router.settings.directory import Ldap
from router.settings.schema import Domain

PEOPLE = 20_000


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    began = time.perf_counter()
    with Slapd([*sun_people(PEOPLE), sun_domain("example.edu")]) as one:
        print(f"\nslapd with {PEOPLE} people loaded and started: {time.perf_counter() - began:.1f} s")
        yield one


def settings(server: Slapd) -> Ldap:
    return Ldap(uri=server.uri, base=BASE, bind_dn=READER, password_file=server.password_file, deadline=30.0)


@pytest.mark.parametrize("kind", ["known", "unknown"])
async def test_lookups(server: Slapd, kind: str) -> None:
    made = LdapLookups(settings(server), SunLike())
    name = "user" if kind == "known" else "x"
    await made.find(["user1@example.edu"])
    began = time.perf_counter()
    for start in range(0, 10_000, 1000):
        await asyncio.gather(*(made.find([f"{name}{number}@example.edu"]) for number in range(start, start + 1000)))
    print(f"\n{kind} addresses, 1000 askers at a time: {10_000 / (time.perf_counter() - began):.0f} lookups/s")
    began = time.perf_counter()
    for number in range(500):
        await made.find([f"{name}{number}@example.edu"])
    print(f"{kind} addresses, one after another: {(time.perf_counter() - began) / 500 * 1000:.2f} ms each")
    await made.close()


async def test_warm_lookups(server: Slapd, tmp_path: Path) -> None:
    """A worker's classifier over the mirror: who is asked for the first time is read from it, then remembered."""
    (tmp_path / "state").mkdir(mode=0o700)
    database = ControlDatabase.open(f"sqlite:///{tmp_path / 'state' / 'control.db'}", create=True)
    feed, mirror = LdapFeed(settings(server), SunLike()), Mirror(database, "ldap", ("database", "ldap"))
    began = time.perf_counter()
    mirror.begin_sweep()
    for page in feed.sweep():
        mirror.swept(page)
    mirror.end_sweep()
    print(f"\nmirrored: {PEOPLE / (time.perf_counter() - began):.0f} people/s")
    feed.close()
    domains = DomainTable({"example.edu": Domain()})
    rules = AddressRules(domains, ListTable(), ServiceTable({}), parse_address("user0@example.edu"))
    lookups = DatabaseLookups(database)
    made = CachingClassifier(rules, [lookups], SystemClock())
    people = [parse_address(f"user{number}@example.edu") for number in range(10_000)]
    for where in ("read from the mirror", "remembered"):
        began = time.perf_counter()
        for start in range(0, len(people), 1000):
            found = await asyncio.gather(*(made.classify(one) for one in people[start : start + 1000]))
            assert all(one.mailbox is not None for one in found)
        print(f"people {where}, 1000 askers at a time: {len(people) / (time.perf_counter() - began):.0f} lookups/s")
    await made.close()
    lookups.close()
    database.close()


def test_sweeps_and_polls(server: Slapd) -> None:
    feed = LdapFeed(settings(server), SunLike())
    began = time.perf_counter()
    cookie = feed.cookie()
    print(f"\nwhere to begin: {(time.perf_counter() - began) * 1000:.0f} ms")
    began = time.perf_counter()
    count = sum(len(page) for page in feed.sweep())
    print(f"sweep: {count / (time.perf_counter() - began):.0f} entries/s")
    time.sleep(6)  # what was loaded is older than the overlap
    polled = feed.poll(cookie)
    took = []
    for _ in range(200):
        began = time.perf_counter()
        polled = feed.poll(polled.cookie)
        took.append(time.perf_counter() - began)
    print(f"poll without news: median {statistics.median(took) * 1000:.2f} ms, worst {max(took) * 1000:.1f} ms")
    feed.close()


def test_writes(server: Slapd) -> None:
    writer = LdapWriter(settings(server), SunLike())
    feed = LdapFeed(settings(server), SunLike())
    polled = feed.poll(feed.cookie())
    took, seen = [], []
    for number in range(100):
        dn, began = sun_dn(f"user{number}"), time.perf_counter()
        writer.write(writer.read(dn), Wanted(status="hold"))
        took.append(time.perf_counter() - began)
        server.modify(replace(dn, mailUserStatus="active"))
        began = time.perf_counter()
        while not any(item.dn == dn and item.standing.value == "active" for item in polled.items):
            polled = feed.poll(polled.cookie)
        seen.append(time.perf_counter() - began)
    print(f"\nwrite: median {statistics.median(took) * 1000:.1f} ms, worst {max(took) * 1000:.1f} ms")
    print(f"a change seen by a poll: median {statistics.median(seen) * 1000:.1f} ms, worst {max(seen) * 1000:.1f} ms")
    writer.close()
    feed.close()
