"""A directory beside other trouble: an older control database, the end of the daemon, refusals that may be over."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.directory_site import answer, directory_site, followed, states
from support.people_ldif import NEW_HOST, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.control import mailboxes
from router.control.database import ControlDatabase
from router.ledger.stores import RecordingStore

LDAP = {"receive_timeout": "9s", "deadline": "9s", "connect_timeout": "3s"}
SOON, TRIES = 7.0, 3
"""Seconds, less than a lookup may take; and ends of a relay, until one was not in the way of a pause of the machine."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Until = Callable[..., Awaitable[None]]
ANN, BOB = "ann@example.edu", "bob@example.edu"


@pytest.fixture
def server() -> Iterator[Slapd]:
    with Slapd([sun_domain("example.edu"), sun_person("ann"), sun_person("bob", NEW_HOST)]) as one:
        yield one


@pytest.fixture
def site(tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd) -> Site:
    roles = {"old": "old", "new": "new", "lists": "other"}
    at = [StoreAt(name, store.port, role=roles[name]) for name, store in stores.items()]
    return directory_site(tmp_path, at, server, ldap=LDAP)


async def test_an_older_copy_of_the_database_learns_what_was_read_since(
    site: Site, server: Slapd, until: Until
) -> None:
    path = site.state_dir / "control.db"
    copy = path.with_suffix(".new")
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        await asyncio.to_thread(shutil.copy2, path, copy)
        server.modify(replace(sun_dn("ann"), mailHost=NEW_HOST))
        await until(lambda: home(path) == "new", "the new home is known")
        assert home(copy) == "old"
        copy.replace(path)
        await until(lambda: home(path) == "new", "it is known again, long before the next sweep")


def home(path: Path) -> str:
    """Ann's, by this database file."""
    database = ControlDatabase.open(f"sqlite:///{path}")
    try:
        return database.run_read(lambda c: mailboxes.find(c, [ANN])).mailboxes[ANN].home
    finally:
        database.close()


async def test_refusals_are_temporary_while_the_directory_is_down(site: Site, server: Slapd, until: Until) -> None:
    server.modify(replace(sun_dn("bob"), mailUserStatus="disabled"))
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        await until(lambda: answer(site, BOB).startswith("550 5.2.1"), "bob is disabled")
        server.stop()
        await until(lambda: any(one.fault for one in states(site)), "the outage is told")
        await until(lambda: not answer(site, BOB).startswith("5"), "the old refusal is doubt")
        assert answer(site, ANN).startswith("250")


async def test_a_silent_directory_does_not_delay_the_end(site: Site, server: Slapd, until: Until) -> None:
    took = [await stopped_within(site, server, until)]
    while took[-1] >= SOON and len(took) < TRIES:
        took.append(await stopped_within(site, server, until))
    assert min(took) < SOON, f"it took {took} s, and a lookup may take longer than that"


async def stopped_within(site: Site, server: Slapd, until: Until) -> float:
    """Seconds that the end of a relay takes while three clients wait for a lookup."""
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        server.stall()
        asked = [asyncio.ensure_future(asyncio.to_thread(answer, site, f"nobody{n}@example.edu")) for n in range(3)]
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await asyncio.to_thread(site.stop)
        took = time.monotonic() - began
        server.wake()
        said = await asyncio.gather(*asked, return_exceptions=True)
        assert not [one for one in said if str(one).startswith("5")]
    return took
