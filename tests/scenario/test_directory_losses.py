"""An emptied and a half-emptied directory are faults and not the truth: nobody is refused, no mail is returned."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support.directory_site import answer, directory_site, followed, states
from support.directory_traffic import Traffic
from support.hands import in_force
from support.people_ldif import delete, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.control import alarms
from router.control.losses import accept_loss
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Until = Callable[..., Awaitable[None]]
Stores = dict[str, RecordingStore]
NAMES = [f"user{number}" for number in range(20)]
PEOPLE = [sun_person(name) for name in NAMES]
GROUPS = {"known": tuple(f"{name}@example.edu" for name in NAMES), "unknown": ("nobody-{}@example.edu",)}


@pytest.fixture
def server() -> Iterator[Slapd]:
    with Slapd([sun_domain("example.edu"), *PEOPLE]) as one:
        yield one


@pytest.fixture
def site(tmp_path: Path, stores: Stores, server: Slapd) -> Site:
    roles = {"old": "old", "new": "new", "lists": "other"}
    at = [StoreAt(name, store.port, role=roles[name]) for name, store in stores.items()]
    return directory_site(tmp_path, at, server, ldap={"sweep": "300ms"})


def lost(site: Site) -> str:
    found = site.office.database.run_read(alarms.open_alarms)
    return next((one.text for one in found if one.kind == "directory-loss"), "")


def swept(site: Site) -> float:
    return states(site)[0].swept_at or 0.0


async def sweeps(site: Site, until: Until, count: int) -> None:
    for _ in range(count):
        before = swept(site)
        await until(lambda before=before: swept(site) > before, "it is swept again")


async def calm(traffic: Traffic, until: Until) -> float:
    """From when on everybody is answered as they should be: a worker has seen that the directory is followed."""
    await until(lambda: "550 5.1.1" in traffic.codes("unknown"), "unknown addresses are refused")
    await until(lambda: "250 2.1.5" in traffic.codes("known"), "known people are accepted")
    return traffic.mark()


@pytest.mark.parametrize(("gone", "text"), [(20, "20 of 20"), (10, "10 of 20")])
async def test_who_was_there_is_served_until_an_operator_says_that_they_are_gone(
    site: Site, stores: Stores, server: Slapd, until: Until, gone: int, text: str
) -> None:
    ldif = "".join(delete(sun_dn(name)) for name in NAMES[:gone])
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        with Traffic(site, GROUPS, pause=0.2) as traffic:
            calmed = await calm(traffic, until)
            server.modify(ldif)
            await until(lambda: lost(site), "the loss is told")
            await asyncio.to_thread(in_force, site)
            told = traffic.mark()
            assert text in lost(site)
            await sweeps(site, until, 3)
            await until(lambda: traffic.of("unknown", told) and traffic.of("known", told), "somebody asks")
            assert set(traffic.codes("unknown", told)) == {"451 4.4.3"}
            assert set(traffic.codes("known", calmed)) == {"250 2.1.5"}
            server.modify("\n".join(PEOPLE[:gone]))
            await until(lambda: not lost(site), "they are back")
            back = traffic.mark()
            await until(lambda: "550 5.1.1" in traffic.codes("unknown", back), "unknown addresses are refused again")
            assert set(traffic.codes("known", calmed)) == {"250 2.1.5"}

            server.modify(ldif)
            await until(lambda: lost(site), "the loss is told again")
            await asyncio.to_thread(traffic.stop)
        assert await site.drained() == 0
        traffic.exactly_once(stores.values())
        site.balance()
        database = site.office.database
        database.run_write(partial(accept_loss, domain="example.edu", act=site.office.act("test")))
        first = f"{NAMES[0]}@example.edu"
        if gone == len(NAMES):
            await sweeps(site, until, 2)
            await asyncio.to_thread(in_force, site)
            assert (await asyncio.to_thread(answer, site, first)).startswith("451"), "an empty domain is no authority"
        else:
            await until(lambda: answer(site, first).startswith("550 5.1.1"), "who is gone is refused")
            assert (await asyncio.to_thread(answer, site, f"{NAMES[-1]}@example.edu")).startswith("250")
        assert stores["lists"].arrivals == []


async def test_a_server_that_comes_back_without_its_data(
    tmp_path: Path, site: Site, stores: Stores, server: Slapd, until: Until
) -> None:
    """Restored from nothing on the same port: no base, then a base without people, then everybody."""
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        with Traffic(site, GROUPS, pause=0.2) as traffic:
            calmed = await calm(traffic, until)
            server.stop()
            data, away = server.home / "data", server.home / "away"
            data.rename(away)
            data.mkdir()
            server.start()
            began = traffic.mark()
            await until(lambda: states(site)[0].fault, "the fault is told")
            told = traffic.mark()
            await asyncio.sleep(1.5)
            await until(lambda: traffic.of("unknown", told) and traffic.of("known", told), "somebody asks")
            assert set(traffic.codes("unknown", told)) == {"451 4.4.3"}
            assert set(traffic.codes("known", began)) == {"250 2.1.5"}
            server.stop()
            data.rename(server.home / "empty")
            away.rename(data)
            server.start()
            back = traffic.mark()
            await until(lambda: "550 5.1.1" in traffic.codes("unknown", back), "unknown addresses are refused again")
            assert set(traffic.codes("known", calmed)) == {"250 2.1.5"}
            await asyncio.to_thread(traffic.stop)
        assert await site.drained() == 0
        traffic.exactly_once(stores.values())
        site.balance()
