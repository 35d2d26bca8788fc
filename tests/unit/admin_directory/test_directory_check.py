"""`check --live`: each server, the schema, and a whole directory with every kind of entry that makes no sense."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.people_ldif import (
    DOMAINS,
    GROUPS,
    NEW_HOST,
    OLD_HOST,
    sun_domain,
    sun_group,
    sun_people,
    sun_person,
    zimbra_account,
    zimbra_domain,
)
from support.slapd import BASE, Security, Slapd

from router.admin.cli import check as verb
from router.admin.cli.check_directory import check_directories
from router.admin.cli.check_finding import Finding, Level
from router.settings.loader import load

pytestmark = pytest.mark.slow
Site = Any
Build = Callable[[Slapd], Site]


def findings(site: Site, uri: str = "", more: str = "") -> list[Finding]:
    site.write(uri, more)
    return check_directories(load(site.config))


def texts(found: Iterable[Finding], *levels: Level) -> list[str]:
    return [f"{one.subject}: {one.text}" for one in found if one.level in (levels or tuple(Level))]


def only(found: list[Finding], part: str) -> Finding:
    (one,) = [one for one in found if part in one.text]
    return one


def forwarding(name: str, *targets: str, keep: bool = False) -> str:
    options = ("forward", "mailbox") if keep else ("forward",)
    return sun_person(name, OLD_HOST, mailDeliveryOption=options, mailForwardingAddress=targets)


def test_a_sound_directory(build: Build, shared: Slapd) -> None:
    site = build(shared)
    found = findings(site)
    assert texts(found, Level.ERROR, Level.WARNING) == []
    said = "\n".join(texts(found))
    for text in (
        "logs in as cn=sluice,dc=example,dc=edu in ",
        "without TLS",
        f"search base {BASE} can be read",
        "its schema has all attributes of ours",
        "changes are told by entryCSN",
        "write mailUserStatus and mailHost here; whether that is allowed was not tried",
        "31 people, 1 groups, 1 domains",
        "cliff is the home of 21 people",
        "zimbra is the home of 10 people",
    ):
        assert text in said
    assert site.mailbox("user1@example.edu") is None  # nothing is taken into the mirror


STRANGE = [
    *sun_people(3),
    sun_domain("example.edu"),
    sun_person("far", "unknown.example.org"),
    sun_person("far2", "Unknown.example.org"),
    sun_person("odd", OLD_HOST, mailUserStatus="enabled"),
    sun_person("bare", OLD_HOST, mail="no address"),
    sun_person("none", None),
    sun_person("one", OLD_HOST, mailAlternateAddress="shared@example.edu"),
    sun_person("two", OLD_HOST, mailAlternateAddress="shared@example.edu"),
    sun_person("all", OLD_HOST, mailAlternateAddress="@example.edu"),
    sun_person("away", OLD_HOST, domain="elsewhere.org"),
    forwarding("ga", "gb@example.edu"),
    forwarding("gb", "ga@example.edu"),
    forwarding("gc", "gd@example.edu", keep=True),
    forwarding("gd", "gc@example.edu"),
    forwarding("ge", "Ge@example.edu", "user1@example.edu"),
    sun_group("lost", "nowhere.example.org"),
]


def test_everything_that_makes_no_sense_is_named(build: Build) -> None:
    with Slapd(STRANGE) as server:
        found = findings(build(server))
    assert only(found, "the home unknown.example.org of 1 entries").level is Level.ERROR
    assert "Unknown.example.org" in str(texts(found))
    assert "nowhere.example.org" in str(texts(found))
    assert "enabled" in only(found, "entries in doubt").text
    senseless = only(found, "entries that make no sense")
    assert (senseless.level, "uid=bare," in senseless.text) == (Level.ERROR, True)
    assert "example.edu: 1, such as uid=none," in only(found, "people without a home").text
    twice = only(found, "address on several entries")
    assert twice.level is Level.ERROR
    for part in ("shared@example.edu: ", "uid=one,", "uid=two,"):
        assert part in twice.text
    assert only(found, "catch-alls of people").level is Level.WARNING
    assert "1 entries are of elsewhere.org" in only(found, "elsewhere.org").text
    assert only(found, "forwards lead in a circle").text.endswith("ga@example.edu > gb@example.edu > ga@example.edu")


def test_lists_are_bounded_and_say_how_many_there_are(build: Build) -> None:
    with Slapd(sun_person(f"p{n}", OLD_HOST, mailUserStatus="enabled") for n in range(30)) as server:
        found = findings(build(server))
    doubts = [one for one in found if "in doubt" in one.text]
    assert len(doubts) == 21
    assert "30 in all" in doubts[-1].text


def test_catch_alls_on_both_sides(build: Build) -> None:
    people = [
        zimbra_account("ann", NEW_HOST),
        zimbra_domain(
            "example.edu",
            zimbraMailCatchAllAddress="@example.edu",
            zimbraMailCatchAllForwardingAddress="@old.example.edu",
        ),
    ]
    with Slapd(people) as server:
        site = build(server)
        site.write(more="")
        site.config.write_text(site.config.read_text().replace("schema: sun", "schema: zimbra"))
        one = only(check_directories(load(site.config)), "@old.example.edu")
        assert (one.level, one.subject) == (Level.WARNING, "example.edu")
        site.config.write_text(site.config.read_text().replace("{unknown: reject}", "{unknown: {store: cliff}}"))
        both = only(check_directories(load(site.config)), "@old.example.edu")
        assert (both.level, "on both sides this is a loop" in both.text) == (Level.ERROR, True)


def test_each_server_is_asked_and_one_that_is_down_hides_nothing(build: Build, shared: Slapd) -> None:
    dead = "ldap://127.0.0.1:1"
    found = findings(build(shared), f"{dead}, {shared.uri}", f"write_uri: {dead}")
    (down,) = [one for one in found if one.level is Level.ERROR]
    assert (down.subject, "other servers" in down.remedy) == (f"people {dead}", True)
    assert "31 people" in str(texts(found))
    assert all("not tried" not in one.text for one in found)  # the master was not reached


def test_a_wrong_password_and_a_wrong_base(build: Build, shared: Slapd, tmp_path: Path) -> None:
    site = build(shared)
    wrong = tmp_path / "wrong"
    wrong.write_text("not it\n")
    wrong.chmod(0o600)
    site.write()
    site.config.write_text(site.config.read_text().replace(str(shared.password_file), str(wrong)))
    (one,) = check_directories(load(site.config))
    assert (one.level, "result 49" in one.text, "password_file" in one.remedy) == (Level.ERROR, True, True)
    site.write()
    site.config.write_text(site.config.read_text().replace(f'"{BASE}"', f'"ou=gone,{BASE}"'))
    (one,) = [one for one in check_directories(load(site.config)) if one.level is Level.ERROR]
    assert f"search base ou=gone,{BASE}: there is no such entry" in one.text


def test_a_certificate_is_verified(build: Build, tmp_path: Path) -> None:
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    with Slapd([*sun_people(2)], security=Security(authority.issue_cert("localhost"))) as server:
        site = build(server)
        (one,) = [one for one in findings(site, server.tls_uri) if one.level is Level.ERROR]
        assert "certificate" in one.remedy
        found = findings(site, server.tls_uri, f"ca_file: {file}")
        assert "TLS, certificate verified" in texts(found)[0]


def test_an_attribute_that_the_server_does_not_know(build: Build, shared: Slapd) -> None:
    site = build(shared)
    for name, key, level in (("mailHots", "home", Level.ERROR), ("mailMisspelled", "route", Level.WARNING)):
        site.write()
        schema = f"{{people: (objectClass=inetMailUser), {key}: {name}}}"
        site.config.write_text(site.config.read_text().replace("schema: sun", f"schema: {schema}"))
        one = only(check_directories(load(site.config)), "its schema has no")
        assert (one.level, name in one.text) == (level, True)


def test_size_limits_of_the_server(build: Build) -> None:
    with Slapd([*sun_people(30)], limits="sizelimit size.soft=5 size.hard=5 size.pr=5 size.prtotal=12") as server:
        found = findings(build(server))
    one = only(found, "cannot be read to its end")
    assert (one.level, "size and time limits" in one.remedy) == (Level.ERROR, True)


def test_nothing_is_found(build: Build, shared: Slapd) -> None:
    site = build(shared)
    site.write()
    site.config.write_text(site.config.read_text().replace(f'"{BASE}"', f'"{GROUPS.replace("groups", "domains")}"'))
    assert DOMAINS in site.config.read_text()
    found = check_directories(load(site.config))
    assert only(found, "0 people").level is Level.WARNING


def test_the_command_asks_directories_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> list[Finding]:
        return []

    for name in ("check_dns", "check_stores", "check_store_certificates"):
        monkeypatch.setattr(verb, name, nothing)
    found = site("check", "--live", "--json")
    assert {one["subject"] for one in found.json["findings"] if one["area"] == "directory"} == {
        "people",
        f"people {site.server.uri}",
    }
    assert site("check").status == 0
