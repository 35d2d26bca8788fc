"""What only a directory has: groups, forwards, entries that make no sense, and catch-alls."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from router.classify.classifier import CachingClassifier
from router.classify.domains import DomainTable
from router.classify.lists import ListTable, MailingList
from router.classify.rules import AddressRules, load_rules
from router.classify.services import ServiceTable
from router.errors import BadRouteData, EmptyDomain, LookupFailed
from router.model.address import parse_address
from router.model.change import Change, ChangeKind, ChangeSet
from router.model.mailbox import LIST, Found, Mailbox
from router.model.route import Classification, Deliver, DispatchFacts, Kind
from router.route.routing import Routing
from router.settings.schema import Domain, Settings

DOMAINS = DomainTable(
    {
        "example.edu": Domain(),
        "msd.example.edu": Domain(alias_of="example.edu"),
        "store.example.edu": Domain(unknown="store", store="cliff"),
    }
)
LISTS = ListTable([MailingList("news@example.edu", "lists", "majordomo")])
SERVICES = ServiceTable({"tickets@example.edu": "rt"})
JOE = Mailbox("joe@example.edu", "cliff", source="ldap")
ROOT = Mailbox("root@example.edu", "cliff")
NEWS = Mailbox("news@example.edu", "lists", kind=LIST, source="ldap")
STAFF = Mailbox("staff@example.edu", "lists", kind=LIST, source="ldap")
ANY = Mailbox("other@example.edu", "cliff", forwards=("@old.example",), keeps=False, source="ldap")
CATCH_ALL = {"@example.edu": ANY, "other@example.edu": ANY}


class Clock:
    def wall(self) -> float:
        return 1000.0

    def monotonic(self) -> float:
        return 1000.0


class Directory:
    def __init__(self, *mailboxes: Mailbox) -> None:
        self.people = {one.key: one for one in mailboxes}
        self.doubtful: dict[str, str] = {}
        self.disputed: dict[str, str] = {}
        self.epoch = 1

    async def find(self, keys: Sequence[str]) -> Found:
        await asyncio.sleep(0)
        known = {key: self.people[key] for key in keys if key in self.people}
        disputed = {key: why for key, why in self.disputed.items() if key in known}
        return Found(self.epoch, known, disputed, {key: why for key, why in self.doubtful.items() if key not in known})

    async def populated(self, domain: str) -> bool:
        return any(key.endswith(f"@{domain}") for key in self.people)


class Site:
    def __init__(self, *, catch_all: bool = True, postmaster: str = "root@example.edu") -> None:
        rules = AddressRules(DOMAINS, LISTS, SERVICES, parse_address(postmaster), catch_all=catch_all)
        self.directory = Directory(JOE, ROOT, STAFF)
        self.classifier = CachingClassifier(rules, (self.directory,), Clock(), deadline=60.0)

    async def classify(self, text: str) -> Classification:
        return await self.classifier.classify(parse_address(text))

    async def steps(self, text: str) -> str:
        return "\n".join((await self.classifier.explain(parse_address(text))).steps)

    def change(self, key: str) -> None:
        self.directory.epoch += 1
        change = Change(self.directory.epoch, ChangeKind.ADDRESS, key)
        self.classifier.apply(ChangeSet(self.directory.epoch, (change,), {}))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    await made.classifier.close()


# --- groups


async def test_group_is_a_list_with_its_mailbox(site: Site) -> None:
    found = await site.classify("Staff@example.edu")
    assert (found.kind, found.mailbox, found.chain) == (Kind.LIST, STAFF, ("staff@example.edu",))
    assert (await site.classify("staff+x@msd.example.edu")).kind is Kind.LIST
    assert "class: list (a group of the directory) staff@example.edu, home lists" in await site.steps(
        "staff@example.edu"
    )


async def test_group_and_list_of_one_name_and_store_are_one(site: Site) -> None:
    site.directory.people[NEWS.key] = NEWS
    assert (await site.classify("news@example.edu")).kind is Kind.LIST
    for member in ("news-request@example.edu", "owner-news@example.edu", "news-owner@msd.example.edu"):
        found = await site.classify(member)
        assert (found.kind, found.store, found.mailbox) == (Kind.LIST, "lists", None), member


@pytest.mark.parametrize("address", ["news@example.edu", "news-request@example.edu"])
@pytest.mark.parametrize("other", [replace(NEWS, home="cliff"), replace(NEWS, home=""), replace(NEWS, kind="mailbox")])
async def test_group_on_another_store_than_the_list_is_a_conflict(site: Site, address: str, other: Mailbox) -> None:
    site.directory.people[NEWS.key] = other
    with pytest.raises(BadRouteData):
        await site.classify(address)


async def test_group_and_service_are_a_conflict(site: Site) -> None:
    site.directory.people["tickets@example.edu"] = replace(STAFF, key="tickets@example.edu", home="rt")
    with pytest.raises(BadRouteData):
        await site.classify("tickets@example.edu")


# --- what is explained


async def test_forwards_routing_address_and_problem_are_explained(site: Site) -> None:
    joe = replace(
        JOE, forwards=("a@x.example", "b@x.example"), keeps=False, route="joe@in.example", problem="two hosts"
    )
    site.directory.people[JOE.key] = joe
    steps = await site.steps("joe@example.edu")
    assert "forwards to a@x.example, b@x.example without a copy" in steps
    assert "routing address: joe@in.example" in steps
    assert "problem: two hosts" in steps
    site.directory.people[JOE.key] = replace(JOE, home="", forwards=("a@x.example",), route="joe@in.example")
    steps = await site.steps("joe@example.edu")
    assert "forwards to a@x.example and keeps a copy" in steps
    assert "routing address: joe@in.example, where its mail goes" in steps
    assert "problem" not in steps


# --- catch-alls


async def test_catch_all_takes_what_nobody_has(site: Site) -> None:
    site.directory.people |= CATCH_ALL
    for text in ("Nobody@example.edu", "nobody+x@example.edu", "nobody@msd.example.edu", "unheard-request@example.edu"):
        found = await site.classify(text)
        assert (found.kind, found.mailbox) == (Kind.MAILBOX, ANY), text
    assert "match: @example.edu (the domain's catch-all)" in await site.steps("nobody@example.edu")
    site.directory.people["@store.example.edu"] = ANY
    assert (await site.classify("x@store.example.edu")).mailbox == ANY


@pytest.mark.parametrize(
    ("address", "kind", "key"),
    [
        ("joe@example.edu", Kind.MAILBOX, "joe@example.edu"),
        ("joe+x@example.edu", Kind.MAILBOX, "joe@example.edu"),
        ("joe@msd.example.edu", Kind.MAILBOX, "joe@example.edu"),
        ("staff@example.edu", Kind.LIST, "staff@example.edu"),
        ("news@example.edu", Kind.LIST, ""),
        ("news-request@example.edu", Kind.LIST, ""),
        ("news+token@example.edu", Kind.LIST, ""),
        ("tickets@example.edu", Kind.SERVICE, ""),
        ("postmaster@example.edu", Kind.MAILBOX, "root@example.edu"),
        ("x@outside.example", Kind.FOREIGN, ""),
    ],
)
async def test_catch_all_changes_nothing_for_who_is_known(site: Site, address: str, kind: Kind, key: str) -> None:
    site.directory.people |= {**CATCH_ALL, "@msd.example.edu": ANY, "@outside.example": ANY}
    found = await site.classify(address)
    assert (found.kind, found.mailbox.key if found.mailbox else "") == (kind, key)


@pytest.mark.parametrize("postmaster", ["root@example.edu", "postmaster@example.edu"])
async def test_postmaster_is_never_caught(postmaster: str) -> None:
    site = Site(postmaster=postmaster)
    site.directory.people = {**CATCH_ALL}
    found = await site.classify("postmaster@example.edu")
    assert found.mailbox is None
    await site.classifier.close()


async def test_person_who_seems_lost_is_not_caught(site: Site) -> None:
    """Half a directory is no reason to give anybody's mail to somebody else (promise 5)."""
    site.directory.people |= CATCH_ALL
    for lost in ("ann@example.edu", "ann+x@example.edu"):
        site.directory.doubtful = {lost: "the directory has lost people", "ann@example.edu": "likewise"}
        with pytest.raises(LookupFailed):
            await site.classify(lost)


