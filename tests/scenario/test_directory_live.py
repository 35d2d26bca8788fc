"""People in a real slapd, changed by ldapmodify while the relay runs: homes, holds, new people, outages, reloads."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.directory_site import answer, directory_site, followed, source_of, states, submit
from support.hands import hold_of, record
from support.people_ldif import NEW_HOST, OLD_HOST, delete, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Until = Callable[..., Awaitable[None]]
ANN, BOB = "ann@example.edu", "bob@example.edu"


@pytest.fixture
def server() -> Iterator[Slapd]:
    with Slapd([sun_domain("example.edu"), sun_person("ann"), sun_person("bob", NEW_HOST)]) as one:
        yield one


@pytest.fixture
def alone(tmp_path: Path, places: list[StoreAt], stores: dict[str, RecordingStore], server: Slapd) -> Site:
    """For tests that need the beginning or the end of a relay."""
    return directory_site(tmp_path, places, server)


@pytest.fixture(scope="module")
def crowd() -> Iterator[Slapd]:
    """Ann, bob and three more of each, for tests that leave the relay as it is."""
    numbers = ("", 1, 2, 3)
    olds = [sun_person(f"ann{number}") for number in numbers]
    news = [sun_person(f"bob{number}", NEW_HOST) for number in numbers]
    with Slapd([sun_domain("example.edu"), *olds, *news]) as one:
        yield one


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, places: list[StoreAt], crowd: Slapd) -> Iterator[Site]:
    with directory_site(tmp_path_factory.mktemp("site"), places, crowd) as site:
        yield site


def served(site: Site) -> bool:
    """Whether the directory is followed, and a worker has seen that it is."""
    return followed(site) and answer(site, ANN).startswith("250")


def at(store: RecordingStore) -> list[str]:
    return [arrival.tag for arrival in store.arrivals]


async def test_a_home_changed_by_somebody_else_counts_for_the_next_message(
    site: Site, stores: dict[str, RecordingStore], crowd: Slapd, until: Until
) -> None:
    ann, bob = "ann1@example.edu", "bob1@example.edu"
    await until(lambda: served(site), "the directory is followed")
    await asyncio.to_thread(submit, site, ann, bob, tag="m1")
    assert await site.drained() == 0
    assert (at(stores["old"]), at(stores["new"])) == (["m1"], ["m1"])
    crowd.modify(replace(sun_dn("ann1"), mailHost=NEW_HOST))
    await until(lambda: record(site, ann).mailbox.home == "new", "the new home is in force")
    await asyncio.to_thread(submit, site, ann, tag="m2")
    assert await site.drained() == 0
    assert (at(stores["old"]), at(stores["new"])) == (["m1"], ["m1", "m2"])
    site.balance()


async def test_a_hold_set_by_somebody_else_keeps_mail_and_its_end_routes_it_anew(
    site: Site, stores: dict[str, RecordingStore], crowd: Slapd, until: Until
) -> None:
    ann, bob = "ann2@example.edu", "bob2@example.edu"
    await until(lambda: served(site), "the directory is followed")
    crowd.modify(replace(sun_dn("ann2"), mailUserStatus="hold"))
    await until(lambda: hold_of(site, ann) == "quiet directory", "the hold is quiet, and not ours")
    await asyncio.to_thread(submit, site, ann, bob, tag="m1")
    assert await site.left_at(1, 1.0) == 1, "bob's copy went on"
    crowd.modify(replace(sun_dn("ann2"), mailHost=NEW_HOST))
    crowd.modify(replace(sun_dn("ann2"), mailUserStatus="active"))
    assert await site.drained() == 0
    assert (at(stores["old"]), at(stores["new"])) == ([], ["m1", "m1"])
    site.balance()


async def test_a_domain_on_hold_keeps_everybodys_mail(
    site: Site, stores: dict[str, RecordingStore], crowd: Slapd, until: Until
) -> None:
    domain = "o=example.edu,ou=domains,dc=example,dc=edu"
    await until(lambda: served(site), "the directory is followed")
    crowd.modify(replace(domain, mailDomainStatus="hold"))
    await until(lambda: hold_of(site, ANN) == hold_of(site, BOB) == "quiet directory", "both are on hold")
    await asyncio.to_thread(submit, site, ANN, BOB, tag="m1")
    assert await site.left_at(2, 1.0) == 2
    crowd.modify(replace(domain, mailDomainStatus="active"))
    assert await site.drained() == 0
    assert (at(stores["old"]), at(stores["new"])) == (["m1"], ["m1"])


async def test_somebody_just_added_is_accepted_at_once_and_nobody_is_refused(alone: Site, server: Slapd) -> None:
    async with alone as site:
        for number in range(5):
            server.modify(sun_person(f"late{number}"))
            assert (await asyncio.to_thread(answer, site, f"late{number}@example.edu"))[:3] in {"250", "451"}
            await asyncio.to_thread(_patiently, site, f"late{number}@example.edu")
        assert (await asyncio.to_thread(answer, site, "nobody@example.edu")).startswith("550 5.1.1")


def _patiently(site: Site, address: str) -> None:
    """Before the first sweep has ended nobody's data count as followed."""
    for _ in range(100):
        said = answer(site, address)
        assert not said.startswith("5"), said
        if said.startswith("250"):
            return
        time.sleep(0.05)
    raise AssertionError(f"it was never accepted: {said}")


