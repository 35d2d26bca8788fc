"""Every status of Sun's, set by ldapmodify: what senders are told, and what becomes of mail accepted before."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.directory_site import answer, directory_site, followed, source_of, submit
from support.hands import Sent, alarms, exactly_once, hold_of, nobody_was_told, record, tags
from support.people_ldif import NEW_HOST, OLD_HOST, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Until = Callable[..., Awaitable[None]]
DOMAIN = "o=example.edu,ou=domains,dc=example,dc=edu"
ANSWERS = {
    "inactive": "450 4.2.1",
    "disabled": "550 5.2.1",
    "deleted": "550 5.1.1",
    "removed": "550 5.1.1",
    "overquota": "452 4.2.2",
    "frozen": "450 4.2.1",
    "hold": "250",
}


def address(status: str) -> str:
    return f"{status}@example.edu"


@pytest.fixture
def server() -> Iterator[Slapd]:
    people = [sun_person(status) for status in (*ANSWERS, "missing", "bystander")]
    with Slapd([sun_domain("example.edu"), *people]) as one:
        yield one


@pytest.fixture
async def site(tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd) -> Site:
    at = [StoreAt(name, store.port, role="new" if name == "new" else "old") for name, store in stores.items()]
    return directory_site(tmp_path, at, server)


def answers(site: Site) -> dict[str, str]:
    """Code and enhanced code of RCPT for everybody."""
    found = {status: answer(site, address(status)) for status in ANSWERS}
    return {status: text[: len(ANSWERS[status])] for status, text in found.items()}


def change(server: Slapd, status: str, attribute: str = "mailUserStatus") -> None:
    """Everybody has the status that they are named for, or all of them this one."""
    texts = [replace(sun_dn(name), **{attribute: name if status == "own" else status}) for name in ANSWERS]
    server.modify("".join(texts))


async def test_what_senders_are_told(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        change(server, "own")
        server.modify(replace(sun_dn("missing"), mailUserStatus=None))
        await until(lambda: answers(site) == ANSWERS, "everybody's status counts")
        (doubt,) = alarms(site, "directory-doubt")
        assert "frozen" in doubt
        assert "uid=frozen" in doubt
        # The domain's status comes before everybody's own, and the first attribute before the second.
        server.modify(replace(DOMAIN, mailDomainStatus="inactive"))
        suspended = dict.fromkeys(ANSWERS, "450")
        await until(lambda: {one: text[:3] for one, text in answers(site).items()} == suspended, "the domain's counts")
        assert hold_of(site, address("hold")) == ""
        server.modify(replace(DOMAIN, mailDomainStatus=None))
        await until(lambda: answers(site) == ANSWERS, "the domain has none any more")
        change(server, "disabled", "inetUserStatus")
        await until(lambda: answer(site, address("hold")).startswith("550 5.2.1"), "inetUserStatus comes first")
        change(server, "active", "inetUserStatus")
        change(server, "active")
        await until(lambda: set(answers_short(site)) == {"250"}, "everybody is active again")
        assert alarms(site, "directory-doubt") == []
        sent = []
        for name in (*ANSWERS, "missing"):
            await asyncio.to_thread(submit, site, address(name), tag=name)
            sent.append(Sent(name, (address(name),), 0.0))
        assert await site.drained() == 0
        for name in (*ANSWERS, "missing"):
            exactly_once(sent, address(name), [stores["old"]])


def answers_short(site: Site) -> list[str]:
    return [answer(site, address(status))[:3] for status in ANSWERS]


async def test_mail_accepted_before_waits_and_is_returned_to_nobody(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    old = stores["old"]
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        old.behaviour = Behaviour(replies={Stage.RCPT: "451 4.3.0 not now"})
        for name in ANSWERS:
            await asyncio.to_thread(submit, site, address(name), tag=name)
        await until(lambda: len(old.attempts) >= len(ANSWERS), "everything was tried")
        change(server, "own")
        await until(lambda: answers(site) == ANSWERS, "everybody's status counts")
        old.behaviour = Behaviour()
        assert await site.left_at(len(ANSWERS), 3.0) == len(ANSWERS), "retries go by, and everything is kept"
        assert all(tags(old, address(name)) == [] for name in ANSWERS)
        nobody_was_told(site, stores.values())
        change(server, "active")
        assert await site.drained() == 0
        sent = [Sent(name, (address(name),), 0.0) for name in ANSWERS]
        for name in ANSWERS:
            exactly_once(sent, address(name), [old])
        nobody_was_told(site, stores.values())
        site.balance()


@pytest.mark.parametrize("workers", [2])
async def test_homes_are_mapped_otherwise_in_the_middle_of_somebody_elses_hold(
    tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd, until: Until, workers: int
) -> None:
    at = [StoreAt(name, store.port, role="new" if name == "new" else "old") for name, store in stores.items()]
    site = directory_site(tmp_path, at, server, workers=workers)
    held, third = address("hold"), "third.example.edu"
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        server.modify(replace(sun_dn("hold"), mailUserStatus="hold"))
        await until(lambda: hold_of(site, held) == "quiet directory", "the hold is quiet")
        number = record(site, held).mailbox.hold
        assert number is not None
        pids = site.worker_pids()
        await asyncio.to_thread(submit, site, held, tag="m1")
        server.modify(replace(sun_dn("hold"), mailHost=third))
        await until(lambda: alarms(site, "directory-problem"), "a home that means no store is told")
        assert third in alarms(site, "directory-problem")[0]
        assert "uid=hold" in alarms(site, "directory-problem")[0]
        assert (await asyncio.to_thread(answer, site, held)).startswith("250"), "on hold, mail is kept all the same"
        server.modify(replace(sun_dn("missing"), mailHost=third))
        await until(lambda: answer(site, address("missing")).startswith("451 4.3.5"), "nobody else's is")
        homes = {third: "new", OLD_HOST: "lists", NEW_HOST: "new"}
        source = source_of(server, {"homes": homes})
        await asyncio.to_thread(site.reload, {"directory": ["database", {"ldap": source}]})
        await until(lambda: answer(site, address("missing")).startswith("250"), "the new mapping counts")
        await until(lambda: record(site, address("bystander")).mailbox.home == "lists", "for everybody")
        await until(lambda: record(site, held).mailbox.home == "new", "for who is on hold, too")
        still = record(site, held).mailbox.hold
        assert still is not None
        assert (still.number, still.quiet_at) == (number.number, number.quiet_at), "the hold went on"
        assert site.worker_pids() == pids
        assert all(tags(store, held) == [] for store in stores.values())
        server.modify(replace(sun_dn("hold"), mailUserStatus="active"))
        assert await site.drained() == 0
        assert tags(stores["new"], held) == ["m1"]
        await asyncio.to_thread(submit, site, address("bystander"), tag="m2")
        assert await site.drained() == 0
        assert tags(stores["lists"], address("bystander")) == ["m2"]
        assert alarms(site, "directory-problem") == []
        site.balance()