async def test_two_catch_alls_are_a_conflict(site: Site) -> None:
    site.directory.people |= CATCH_ALL
    site.directory.disputed = {"@example.edu": "two entries"}
    with pytest.raises(BadRouteData):
        await site.classify("nobody@example.edu")
    assert (await site.classify("joe@example.edu")).mailbox == JOE


async def test_person_who_comes_is_not_caught_any_more(site: Site) -> None:
    """A catch-all's answer rests on what was not found: any change ends it."""
    site.directory.people |= CATCH_ALL
    assert (await site.classify("new@example.edu")).mailbox == ANY
    site.directory.people["new@example.edu"] = replace(JOE, key="new@example.edu")
    site.change("new@example.edu")
    assert site.classifier.known(parse_address("new@example.edu")) is None
    assert (await site.classify("new@example.edu")).mailbox != ANY
    site.change("unrelated@example.edu")
    assert site.classifier.known(parse_address("nobody@example.edu")) is None


async def test_mailbox_that_has_only_a_catch_all_gets_the_address_as_received_also_at_canonical_stores() -> None:
    """Its key is no address: on the wire it would be a recipient that every store refuses for good."""
    alone = Mailbox("@example.edu", "cliff", source="ldap")
    site = Site()
    site.directory.people["@example.edu"] = alone
    found = await site.classifier.classify(parse_address("No.Body@example.edu"))
    assert found.mailbox == alone
    routing = Routing(frozenset({"cliff"}), frozenset({"cliff"}), False, 0.0, 0.0)
    for one in (found, site.classifier.known(parse_address("No.Body@example.edu"))):
        assert one is not None
        route = routing.at_dispatch(one, DispatchFacts(), 0.0)
        assert isinstance(route, Deliver)
        assert route.wire == "No.Body@example.edu"
    await site.classifier.close()


