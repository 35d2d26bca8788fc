"""
People of a directory without a status (sendmail's schema) who get another name, or another entry, while a command
holds them: senders try again, and nothing goes to the old home.
"""

import asyncio
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
    record,
    sluice,
    tags,
)
from support.people_ldif import NEW_HOST, PEOPLE, delete, replace, sendmail_recipient
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Until = Callable[..., Awaitable[None]]
ANN, AAA, BOB, A_BOB = "ann@example.edu", "aaa@example.edu", "bob@example.edu", "a.bob@example.edu"
ANN_DN, BOB_DN, BOBBY_DN = (f"uid={name},{PEOPLE}" for name in ("ann", "bob", "bobby"))
WHY = ("--reason", "test")


@pytest.fixture
def server() -> Iterator[Slapd]:
    with Slapd([sendmail_recipient(name) for name in ("ann", "bob", "cat")]) as one:
        yield one


@pytest.fixture
async def site(tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd) -> Site:
    at = [StoreAt(name, store.port, role="new" if name == "new" else "old") for name, store in stores.items()]
    ldap = {"schema": "sendmail", "sweep": "500ms", "max_loss": 1}
    return directory_site(tmp_path, at, server, ldap=ldap, workers=2)


async def send(site: Site, address: str, tag: str) -> Sent:
    await asyncio.to_thread(submit, site, address, tag=tag)
    return Sent(tag, (address,), 0.0)


def arrived(stores: dict[str, RecordingStore], *recipients: str) -> list[str]:
    return [tag for store in stores.values() for one in recipients for tag in tags(store, one)]


async def test_an_alias_that_sorts_first_waits_for_the_release(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        assert (await site.hold(ANN)).quiet
        server.modify(replace(ANN_DN, mailLocalAddress=(AAA, ANN)))
        async with Traffic(site, AAA, every=0.05, patient=True) as traffic:
            await until(lambda: alarms(site, "directory-drift") != [], "the new name is known")
            sent = [await send(site, ANN, "m1")]
            await asyncio.sleep(1.0)  # polls and sweeps, and whatever the workers make of them
            assert traffic.sent == []
            assert answer(site, AAA).startswith("451")
            assert f"{ANN}: it is {AAA} in ldap now; its mail stays on hold" in alarms(site, "directory-drift")
            assert arrived(stores, ANN, AAA) == []
            refused = await sluice(site, "hold", AAA, *WHY)
            assert refused.code == 65, refused
            assert f"its entry belongs to {ANN}, which a command holds" in refused.error
            released = await sluice(site, "release", ANN, "--to", "new", *WHY)
            assert released.code == 0, released
            (told,) = released.document["releases"]
            assert (told["home"], told["drift"]) == ("new", f"it is {AAA} now")
            await traffic.some(3)
        sent.append(await send(site, ANN, "m2"))
        assert await site.drained() == 0
        exactly_once(sent, ANN, [stores["new"]])
        exactly_once(traffic.sent, AAA, [stores["new"]])
        assert server.entry(ANN_DN)["mailHost"] == [NEW_HOST]
        assert record(site, AAA).mailbox.home == "new"
        assert alarms(site, "directory-drift") == alarms(site, "directory-problem") == []
        nobody_was_told(site, stores.values())


async def test_an_entry_that_is_deleted_and_added_anew_under_another_name(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        assert (await site.hold(BOB)).quiet
        server.modify(delete(BOB_DN))
        server.modify(sendmail_recipient("bobby", mailLocalAddress=(A_BOB, BOB)))
        async with Traffic(site, A_BOB, every=0.05, patient=True) as traffic:
            gone = f"{BOB}: it is {A_BOB} in ldap now; its mail stays on hold"
            await until(lambda: gone in alarms(site, "directory-drift"), "a sweep has seen that the first is gone")
            sent = [await send(site, BOB, "m1")]
            await asyncio.sleep(0.5)
            assert traffic.sent == []
            assert arrived(stores, BOB, A_BOB) == []
            refused = await sluice(site, "release", BOB, "--to", "new", *WHY)
            assert refused.code == 65, refused
            assert f"{BOB} is {A_BOB} in ldap now" in refused.document["releases"][0]["error"]
            server.modify(replace(BOBBY_DN, mailHost=NEW_HOST))
            await until(lambda: record(site, A_BOB).mailbox.home == "new", "what the directory says is read")
            assert traffic.sent == []
            released = await sluice(site, "release", BOB, *WHY)
            assert released.code == 0, released
            assert released.document["releases"][0]["drift"] == f"it is {A_BOB} now"
            await traffic.some(3)
        assert await site.drained() == 0
        exactly_once(sent, BOB, [stores["new"]])
        exactly_once(traffic.sent, A_BOB, [stores["new"]])
        assert hold_of(site, A_BOB) == ""
        assert alarms(site, "directory-drift") == alarms(site, "directory-problem") == []
        nobody_was_told(site, stores.values())
