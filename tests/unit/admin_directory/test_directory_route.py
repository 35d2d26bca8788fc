"""route: entry, attributes and age of people in LDAP, whom the mirror lacks, and where forwards lead."""

from collections.abc import Callable
from typing import Any

import pytest
from support.people_ldif import OLD_HOST, delete, replace, sun_dn, sun_person
from support.slapd import Slapd

from router.route.forwards import MAX_TARGETS

pytestmark = pytest.mark.slow
Site = Any
Build = Callable[[Slapd], Site]
ANN = "user1@example.edu"


def one(site: Site, address: str, *more: str) -> tuple[int, Any]:
    found = site("route", address, *more, "--json")
    assert found.err == ""
    return found.status, found.json["routes"][0]


def forwarding(name: str, *targets: str, keep: bool = False, **more: Any) -> str:
    options = ("forward", "mailbox") if keep else ("forward",)
    return sun_person(name, OLD_HOST, mailDeliveryOption=options, mailForwardingAddress=targets, **more)


def test_entry_attributes_and_age(site: Site) -> None:
    status, found = one(site, "User.1@example.edu")
    assert status == 0
    assert (found["source"], found["dn"], found["live"], found["fault"]) == ("people", sun_dn("user1"), False, "")
    assert found["attributes"]["mailHost"] == [OLD_HOST]
    assert found["attributes"]["mailUserStatus"] == ["active"]
    assert 0 <= found["age_s"] < 60
    assert found["followed_at"]
    plain = site("route", ANN).out
    for text in (sun_dn("user1"), OLD_HOST, "followed "):
        assert text in plain


def test_whom_the_mirror_lacks_the_directory_is_asked_for_and_nothing_is_written(site: Site) -> None:
    site.server.modify(sun_person("fresh", OLD_HOST))
    mark = site.server.mark()
    status, found = one(site, "fresh+x@example.edu")
    assert (status, found["action"], found["store"], found["live"]) == (0, "deliver", "cliff", True)
    assert (found["dn"], found["mailbox"]) == (sun_dn("fresh"), "fresh@example.edu")
    assert site.server.searches(mark)
    assert "not in the mirror yet; the directory says so" in site("route", "fresh@example.edu").out
    assert site.mailbox("fresh@example.edu") is None
    mark = site.server.mark()
    assert one(site, ANN)[0] == 0
    assert site.server.searches(mark) == []


def test_live_answers_know_holds_domains_and_bad_homes(site: Site) -> None:
    site.server.modify(sun_person("kept", OLD_HOST, mailUserStatus="hold"))
    assert one(site, "kept@example.edu")[1]["action"] == "hold"
    site.server.modify(sun_person("odd", "where.example.org"))
    status, found = one(site, "odd@example.edu")
    assert (status, found["reply"][:9]) == (1, "451 4.3.5")
    assert "where.example.org" in str(found["steps"])
    domain = "o=example.edu,ou=domains,dc=example,dc=edu"
    site.server.modify(replace(domain, mailDomainStatus="hold"))
    site.server.modify(sun_person("whole", OLD_HOST))
    assert one(site, "whole@example.edu")[1]["action"] == "hold"
    site.server.modify(replace(domain, mailDomainStatus="active"))


def test_nobody_is_refused_only_when_the_directory_says_so(build: Build, own: Slapd) -> None:
    site = build(own)
    site.follow()
    status, found = one(site, "nobody@example.edu")
    assert (status, found["action"], found["reply"][:9]) == (2, "refuse", "550 5.1.1")
    own.kill()
    status, found = one(site, "nobody@example.edu")
    assert (status, found["verdict"], found["reply"][:9]) == (1, "unresolved", "451 4.4.3")
    assert "the directory people" in str(found["steps"])
    assert one(site, ANN)[0] == 0


def test_a_problem_is_shown_with_its_entry(site: Site) -> None:
    site.server.modify(sun_person("lost", "nowhere.example.org"))
    site.follow()
    status, found = one(site, "lost@example.edu")
    assert (status, found["reply"][:9], found["dn"]) == (1, "451 4.3.5", sun_dn("lost"))
    assert found["attributes"]["mailHost"] == ["nowhere.example.org"]
    assert "in dispute: " in found["steps"][-1]
    site.server.modify(delete(sun_dn("lost")))