async def test_mailbox_named_by_its_catch_all_can_be_asked_for_by_its_key(site: Site) -> None:
    """What was forwarded for it is decided by it: the address of its key is built, not parsed."""
    site.directory.people["@example.edu"] = any_ = replace(ANY, key="@example.edu")
    found = await site.classifier.classify(replace(parse_address('"x"@example.edu'), wire='""@example.edu', local=""))
    assert found.mailbox == any_


async def test_without_a_directory_nobody_is_caught() -> None:
    site = Site(catch_all=False)
    site.directory.people |= CATCH_ALL
    assert (await site.classify("nobody@example.edu")).kind is Kind.UNKNOWN
    await site.classifier.close()


async def test_empty_domain_is_still_no_authority() -> None:
    site = Site()
    site.directory.people = {}
    with pytest.raises(EmptyDomain):
        await site.classify("nobody@example.edu")
    await site.classifier.close()


def test_catch_alls_are_read_where_the_settings_have_a_directory() -> None:
    base = {
        "hostname": "mx.example.edu",
        "state_dir": "/nonexistent",
        "listen": [{"address": "127.0.0.1", "port": 25}],
        "postmaster": "root@example.edu",
        "stores": {"old": {"role": "old", "hosts": ["old.example.edu:25"]}},
        "domains": {"example.edu": {"unknown": "reject"}},
    }
    ldap = {"ldap": {"uri": "ldap://ldap.example.edu", "base": "dc=example,dc=edu", "schema": "sun"}}
    assert not load_rules(Settings.model_validate({**base, "directory": ["database"]})).catch_all
    assert load_rules(Settings.model_validate({**base, "directory": ["database", ldap]})).catch_all
