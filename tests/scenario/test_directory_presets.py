"""The presets besides Sun's, each as a whole site over a real slapd: where mail goes, holds, and a move."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.directory_site import answer, applied, directory_site, followed, submit
from support.hands import hold_of, read_again, record
from support.people_ldif import (
    PEOPLE,
    ad_user,
    replace,
    sendmail_recipient,
    zimbra_account,
    zimbra_domain,
)
from support.site import Site, StoreAt
from support.slapd import BASE, Slapd

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Until = Callable[..., Awaitable[None]]
Stores = dict[str, RecordingStore]
Make = Callable[..., Site]
ANN, BOB = "ann@example.edu", "bob@example.edu"
UID_ANN, CN_ANN = f"uid=ann,{PEOPLE}", f"cn=ann,{PEOPLE}"


@pytest.fixture
def make(tmp_path: Path, stores: Stores) -> Make:
    roles = {"old": "old", "new": "new", "lists": "other"}
    at = [StoreAt(name, store.port, role=roles[name]) for name, store in stores.items()]

    def made(server: Slapd, **ldap: Any) -> Site:
        return directory_site(tmp_path, at, server, ldap=ldap, smarthost="lists")

    return made


def arrived(stores: Stores, tag: str) -> list[tuple[str, str]]:
    """Store and recipient of everything that came of a message, sorted."""
    all_ = ((name, one) for name, store in stores.items() for one in store.arrivals if one.tag == tag)
    return sorted((name, address) for name, one in all_ for address, _ in one.recipients)


async def served(site: Site, until: Until, address: str = ANN) -> None:
    await until(lambda: followed(site) and answer(site, address).startswith("250"), "the directory is followed")


async def test_zimbra(make: Make, stores: Stores, until: Until) -> None:
    homes = {"zimbra1.example.edu": "old", "zimbra2.example.edu": "new"}
    people = [zimbra_domain("example.edu"), zimbra_account("ann"), zimbra_account("bob", "zimbra2.example.edu")]
    with Slapd(people) as server:
        async with make(server, schema="zimbra", homes=homes) as site:
            await served(site, until)
            server.modify(replace(UID_ANN, zimbraAccountStatus="maintenance"))
            await until(lambda: hold_of(site, ANN) == "quiet directory", "maintenance is a hold")
            await asyncio.to_thread(submit, site, ANN, BOB, tag="m1")
            assert await site.left_at(1, 1.0) == 1
            server.modify(replace(UID_ANN, zimbraAccountStatus="active"))
            assert await site.drained() == 0
            assert arrived(stores, "m1") == [("new", BOB), ("old", ANN)]
            assert (await site.hold(ANN)).quiet
            assert server.entry(UID_ANN)["zimbraAccountStatus"] == ["maintenance"]
            await asyncio.to_thread(submit, site, ANN, tag="m2")
            assert (await site.release(ANN, to="new")).home == "new"
            found = server.entry(UID_ANN)
            assert found["zimbraAccountStatus"] == ["active"]
            assert "zimbra2.example.edu" in found["zimbraMailTransport"][0]
            assert await site.drained() == 0
            assert arrived(stores, "m2") == [("new", ANN)]
            server.modify(replace(UID_ANN, zimbraAccountStatus="closed"))
            await until(lambda: answer(site, ANN).startswith("550 5.2.1"), "a closed account is disabled")


async def test_active_directory(make: Make, stores: Stores, until: Until) -> None:
    homes = {"mailbox database 1": "old", "mailbox database 2": "new"}
    moved = f"cn=mailbox database 2,cn=exchange,{BASE}"
    people = [ad_user("ann", 101), ad_user("bob", 102, homeMDB=moved)]
    with Slapd(people) as server:
        async with make(server, schema="activedirectory", homes=homes, change_attribute="uSNChanged") as site:
            await served(site, until)
            assert (await site.hold(ANN)).quiet, "known to us only"
            await asyncio.to_thread(submit, site, "ann.alias@example.edu", BOB, tag="m1")
            assert await site.left_at(1, 1.0) == 1
            # Exchange moves the mailbox: the hold of the command stays until the command that ends it.
            server.modify(replace(CN_ANN, homeMDB=moved, uSNChanged="103"))
            seen = server.mark()
            await asyncio.sleep(1.0)
            await read_again(site, server, seen)
            assert arrived(stores, "m1") == [("new", BOB)]
            await site.release(ANN)
            assert await site.drained() == 0
            assert arrived(stores, "m1") == [("new", "ann.alias@example.edu"), ("new", BOB)]
            assert record(site, ANN).mailbox.home == "new"


async def test_sendmail(make: Make, stores: Stores, until: Until) -> None:
    people = [
        sendmail_recipient("ann"),
        sendmail_recipient("bob", routing="robert@new.example.edu"),
        sendmail_recipient("carl", None, "carl@outside.example"),
        sendmail_recipient("dora", "mx.example.edu", ANN),
        sendmail_recipient("eve", None),
    ]
    expected = {
        ANN: [("old", ANN)],
        BOB: [("old", "robert@new.example.edu")],
        "carl@example.edu": [("lists", "carl@outside.example")],
        "dora@example.edu": [("old", ANN)],
    }
    with Slapd(people) as server:
        async with make(server, schema="sendmail") as site:
            await served(site, until)
            for number, address in enumerate(expected):
                await asyncio.to_thread(submit, site, address, tag=f"m{number}")
            assert await site.drained() == 0
            assert {one: arrived(stores, f"m{number}") for number, one in enumerate(expected)} == expected
            assert (await asyncio.to_thread(answer, site, "eve@example.edu")).startswith("451 4.3.5")
            moved = await site.move(ANN, "new")
            assert moved.release is not None
            assert server.entry(UID_ANN)["mailHost"] == ["newmail.example.edu"]
            await until(lambda: applied(site), "it is in force")
            await asyncio.to_thread(submit, site, ANN, tag="moved")
            assert await site.drained() == 0
            assert arrived(stores, "moved") == [("new", ANN)]