async def test_who_was_removed_is_unknown_after_the_next_sweep(
    tmp_path: Path, places: list[StoreAt], stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    site = directory_site(tmp_path, places, server, ldap={"sweep": "300ms", "max_loss": 1})
    async with site:
        await until(lambda: served(site), "the directory is followed")
        assert (await asyncio.to_thread(answer, site, ANN)).startswith("250")
        server.modify(delete(sun_dn("ann")))
        await until(lambda: answer(site, ANN).startswith("550"), "ann is unknown")
        assert (await asyncio.to_thread(answer, site, BOB)).startswith("250")


async def test_a_relay_that_starts_while_the_directory_is_down_knows_who_was_known(
    alone: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with alone as site:
        await until(lambda: served(site), "the directory is followed")
        site.stop()
        server.stop()
        await asyncio.to_thread(site.start)
        await asyncio.to_thread(submit, site, ANN, tag="m1")
        assert (await asyncio.to_thread(answer, site, "nobody@example.edu")).startswith("451 4.4.3")
        assert await site.drained() == 0
        assert at(stores["old"]) == ["m1"]
        await until(lambda: any(one.fault for one in states(site)), "the outage is told")
        server.start()
        await until(lambda: followed(site), "the directory is followed again")
        await until(lambda: answer(site, "nobody@example.edu").startswith("550"), "who is unknown is told so again")


async def test_a_reload_follows_another_directory(alone: Site, server: Slapd, until: Until) -> None:
    with Slapd([sun_domain("example.edu"), sun_person("carl"), sun_person("ann", OLD_HOST)]) as other:
        async with alone as site:
            await until(lambda: served(site), "the directory is followed")
            both = ["database", {"ldap": source_of(server)}, {"ldap": source_of(other, {"name": "other"})}]
            await asyncio.to_thread(site.reload, {"directory": both})
            await until(lambda: answer(site, "carl@example.edu").startswith("250"), "carl is known")
            await until(lambda: len(states(site)) == 2 and followed(site), "both are followed")


async def test_commands_write_into_the_directory_and_move_somebody(
    site: Site, stores: dict[str, RecordingStore], crowd: Slapd, until: Until
) -> None:
    ann, bob = "ann3@example.edu", "bob3@example.edu"
    await until(lambda: followed(site), "the directory is followed")
    held = await site.hold(ann)
    assert held.quiet
    assert crowd.entry(sun_dn("ann3"))["mailUserStatus"] == ["hold"]
    await asyncio.to_thread(submit, site, ann, tag="m1")
    assert (await site.release(ann, to="new")).home == "new"
    found = crowd.entry(sun_dn("ann3"))
    assert (found["mailUserStatus"], found["mailHost"]) == (["active"], [NEW_HOST])
    assert await site.drained() == 0
    assert (at(stores["old"]), at(stores["new"])) == ([], ["m1"])
    moved = await site.move(bob, "old")
    assert moved.release is not None
    assert moved.release.home == "old"
    assert crowd.entry(sun_dn("bob3"))["mailHost"] == [OLD_HOST]
    await asyncio.to_thread(submit, site, bob, tag="m2")
    assert await site.drained() == 0
    assert at(stores["old"]) == ["m2"]