@pytest.mark.parametrize(
    ("seconds", "status", "reply", "text"),
    [
        (5, 0, "250 2.1.5", ""),
        (60, 0, "250 2.1.5", "this is what was read before"),
        (600, 1, "250 2.1.5", "mail is accepted, and waits"),
        (5 * 3600, 1, "451 4.4.3", "too old to answer by"),
    ],
)
def test_a_directory_that_is_not_followed(site: Site, seconds: float, status: int, reply: str, text: str) -> None:
    site.age(seconds)
    assert one(site, ANN)[0] == 0  # no worker that could think it too old
    site.run_worker()
    got, found = one(site, ANN)
    assert (got, found["reply"][:9]) == (status, reply)
    assert seconds - 1 <= found["age_s"] < seconds + 60
    assert text in str(found["remarks"])
    assert bool(text) == ("NOT followed since" in str(found["remarks"]))


def test_a_hold_stays_a_hold_however_old_the_directory_is(site: Site) -> None:
    key = "user9@example.edu"
    assert site("hold", key, "--reason", "because").status == 0
    site.age(5 * 3600)
    site.run_worker()
    status, found = one(site, key)
    assert (status, found["action"]) == (0, "hold")
    assert "NOT followed since" in str(found["remarks"])


def test_a_fault_is_told_at_once(site: Site) -> None:
    site.age(1, "no \x1b[31m answer")
    site.run_worker()
    found = site("route", ANN)
    assert (found.status, "\x1b" in found.out) == (0, False)
    assert "answer" in found.out
    assert one(site, ANN)[1]["fault"] == "no \x1b[31m answer"


def test_nobody_is_refused_by_a_directory_that_is_not_followed(site: Site) -> None:
    site.server.modify(sun_person("gone", OLD_HOST, mailUserStatus="disabled"))
    site.follow()
    status, found = one(site, "gone@example.edu")
    assert (status, found["verdict"], found["reply"][:9]) == (2, "refused", "550 5.2.1")
    site.age(1, "no answer")
    status, found = one(site, "gone@example.edu")
    assert (status, found["verdict"], found["action"], found["reply"][:9]) == (1, "unresolved", "later", "451 4.4.3")


def test_forwards_are_followed_to_their_ends(site: Site) -> None:
    site.server.modify(forwarding("fa", "fb@example.edu", "far@elsewhere.org", keep=True))
    site.server.modify(forwarding("fb", "user3@example.edu", "not an address"))
    site.follow()
    status, found = one(site, "fa@example.edu")
    assert (found["action"], found["store"], found["keeps"]) == ("forward", "cliff", True)
    assert found["forwards"] == ["fb@example.edu", "far@elsewhere.org"]
    chain = [(link["depth"], link["address"], link["action"], link["next_hop"][:6]) for link in found["chain"]]
    assert chain[-1] == (1, "far@elsewhere.org", "deliver", "mx:els")
    assert chain[0][:2] == (1, "fb@example.edu")
    assert status == 1  # fb has a forward that cannot be understood, and keeps no copy
    site.server.modify(replace(sun_dn("fb"), mailForwardingAddress="user3@example.edu"))
    site.follow()
    status, found = one(site, "fa@example.edu")
    assert status == 0
    chain = [(link["depth"], link["address"], link["action"], link["verdict"]) for link in found["chain"]]
    assert chain == [
        (1, "fb@example.edu", "forward", "ok"),
        (2, "user3@example.edu", "deliver", "ok"),
        (1, "far@elsewhere.org", "deliver", "ok"),
    ]
    assert found["chain"][1]["dn"] == sun_dn("user3")
    plain = site("route", "fa@example.edu").out.splitlines()
    assert [line.index("->") for line in plain if "->" in line] == [2, 4, 2]


