"""
Servers that do not answer as they should: silent, closing, with an expired certificate, a wrong password, limits,
referrals, no such base. Under traffic, known people are served by what is known, nobody is refused for good, the
alarm says why.
"""

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
from support.directory_site import QUICK, answer, directory_site, followed, source_of
from support.directory_traffic import Traffic
from support.people_ldif import NEW_HOST, PEOPLE, referral, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import BASE, Follows, Security, Slapd

from router.control import alarms
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Until = Callable[..., Awaitable[None]]
Stores = dict[str, RecordingStore]
TAKEN, REFUSED, PUT_OFF = "250 2.1.5", "550 5.1.1", "451 4.4.3"
GROUPS = {
    "known": ("ann@example.edu", "bob@example.edu"),
    "extended": ("ann+x@example.edu",),
    "unknown": ("nobody-{}@example.edu", "nobody@example.edu"),
}
DEADLINE = 2.0
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


class Trial:
    """A site under traffic whose directory's `ldap:` section is spoilt again and again, and mended in the end."""

    def __init__(self, site: Site, server: Slapd, stores: Stores, until: Until) -> None:
        self.site = site
        self._server = server
        self._stores = stores
        self._until = until
        self._traffic = Traffic(site, GROUPS)

    async def __aenter__(self) -> Self:
        await self._until(lambda: followed(self.site), "the directory is followed")
        self._traffic.__enter__()
        await self._until(lambda: REFUSED in self._traffic.codes("unknown"), "unknown addresses are refused")
        self._began = self._traffic.mark()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._traffic.__exit__()

    async def spoil(self, ldap: Mapping[str, Any], why: str, *, unknown: str = PUT_OFF) -> None:
        """With this in the section: known people are served, `unknown` is said to others, the alarm says why."""
        await self._reload(ldap)
        with contextlib.suppress(AssertionError):
            await self._until(lambda: why in down(self.site), "the alarm says why")
        assert why in down(self.site)
        # The alarm is the follower's; a worker may not have heard of the section yet.
        heard = self._traffic.mark()
        await self._until(lambda: unknown in self._traffic.codes("unknown", heard), "unknown addresses are answered so")
        told = self._traffic.mark()
        await asyncio.sleep(1.0)
        await self._until(lambda: all(self._traffic.codes(group, told) for group in GROUPS), "everybody has an answer")
        for group in GROUPS:
            wanted = unknown if group == "unknown" else TAKEN
            assert set(self._traffic.codes(group, told)) == {wanted}, (why, group)
            # A pause of the machine makes any one of them longer.
            assert statistics.median(one.seconds for one in self._traffic.of(group, told)) < DEADLINE + 1

    async def mend(self) -> None:
        """The section as it was: unknown addresses are refused again, everything accepted arrives once."""
        await self._reload({})
        await self._until(lambda: not down(self.site), "the directory is followed again")
        back = self._traffic.mark()
        await self._until(lambda: REFUSED in self._traffic.codes("unknown", back), "unknown is said again")
        await asyncio.to_thread(self._traffic.stop)
        for group in ("known", "extended"):
            assert set(self._traffic.codes(group, self._began)) == {TAKEN}
        assert await self.site.drained() == 0
        self._traffic.exactly_once(self._stores.values())
        self.site.balance()

    async def _reload(self, ldap: Mapping[str, Any]) -> None:
        source = {key: value for key, value in (source_of(self._server) | dict(ldap)).items() if value is not None}
        await asyncio.to_thread(self.site.reload, {"directory": ["database", {"ldap": source}]})


async def test_servers_that_do_not_answer(site: Site, stores: Stores, server: Slapd, until: Until) -> None:
    async with (
        listener(closes=False) as silent,
        listener(closes=True) as closing,
        site,
        Trial(site, server, stores, until) as trial,
    ):
        await trial.spoil({"uri": silent} | QUICK, "no answer in time")
        await trial.spoil({"uri": closing}, "terminated by server")
        await trial.mend()


