"""
Commands and ldapmodify at work on the same people: whose hold ends by whom, deliveries that are under way when a hold
comes from the directory, and people who get another name while they are on hold.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.directory_site import answer, directory_site, followed, submit
from support.hands import (
    Sent,
    Traffic,
    alarms,
    exactly_once,
    hold_of,
    nobody_was_told,
    quiet_at,
    record,
    sluice,
    stages,
    tags,
)
from support.people_ldif import NEW_HOST, OLD_HOST, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Until = Callable[..., Awaitable[None]]
ANN, BOB, SMITH = "ann@example.edu", "bob@example.edu", "ann.smith@example.edu"
DOMAIN = "o=example.edu,ou=domains,dc=example,dc=edu"
WHY = ("--reason", "test")


@pytest.fixture
def server() -> Iterator[Slapd]:
    with Slapd([sun_domain("example.edu"), sun_person("ann"), sun_person("bob")]) as one:
        yield one


@pytest.fixture
async def site(tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd) -> Site:
    at = [StoreAt(name, store.port, role="new" if name == "new" else "old") for name, store in stores.items()]
    return directory_site(tmp_path, at, server, ldap={"sweep": "500ms", "max_loss": 1}, workers=2)


async def send(site: Site, address: str, tag: str) -> Sent:
    await asyncio.to_thread(submit, site, address, tag=tag)
    return Sent(tag, (address,), 0.0)


async def test_a_hold_of_the_directory_is_ended_there_and_not_by_commands(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        server.modify(replace(sun_dn("ann"), mailUserStatus="hold"))
        await until(lambda: hold_of(site, ANN) == "quiet directory", "the hold is quiet")
        sent = await send(site, ANN, "m1")
        joined = await sluice(site, "hold", ANN, *WHY)
        assert joined.code == 0, joined
        assert joined.document["holds"][0]["quiet"]
        for words in (("release", ANN), ("release", ANN, "--to", "new")):
            refused = await sluice(site, *words, *WHY)
            assert refused.code == 65, refused
            assert "set the status back there" in refused.document["releases"][0]["error"]
        moved = await sluice(site, "move", ANN, "--to", "new", "--run", f"touch {copied}", *WHY)
        assert moved.code == 65, moved
        assert not copied.exists(), "what cannot be ended is not copied"
        assert hold_of(site, ANN) == "quiet directory"
        assert server.entry(sun_dn("ann"))["mailHost"] == [OLD_HOST]
        server.modify(replace(sun_dn("ann"), mailUserStatus="active", mailHost=NEW_HOST))
        assert await site.drained() == 0
        exactly_once([sent], ANN, [stores["new"]])


async def test_a_domain_goes_on_hold_while_a_command_holds_one_of_its_people(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        assert (await site.hold(ANN)).quiet
        sent = await send(site, ANN, "m1")
        server.modify(replace(DOMAIN, mailDomainStatus="hold"))
        await until(lambda: hold_of(site, BOB) == "quiet directory", "the domain is on hold")
        assert hold_of(site, ANN) == "quiet command"
        released = await sluice(site, "release", ANN, "--to", "new", *WHY)
        assert released.code == 0, released
        assert "keeps it on hold" in released.document["releases"][0]["drift"]
        assert hold_of(site, ANN).endswith("directory")
        assert server.entry(sun_dn("ann"))["mailUserStatus"] == ["active"]
        await asyncio.sleep(0.5)
        assert tags(stores["old"], ANN) == tags(stores["new"], ANN) == []
        server.modify(replace(DOMAIN, mailDomainStatus="active"))
        assert await site.drained() == 0
        exactly_once([sent], ANN, [stores["new"]])


async def test_deferred_mail_and_mail_under_way_when_the_directory_says_hold(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    old, new = stores["old"], stores["new"]
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        old.behaviour = Behaviour(replies={Stage.RCPT: "451 4.3.0 not now"})
        sent = [await send(site, ANN, f"deferred{number}") for number in range(5)]
        await until(lambda: old.attempts.count(ANN) >= 5, "all were tried")
        come = stages(old)
        old.behaviour = Behaviour(hang=frozenset({Stage.DOT}))
        under_way = await send(site, BOB, "dot")
        await until(lambda: BOB in old.attempts and Stage.DOT in come, "the store has bob's, and says nothing")
        server.modify(replace(sun_dn("ann"), mailUserStatus="hold") + replace(sun_dn("bob"), mailUserStatus="hold"))
        await until(lambda: hold_of(site, BOB) == "open directory", "bob's hold is open")
        arrived = set(tags(old, ANN))
        await asyncio.sleep(0.7)
        assert hold_of(site, BOB) == "open directory", "after the dot, the barrier waits"
        old.behaviour = Behaviour()
        await until(lambda: hold_of(site, BOB) == "quiet directory", "the store has answered")
        await until(lambda: hold_of(site, ANN) == "quiet directory", "so has ann's")
        assert quiet_at(site, BOB) < time.monotonic()
        arrived |= set(tags(old, ANN))
        server.modify(replace(sun_dn("ann"), mailHost=NEW_HOST) + replace(sun_dn("bob"), mailHost=NEW_HOST))
        server.modify(replace(sun_dn("ann"), mailUserStatus="active") + replace(sun_dn("bob"), mailUserStatus="active"))
        assert await site.drained() == 0
        assert set(tags(old, ANN)) == arrived
        assert len(tags(new, ANN)) == len(sent) - len(arrived)
        exactly_once(sent, ANN, stores.values())
        exactly_once([under_way], BOB, [old])
        nobody_was_told(site, stores.values())
        site.balance()


async def test_moved_to_and_fro_by_ldapmodify_under_traffic(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    windows: list[tuple[float, float]] = []
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        async with Traffic(site, ANN, BOB, every=0.01) as traffic:
            for host in (NEW_HOST, OLD_HOST) * 4:
                await traffic.some(8)
                server.modify(replace(sun_dn("ann"), mailUserStatus="hold"))
                await until(lambda: hold_of(site, ANN) == "quiet directory", "the hold is quiet")
                quiet = quiet_at(site, ANN)
                server.modify(replace(sun_dn("ann"), mailHost=host))
                await traffic.some(8)
                windows.append((quiet, time.monotonic()))
                server.modify(replace(sun_dn("ann"), mailUserStatus="active"))
                await until(lambda: hold_of(site, ANN) == "", "the hold has ended")
        assert await site.drained() == 0
        for place, (quiet, end) in enumerate(windows):
            following = windows[place + 1][0] if place + 1 < len(windows) else float("inf")
            wrong = stores["old" if place % 2 == 0 else "new"]
            for store in stores.values():
                assert [one.tag for one in store.arrivals if quiet < one.at < end and _for_ann(one.recipients)] == []
            assert [one.tag for one in wrong.arrivals if end < one.at < following and _for_ann(one.recipients)] == []
        exactly_once(traffic.sent, ANN, stores.values())
        exactly_once(traffic.sent, BOB, [stores["old"]])
        site.balance()


def _for_ann(recipients: tuple[tuple[str, int], ...]) -> bool:
    return ANN in (who for who, _ in recipients)


@pytest.mark.parametrize("by", ["command", "directory"])
async def test_somebody_gets_another_name_while_on_hold(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until, by: str
) -> None:
    """The primary address changes, the former one stays as an alias: the mailbox has another key from then on."""
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        if by == "command":
            assert (await site.hold(ANN)).quiet
        else:
            server.modify(replace(sun_dn("ann"), mailUserStatus="hold"))
        await until(lambda: hold_of(site, ANN) == f"quiet {by}", "ann is on hold")
        sent = [await send(site, ANN, "m1")]
        server.modify(replace(sun_dn("ann"), mail=SMITH, mailAlternateAddress=ANN))
        await until(lambda: not answer(site, SMITH).startswith("55"), "the new name is known")
        await until(lambda: hold_of(site, SMITH).startswith("quiet"), "and on hold, as the entry says")
        named = [await send(site, SMITH, "m2")]
        sent.append(await send(site, ANN, "m3"))
        await asyncio.sleep(1.2)
        assert [tags(store, one) for store in stores.values() for one in (ANN, SMITH)] == [[]] * 6
        if by == "command":
            released = await sluice(site, "release", ANN, "--to", "new", *WHY)
            assert released.code == 0, released
            (told,) = released.document["releases"]
            assert (told["home"], told["drift"]) == ("new", f"it is {SMITH} now")
            assert hold_of(site, SMITH) == ""
        else:
            server.modify(replace(sun_dn("ann"), mailUserStatus="active", mailHost=NEW_HOST))
        assert await site.drained() == 0
        exactly_once(sent, ANN, [stores["new"]])
        exactly_once(named, SMITH, [stores["new"]])
        assert alarms(site, "directory-drift") == []
        assert record(site, SMITH).mailbox.home == "new"
        found = server.entry(sun_dn("ann"))
        assert (found["mailUserStatus"], found["mailHost"]) == (["active"], [NEW_HOST])
        nobody_was_told(site, stores.values())