def test_a_forward_to_nobody_is_refused_in_the_end(site: Site) -> None:
    site.server.modify(forwarding("fc", "nobody@example.edu"))
    site.follow()
    assert one(site, "fc@example.edu")[0] == 2


def test_circles_and_long_chains(site: Site) -> None:
    site.server.modify(forwarding("ga", "gb@example.edu"))
    site.server.modify(forwarding("gb", "ga@example.edu"))
    site.server.modify(forwarding("gc", "gd@example.edu", keep=True))
    site.server.modify(forwarding("gd", "gc@example.edu"))
    for number in range(12):
        site.server.modify(forwarding(f"h{number}", f"h{number + 1}@example.edu"))
    site.server.modify(sun_person("h12", OLD_HOST))
    site.follow()
    status, found = one(site, "ga@example.edu")
    assert status == 1
    assert found["chain"][-1]["note"].startswith("LOOP: ga@example.edu > gb@example.edu > ga@example.edu")
    status, found = one(site, "gc@example.edu")
    assert (status, found["chain"][-1]["note"]) == (0, "ends here: it comes back to where a copy is kept already")
    status, found = one(site, "h0@example.edu")
    assert (status, len(found["chain"])) == (1, 10)
    assert "more than 10 forwards" in found["chain"][-1]["note"]
    assert one(site, "h4@example.edu")[0] == 0


def test_a_catch_all_takes_nobody_whom_the_directory_has(site: Site) -> None:
    site.server.modify(sun_person("every", OLD_HOST, mailAlternateAddress="@example.edu"))
    site.follow()
    site.server.modify(sun_person("newer", OLD_HOST))
    status, found = one(site, "newer@example.edu")
    assert (status, found["mailbox"], found["live"]) == (0, "newer@example.edu", True)
    status, found = one(site, "whoever@example.edu")
    assert (status, found["mailbox"], found["live"]) == (0, "every@example.edu", False)
    site.server.modify(delete(sun_dn("every")))


def test_a_held_mailbox_holds_its_forward(site: Site) -> None:
    site.server.modify(forwarding("ka", "user3@example.edu"))
    site.follow()
    assert site("hold", "ka@example.edu", "--reason", "because").status == 0
    status, found = one(site, "ka@example.edu")
    assert (status, found["action"], found["chain"]) == (0, "hold", [])
    site("release", "ka@example.edu", "--reason", "because")


def test_two_mailboxes_with_one_address_are_in_dispute(site: Site) -> None:
    site.server.modify(sun_person("la", OLD_HOST, mailAlternateAddress="both@example.edu"))
    site.server.modify(sun_person("lb", OLD_HOST, mailAlternateAddress="both@example.edu"))
    status, found = one(site, "both@example.edu")
    assert (status, found["reply"][:9]) == (1, "451 4.3.5")
    site.follow()
    status, found = one(site, "both@example.edu")
    assert (status, found["reply"][:9]) == (1, "451 4.3.5")
    assert found["mailbox"] in {"la@example.edu", "lb@example.edu"}


def test_who_is_over_quota_there_forwards_nothing(site: Site) -> None:
    site.server.modify(forwarding("ma", "user3@example.edu", mailUserStatus="overquota"))
    site.server.modify(forwarding("mb", "user3@example.edu", keep=True, mailUserStatus="overquota"))
    site.follow()
    for name in ("ma", "mb"):
        status, found = one(site, f"{name}@example.edu")
        assert (status, found["verdict"], found["action"]) == (1, "unresolved", "later")
        assert (found["reply"][:9], found["chain"]) == ("452 4.2.2", [])


def test_too_many_forwards_are_told_as_the_relay_takes_them(site: Site) -> None:
    many = [f"n{number}@elsewhere.org" for number in range(MAX_TARGETS + 1)]
    site.server.modify(forwarding("na", *many))
    site.follow()
    status, found = one(site, "na@example.edu")
    assert (status, found["action"], found["reply"][:9]) == (1, "later", "451 4.3.5")
    assert f"over {MAX_TARGETS}" in str(found["remarks"])
    assert found["chain"] == []
