"""
Forwards, groups, routing addresses and catch-alls of a real slapd: where each message arrives, and what a hold keeps.

The store `lists` is the smarthost, too, so what leaves the site arrives there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from support.directory_site import answer, applied, directory_site, followed, submit
from support.hands import alarms, hold_of, record, sluice
from support.people_ldif import NEW_HOST, OLD_HOST, replace, sun_dn, sun_domain, sun_group, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Until = Callable[..., Awaitable[None]]
Stores = dict[str, RecordingStore]
OUTSIDE = "dora@outside.example"
FORWARD: tuple[str | bytes, ...] = ("forward",)
BOTH: tuple[str | bytes, ...] = ("mailbox", "forward")


def people() -> Iterator[str]:
    yield sun_domain("example.edu")
    yield sun_domain("dept.example.edu")
    yield sun_person("ann")
    yield sun_person("carl", NEW_HOST)
    yield sun_person("bob", mailDeliveryOption=FORWARD, mailForwardingAddress="carl@example.edu")
    yield sun_person("dora", mailDeliveryOption=BOTH, mailForwardingAddress=(OUTSIDE, "Ann@example.edu"))
    yield sun_person("eve", mailRoutingAddress="carl@example.edu")
    yield sun_person("fred", NEW_HOST, mailRoutingAddress=f"@{NEW_HOST}:fred.new@example.edu")
    yield sun_person("gus", mailDeliveryOption=FORWARD, mailForwardingAddress="hal@example.edu")
    yield sun_person("hal", mailDeliveryOption=FORWARD, mailForwardingAddress="gus@example.edu")
    yield sun_person("ida", NEW_HOST, domain="dept.example.edu", mailAlternateAddress="@dept.example.edu")
    yield sun_person("leo", NEW_HOST)
    yield sun_person("kim", mailDeliveryOption=FORWARD, mailForwardingAddress="leo@example.edu")
    yield sun_person("moe", mailRoutingAddress="leo@example.edu")
    yield sun_group("staff", OLD_HOST)
    yield sun_group("everybody")


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    with Slapd(people()) as one:
        yield one


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, places: list[StoreAt], server: Slapd) -> Iterator[Site]:
    domains = {name: {"unknown": "reject"} for name in ("example.edu", "dept.example.edu")}
    directory = tmp_path_factory.mktemp("site")
    ldap = {"lists": "lists"}
    with directory_site(directory, places, server, ldap=ldap, domains=domains, smarthost="lists") as site:
        yield site


def arrived(stores: Stores, tag: str) -> list[tuple[str, str]]:
    """Store and recipient of everything that came of a message, sorted."""
    return sorted(
        (name, address)
        for name, store in stores.items()
        for one in store.arrivals
        if one.tag == tag
        for address, _ in one.recipients
    )


async def test_everything_arrives_where_the_directory_sends_it(site: Site, stores: Stores, until: Until) -> None:
    expected = {
        "bob@example.edu": [("new", "carl@example.edu")],
        "dora@example.edu": [("lists", OUTSIDE), ("old", "Ann@example.edu"), ("old", "dora@example.edu")],
        "eve@example.edu": [("new", "carl@example.edu")],
        "fred@example.edu": [("new", "fred.new@example.edu")],
        "staff@example.edu": [("old", "staff@example.edu")],
        "everybody@example.edu": [("lists", "everybody@example.edu")],
        "ida@dept.example.edu": [("new", "ida@dept.example.edu")],
        "anybody@dept.example.edu": [("new", "anybody@dept.example.edu")],
    }
    await until(lambda: followed(site) and answer(site, "ann@example.edu").startswith("250"), "it is followed")
    for number, address in enumerate(expected):
        await asyncio.to_thread(submit, site, address, tag=f"m{number}")
    assert await site.drained() == 0
    assert {one: arrived(stores, f"m{number}") for number, one in enumerate(expected)} == expected
    site.balance()
    await asyncio.to_thread(submit, site, *expected, tag="all")
    assert await site.drained() == 0
    # Who is reached on several ways of one message gets it at least once, and nobody else gets it.
    assert set(arrived(stores, "all")) == {one for all_ in expected.values() for one in all_}
    site.balance()


async def test_forwards_in_a_circle_are_put_off_and_told(site: Site, server: Slapd, until: Until) -> None:
    await until(lambda: followed(site) and answer(site, "ann@example.edu").startswith("250"), "it is followed")
    assert (await asyncio.to_thread(answer, site, "gus@example.edu")).startswith("451 4.3.5")
    await until(lambda: alarms(site, "forward-loop"), "the circle is told")
    told = await sluice(site, "route", "gus@example.edu")
    assert told.code == 1
    assert "LOOP" in str(told.document)
    server.modify(replace(sun_dn("hal"), mailDeliveryOption="mailbox"))
    await until(lambda: answer(site, "gus@example.edu").startswith("250"), "the circle is open")


async def test_a_held_mailbox_holds_its_forward_and_a_held_target_what_comes_to_it(
    site: Site, stores: Stores, server: Slapd, until: Until
) -> None:
    await until(lambda: followed(site) and answer(site, "ann@example.edu").startswith("250"), "it is followed")
    assert (await site.hold("bob@example.edu")).quiet
    server.modify(replace(sun_dn("carl"), mailUserStatus="hold"))
    await until(lambda: hold_of(site, "carl@example.edu") == "quiet directory", "the target is on hold, too")
    for tag, address in (("b", "bob@example.edu"), ("e", "eve@example.edu"), ("a", "ann@example.edu")):
        await asyncio.to_thread(submit, site, address, tag=tag)
    assert await site.left_at(2, 2.0) == 2
    assert arrived(stores, "b") == arrived(stores, "e") == []
    server.modify(replace(sun_dn("carl"), mailUserStatus="active"))
    await until(lambda: arrived(stores, "e") == [("new", "carl@example.edu")], "what waited for the target")
    assert await site.left_at(1, 1.0) == 1
    assert arrived(stores, "b") == [], "who forwards is on hold still"
    await site.release("bob@example.edu")
    assert await site.drained() == 0
    assert arrived(stores, "b") == [("new", "carl@example.edu")]
    site.balance()


async def test_a_forward_that_changes_counts_for_the_next_message(
    site: Site, stores: Stores, server: Slapd, until: Until
) -> None:
    await until(lambda: followed(site) and answer(site, "ann@example.edu").startswith("250"), "it is followed")
    await asyncio.to_thread(submit, site, "kim@example.edu", tag="before")
    assert await site.drained() == 0
    server.modify(replace(sun_dn("kim"), mailForwardingAddress="ann@example.edu"))
    wanted = ("ann@example.edu",)
    await until(lambda: record(site, "kim@example.edu").mailbox.forwards == wanted and applied(site), "it counts")
    await asyncio.to_thread(submit, site, "kim@example.edu", tag="after")
    assert await site.drained() == 0
    assert arrived(stores, "before") == [("new", "leo@example.edu")]
    assert arrived(stores, "after") == [("old", "ann@example.edu")]
    server.modify(replace(sun_dn("leo"), mailHost=OLD_HOST))
    await until(lambda: record(site, "leo@example.edu").mailbox.home == "old", "the target has moved")
    await asyncio.to_thread(submit, site, "moe@example.edu", tag="moved")
    assert await site.drained() == 0
    assert arrived(stores, "moved") == [("old", "leo@example.edu")]