async def test_logins_that_are_refused_and_certificates_that_are_not_believed(
    tmp_path: Path, stores: Stores, until: Until
) -> None:
    authority, past = trustme.CA(), datetime.now(UTC) - timedelta(days=1)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "wrong").chmod(0o600)
    expired = authority.issue_cert("localhost", not_before=past - timedelta(days=9), not_after=past)
    tls = {"ca_file": str(tmp_path / "ca.pem"), "plain_password": None}
    with Slapd(PERSONS, security=Security(expired)) as server:
        site = directory_site(tmp_path, places(stores), server)
        async with site, Trial(site, server, stores, until) as trial:
            await trial.spoil({"uri": server.tls_uri, **tls}, "expired")
            await trial.spoil({"uri": f"ldap://localhost:{server.port}", "starttls": True, **tls}, "expired")
            await trial.spoil({"password_file": str(tmp_path / "wrong")}, "login: result 49")
            assert "let (me) in" not in site.relay.log.read_text()
            await trial.mend()


async def test_answers_that_are_none(site: Site, stores: Stores, server: Slapd, until: Until) -> None:
    elsewhere = referral("away", "ldap://127.0.0.1:9")
    with Slapd([*PERSONS, elsewhere]) as referring:
        async with site, Trial(site, server, stores, until) as trial:
            await trial.spoil({"base": f"ou=nowhere,{BASE}"}, "result 32")
            await trial.spoil({"uri": referring.uri, "base": f"ou=away,{PEOPLE}"}, "result 10")
            await trial.spoil({"uri": referring.uri}, "referrals are not followed")
            await trial.mend()


async def test_a_server_whose_limit_cuts_the_sweep_short_takes_nobody_away(
    tmp_path: Path, stores: Stores, until: Until
) -> None:
    with Slapd([*PERSONS, *CROWD]) as server, Slapd([*PERSONS, *CROWD], limits=SMALL) as small:
        site = directory_site(tmp_path, places(stores), server)
        async with site, Trial(site, server, stores, until) as trial:
            # Its sweeps fail, yet it answers who is asked for: a no of such an answer counts.
            await trial.spoil({"uri": small.uri, "page_size": 10}, "result 4", unknown=REFUSED)
            for number in range(30):
                assert (await asyncio.to_thread(answer, site, f"user{number}@example.edu")).startswith("250")
            await trial.mend()


@pytest.mark.parametrize("how", ["silent", "killed"])
async def test_another_server_takes_over(tmp_path: Path, stores: Stores, until: Until, how: str) -> None:
    with Slapd([*PERSONS, *CROWD]) as first, Slapd(follows=Follows(first)) as second:
        await until(lambda: second.entry(sun_dn("bob")), "the replica has everybody")
        site = directory_site(tmp_path, places(stores), first, ldap=QUICK | {"uri": [first.uri, second.uri]})
        async with site:
            await until(lambda: followed(site), "the directory is followed")
            with Traffic(site, GROUPS) as traffic:
                await until(lambda: REFUSED in traffic.codes("unknown"), "unknown addresses are refused")
                (first.stall if how == "silent" else first.kill)()
                mark = traffic.mark()
                await asyncio.sleep(3.0)
                gone = traffic.mark()
                await until(lambda: REFUSED in traffic.codes("unknown", gone), "the other one is asked")
                later = traffic.mark()
                await asyncio.sleep(1.0)
                await until(lambda: len(traffic.of("unknown", later)) >= 8, "it is asked again")
                assert set(traffic.codes("known", mark)) == set(traffic.codes("extended", mark)) == {TAKEN}
                said = traffic.codes("unknown", since=later)
                # Now and then an answer is too late for so short a deadline, on a machine that stands still.
                assert set(said) <= {REFUSED, PUT_OFF}
                assert said[REFUSED] > 3 * said[PUT_OFF]
                await until(lambda: not down(site), "no alarm is open")
                await asyncio.to_thread(traffic.stop)
            assert await site.drained() == 0
            traffic.exactly_once(stores.values())
            site.balance()
