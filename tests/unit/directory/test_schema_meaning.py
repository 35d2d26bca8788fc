"""Configured schemas at a real slapd: what is swept, looked up, followed and written, with the homes of a site."""

from collections.abc import Callable

import pytest
from support.directory_entries import HOSTNAME
from support.people_ldif import (
    NEW_HOST,
    OLD_HOST,
    replace,
    sun_dn,
    sun_domain,
    sun_group,
    sun_person,
    zimbra_account,
    zimbra_domain,
)
from support.slapd import Slapd

from router.directory.feed import LdapFeed
from router.directory.lookups import LdapLookups
from router.directory.meaning import Meaning
from router.directory.schema_meaning import SchemaMeaning
from router.directory.writer import LdapWriter
from router.errors import NotFound
from router.model.directory import DirectoryItem, DomainEntry, Entry, Role, Standing, Unplaced, Wanted
from router.settings.directory import Ldap
from router.settings.schema import Store

pytestmark = pytest.mark.slow

SourceOf = Callable[..., Ldap]
STORES = {
    "old": Store.model_validate({"role": "old", "hosts": [f"{OLD_HOST}:25"]}),
    "new": Store.model_validate({"role": "new", "hosts": [f"{NEW_HOST}:25"]}),
    "zimbra": Store.model_validate({"role": "new", "hosts": ["zimbra1.example.edu:7025"], "protocol": "lmtp"}),
}
SITE = [
    sun_domain("example.edu"),
    sun_person("joe", mailAlternateAddress=("joe.user@example.edu", "@sub.example.edu")),
    sun_person("ann", NEW_HOST, mailUserStatus="hold"),
    sun_person("eve", "mail.elsewhere.example"),
    sun_person("nix", mail=None),
    sun_group("staff"),
]


def meaning(source: Ldap) -> Meaning:
    return SchemaMeaning(source, STORES, HOSTNAME)


def by_name(items: list[DirectoryItem | Unplaced]) -> dict[str, DirectoryItem | Unplaced]:
    return {item.dn.partition(",")[0]: item for item in items}


def swept(source: Ldap) -> dict[str, DirectoryItem | Unplaced]:
    feed = LdapFeed(source, meaning(source))
    try:
        feed.cookie()
        return by_name([item for page in feed.sweep() for item in page])
    finally:
        feed.close()


def test_a_sweep_tells_people_groups_and_domains_apart(make: Callable[..., Slapd], source: SourceOf) -> None:
    found = swept(source(make(SITE), lists="old"))
    joe, ann, eve, staff = (found[name] for name in ("uid=joe", "uid=ann", "uid=eve", "cn=staff"))
    assert isinstance(joe, Entry)
    assert (joe.home, joe.addresses) == ("old", ("@sub.example.edu", "joe.user@example.edu", "joe@example.edu"))
    assert isinstance(ann, Entry)
    assert (ann.home, ann.standing) == ("new", Standing.HOLD)
    assert isinstance(eve, Entry)
    assert eve.home == ""
    assert "mail.elsewhere.example" in eve.problem
    assert isinstance(staff, Entry)
    assert (staff.role, staff.home) == (Role.GROUP, "old")
    assert isinstance(found["o=example.edu"], DomainEntry)
    assert "uid=nix" not in found or isinstance(found["uid=nix"], Unplaced)


async def test_what_a_lookup_finds_is_what_a_sweep_finds(make: Callable[..., Slapd], source: SourceOf) -> None:
    of = source(make(SITE), lists="old")
    lookups = LdapLookups(of, meaning(of))
    try:
        found = await lookups.find(["joe.user@example.edu", "ann@example.edu", "nobody@example.edu"])
        catch_all = await lookups.find(["@sub.example.edu"])
    finally:
        await lookups.close()
    everything = swept(of)
    assert {item.dn for item in found} == {sun_dn("joe"), sun_dn("ann"), everything["o=example.edu"].dn}
    assert all(item == everything[item.dn.partition(",")[0]] for item in (*found, *catch_all))
    assert sun_dn("joe") in {item.dn for item in catch_all}


async def test_a_schema_without_words_for_a_question_asks_nothing(make: Callable[..., Slapd], source: SourceOf) -> None:
    server = make(SITE)
    of = source(server, schema={"people": "(objectClass=inetMailUser)"})
    lookups = LdapLookups(of, meaning(of))
    try:
        seen = server.mark()
        assert await lookups.find(["@sub.example.edu"]) == ()
        assert " SRCH " not in server.log(seen)
        (joe,) = await lookups.find(["joe@example.edu"])
        assert joe.dn == sun_dn("joe")
    finally:
        await lookups.close()


def test_a_change_is_followed_and_its_version_is_that_of_a_write(make: Callable[..., Slapd], source: SourceOf) -> None:
    server = make(SITE)
    of = source(server)
    feed, writer = LdapFeed(of, meaning(of)), LdapWriter(of, meaning(of))
    try:
        cookie = feed.cookie()
        after = writer.write(writer.read(sun_dn("joe")), Wanted(status=writer.hold_value, host=writer.host_of("new")))
        polled = feed.poll(cookie)
        joe = by_name([*polled.items])["uid=joe"]
        assert isinstance(joe, Entry)
        assert (joe.standing, joe.home, joe.version) == (Standing.HOLD, "new", after.version)
        server.modify(replace(sun_dn("joe"), mailUserStatus=None, mailHost=OLD_HOST))
        joe = by_name([*feed.poll(polled.cookie).items])["uid=joe"]
        assert isinstance(joe, Entry)
        assert (joe.standing, joe.home) == (Standing.ACTIVE, "old")
        with pytest.raises(NotFound):
            writer.host_of("nowhere")
    finally:
        feed.close()
        writer.close()


def test_zimbra(make: Callable[..., Slapd], source: SourceOf) -> None:
    found = swept(source(make([zimbra_domain("example.edu"), zimbra_account("joe")]), schema="zimbra"))
    joe = found["uid=joe"]
    assert isinstance(joe, Entry)
    assert (joe.home, joe.standing, joe.problem) == ("zimbra", Standing.ACTIVE, "")
    assert isinstance(found["o=example.edu"], DomainEntry)
