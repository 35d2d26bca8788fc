"""
Servers that do not answer as they should: silent, closing, with an expired certificate, a wrong password, limits,
referrals, no such base. Known people are served by what is known, nobody is refused for good, the alarm says why.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.directory_site import answer, directory_site, followed, source_of, submit
from support.directory_traffic import Traffic
from support.people_ldif import NEW_HOST, PEOPLE, referral, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import BASE, Follows, Security, Slapd

from router.control import alarms
from router.ledger.stores import RecordingStore

pytestmark = pytest.mark.slow

Until = Callable[..., Awaitable[None]]
Stores = dict[str, RecordingStore]
ANN, BOB, NOBODY = "ann@example.edu", "bob@example.edu", "nobody@example.edu"
PERSONS = [sun_domain("example.edu"), sun_person("ann"), sun_person("bob", NEW_HOST)]
CROWD = [sun_person(f"user{number}") for number in range(30)]
SMALL = "sizelimit size.soft=5 size.hard=5 size.prtotal=20"
"""Entries in one answer, and in all pages of one search."""


@pytest.fixture
def server() -> Iterator[Slapd]:
    with Slapd(PERSONS) as one:
        yield one


@pytest.fixture
def site(tmp_path: Path, stores: Stores, server: Slapd) -> Site:
    return directory_site(tmp_path, places(stores), server)


def places(stores: Stores) -> list[StoreAt]:
    roles = {"old": "old", "new": "new", "lists": "other"}
    return [StoreAt(name, store.port, role=roles[name]) for name, store in stores.items()]


def down(site: Site) -> str:
    """The text of the alarm for the directory, '' when there is none."""
    found = site.office.database.run_read(alarms.open_alarms)
    return next((one.text for one in found if one.kind == "directory-down" and one.key == "ldap"), "")


@contextlib.asynccontextmanager
async def listener(*, closes: bool) -> AsyncIterator[str]:
    """The URI of a server that takes connections and says nothing, or closes them at once."""
    writers: list[asyncio.StreamWriter] = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close() if closes else writers.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"ldap://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def spoilt(site: Site, server: Slapd, until: Until, ldap: dict[str, Any], why: str) -> None:
    """With this in the source of the directory: known people are served, others wait, the alarm says why."""
    source = {key: value for key, value in (source_of(server) | ldap).items() if value is not None}
    await asyncio.to_thread(site.reload, {"directory": ["database", {"ldap": source}]})
    with contextlib.suppress(AssertionError):
        await until(lambda: why in down(site), "the alarm says why", patience=15.0)
    assert why in down(site)
    for address, said in ((ANN, "250"), ("ann+x@example.edu", "250"), (NOBODY, "451 4.4.3")):
        assert (await asyncio.to_thread(answer, site, address)).startswith(said), (why, address)


async def mended(site: Site, server: Slapd, stores: Stores, until: Until, count: int) -> None:
    await asyncio.to_thread(site.reload, {"directory": ["database", {"ldap": source_of(server)}]})
    await until(lambda: not down(site), "the directory is followed again")
    await until(lambda: answer(site, NOBODY).startswith("550 5.1.1"), "unknown is said again", patience=10.0)
    await asyncio.to_thread(submit, site, ANN, BOB, tag="last")
    assert await site.drained() == 0
    assert [len(stores[name].arrivals) for name in ("old", "new", "lists")] == [count, count, 0]
    site.balance()


async def test_servers_that_do_not_answer(site: Site, stores: Stores, server: Slapd, until: Until) -> None:
    async with listener(closes=False) as silent, listener(closes=True) as closing, site:
        await until(lambda: followed(site), "the directory is followed")
        for number, (uri, why) in enumerate(((silent, "no answer in time"), (closing, "terminated by server"))):
            await spoilt(site, server, until, {"uri": uri}, why)
            await asyncio.to_thread(submit, site, ANN, BOB, tag=f"m{number}")
        await mended(site, server, stores, until, 3)


async def test_logins_that_are_refused_and_certificates_that_are_not_believed(
    tmp_path: Path, stores: Stores, until: Until
) -> None:
    authority, past = trustme.CA(), datetime.now(UTC) - timedelta(days=1)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "wrong").chmod(0o600)
    expired = authority.issue_cert("localhost", not_before=past - timedelta(days=9), not_after=past)
    with Slapd(PERSONS, security=Security(expired)) as server:
        site = directory_site(tmp_path, places(stores), server)
        tls = {"ca_file": str(tmp_path / "ca.pem"), "plain_password": None}
        async with site:
            await until(lambda: followed(site), "the directory is followed")
            await spoilt(site, server, until, {"uri": server.tls_uri, **tls}, "expired")
            await spoilt(
                site, server, until, {"starttls": True, "uri": f"ldap://localhost:{server.port}", **tls}, "expired"
            )
            await spoilt(site, server, until, {"password_file": str(tmp_path / "wrong")}, "login: result 49")
            assert "let (me) in" not in site.relay.log.read_text()
            await mended(site, server, stores, until, 1)


async def test_answers_that_are_none(site: Site, stores: Stores, server: Slapd, until: Until) -> None:
    elsewhere = referral("away", "ldap://127.0.0.1:9")
    with Slapd([*PERSONS, elsewhere]) as referring:
        async with site:
            await until(lambda: followed(site), "the directory is followed")
            await spoilt(site, server, until, {"base": f"ou=nowhere,{BASE}"}, "result 32")
            await spoilt(site, server, until, {"uri": referring.uri, "base": f"ou=away,{PEOPLE}"}, "result 10")
            await spoilt(site, server, until, {"uri": referring.uri}, "referrals are not followed")
            await mended(site, server, stores, until, 1)


async def test_a_server_whose_limit_cuts_the_sweep_short_takes_nobody_away(
    tmp_path: Path, stores: Stores, until: Until
) -> None:
    with Slapd([*PERSONS, *CROWD]) as server, Slapd([*PERSONS, *CROWD], limits=SMALL) as small:
        site = directory_site(tmp_path, places(stores), server)
        async with site:
            await until(lambda: followed(site), "the directory is followed")
            source = source_of(server) | {"uri": small.uri, "page_size": 10}
            await asyncio.to_thread(site.reload, {"directory": ["database", {"ldap": source}]})
            await until(lambda: down(site), "the sweep fails", patience=15.0)
            assert "result 4" in down(site)
            for number in range(30):
                assert (await asyncio.to_thread(answer, site, f"user{number}@example.edu")).startswith("250")
            await mended(site, server, stores, until, 1)


@pytest.mark.parametrize("how", ["silent", "killed"])
async def test_another_server_takes_over(tmp_path: Path, stores: Stores, until: Until, how: str) -> None:
    groups = {"known": (ANN, BOB), "extended": ("ann+x@example.edu",), "unknown": ("nobody-{}@example.edu", NOBODY)}
    with Slapd([*PERSONS, *CROWD]) as first, Slapd(follows=Follows(first)) as second:
        await until(lambda: second.entry(sun_dn("bob")), "the replica has everybody")
        site = directory_site(tmp_path, places(stores), first, ldap={"uri": [first.uri, second.uri]})
        async with site:
            await until(lambda: followed(site), "the directory is followed")
            with Traffic(site, groups) as traffic:
                await until(lambda: "550 5.1.1" in traffic.codes("unknown"), "unknown addresses are refused")
                (first.stall if how == "silent" else first.kill)()
                mark = traffic.mark()
                await asyncio.sleep(3.0)
                later = traffic.mark()
                await asyncio.sleep(1.0)
                assert set(traffic.codes("known", mark)) == set(traffic.codes("extended", mark)) == {"250 2.1.5"}
                assert set(traffic.codes("unknown", since=later)) == {"550 5.1.1"}
                assert not down(site)
                await asyncio.to_thread(traffic.stop)
            assert await site.drained() == 0
            traffic.exactly_once(stores.values())
            site.balance()
