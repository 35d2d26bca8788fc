"""A real slapd with 20,000 people: read to its end, followed while it changes, and asked by a crowd."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from support.people_ldif import delete, replace, sun_dn, sun_domain, sun_people, sun_person
from support.slapd import BASE, READER, Slapd
from support.sunlike import SunLike

from router.directory.feed import LdapFeed
from router.directory.lookups import LdapLookups
from router.model.directory import Entry
from router.settings.directory import Ldap

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PEOPLE = 20_000


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    with Slapd([*sun_people(PEOPLE), sun_domain("example.edu")]) as one:
        yield one


def settings(server: Slapd) -> Ldap:
    return Ldap(
        uri=server.uri,
        base=BASE,
        bind_dn=READER,
        password_file=server.password_file,
        connect_timeout=60.0,
        receive_timeout=60.0,
        deadline=120.0,
    )


def test_a_sweep_tells_everybody_once_while_people_come_and_change(server: Slapd) -> None:
    feed = LdapFeed(settings(server), SunLike())
    cookie = feed.cookie()
    seen: list[str] = []
    for number, page in enumerate(feed.sweep()):
        seen += [item.dn for item in page]
        if number == 10:
            server.modify(replace(sun_dn("user3"), mailUserStatus="hold") + sun_person("late"))
    assert len(seen) in {PEOPLE + 1, PEOPLE + 2}, "with or without the one who came meanwhile"
    assert len(set(seen)) == len(seen)
    polled = feed.poll(cookie)
    assert not polled.resweep
    assert {sun_dn("user3"), sun_dn("late")} <= {item.dn for item in polled.items}
    server.modify(replace(sun_dn("user3"), mailUserStatus="active") + delete(sun_dn("late")))
    feed.close()


def test_each_change_is_seen_by_the_next_poll(server: Slapd) -> None:
    feed = LdapFeed(settings(server), SunLike())
    polled = feed.poll(feed.cookie())
    assert not polled.resweep
    for number in range(0, PEOPLE, PEOPLE // 20):
        dn = sun_dn(f"user{number}")
        server.modify(replace(dn, mailHost="third.example.edu"))
        polled = feed.poll(polled.cookie)
        assert [item.dn for item in polled.items if isinstance(item, Entry) and item.home.startswith("third")] == [dn]
    feed.close()


async def test_a_crowd_that_asks_for_everybody(server: Slapd) -> None:
    made = LdapLookups(settings(server), SunLike())
    began = time.monotonic()
    for start in range(0, 4000, 1000):
        found = await asyncio.gather(
            *(made.find([f"user.{number}@example.edu"]) for number in range(start, start + 1000))
        )
        dns = [[item.dn for item in items if isinstance(item, Entry)] for items in found]
        assert dns == [[sun_dn(f"user{number}")] for number in range(start, start + 1000)]
    assert time.monotonic() - began < 150
    await made.close()
