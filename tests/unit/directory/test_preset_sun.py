"""Sun's attributes, one meaning after the other (semantics 1 and 7.2)."""

import pytest
from support.directory_entries import domain, entry, interpreter, person, raw

from router.directory.interpret import Interpreter
from router.model.directory import Role, Standing, Unplaced

SUN = interpreter(lists="lists")
JOE = {"mail": "Joe.User@Example.edu", "mailHost": "cliff.example.edu"}


def test_a_person() -> None:
    found = person(
        SUN,
        **JOE,
        mailAlternateAddress=["joe@example.edu", "joe@mcs.example.edu", "@joe.example.edu"],
        mailEquivalentAddress="JUser@example.edu",
        entryCSN="20240102030405.123456Z#000000#001#000000",
    )
    assert found.role is Role.PERSON
    assert found.key == "joe.user@example.edu"
    assert found.addresses == (
        "@joe.example.edu",
        "joe.user@example.edu",
        "joe@example.edu",
        "joe@mcs.example.edu",
        "juser@example.edu",
    )
    assert (found.home, found.host) == ("cliff", "cliff.example.edu")
    assert found.version == "20240102030405.123456Z#000000#001#000000"
    assert (found.forwards, found.keeps, found.route) == ((), True, "")
    assert (found.problem, found.doubt) == ("", "")
    assert ("mailEquivalentAddress", "JUser@example.edu") in found.shown


@pytest.mark.parametrize(
    ("options", "forwards", "keeps"),
    [
        ([], (), True),
        (["mailbox"], (), True),
        (["forward"], ("Out@Example.net",), False),
        (["FORWARD"], ("Out@Example.net",), False),
        (["mailbox", "forward"], ("Out@Example.net",), True),
        (["autoreply", "forward"], ("Out@Example.net",), True),
        (["autoreply"], (), True),
    ],
)
def test_delivery_options(options: list[str], forwards: tuple[str, ...], keeps: bool) -> None:
    found = person(SUN, **JOE, mailDeliveryOption=options, mailForwardingAddress="Out@Example.net")
    assert (found.forwards, found.keeps, found.home, found.problem) == (forwards, keeps, "cliff", "")


def test_several_forwards_each_once() -> None:
    given = ["a@x.net", "b@x.net", "a@x.net", "c@x.net, d@x.net"]
    found = person(SUN, **JOE, mailDeliveryOption="forward", mailForwardingAddress=given)
    assert found.forwards == ("a@x.net", "b@x.net", "c@x.net", "d@x.net")


@pytest.mark.parametrize(
    "bad", ["nonsense", "|/bin/sh", "postmaster", "a@b c", "<a@b.net>", "@x.net", b"\xff@x.net", ""]
)
def test_a_forward_that_is_no_address_lets_mail_wait_unless_a_copy_stays(bad: str | bytes) -> None:
    gone = person(SUN, **JOE, mailDeliveryOption="forward", mailForwardingAddress=[b"good@x.net", bad])
    assert "mailForwardingAddress" in gone.problem
    kept = person(SUN, **JOE, mailDeliveryOption=["mailbox", "forward"], mailForwardingAddress=[b"good@x.net", bad])
    assert (kept.problem, kept.forwards, kept.keeps) == ("", ("good@x.net",), True)
    assert "mailForwardingAddress" in kept.doubt


def test_a_forward_to_nowhere_lets_mail_wait() -> None:
    assert "no address to forward to" in person(SUN, **JOE, mailDeliveryOption="forward").problem
    kept = person(SUN, **JOE, mailDeliveryOption=["mailbox", "forward"])
    assert (kept.problem, kept.forwards, kept.keeps) == ("", (), True)


def test_a_forward_to_oneself_is_the_copy_that_stays() -> None:
    own = ["joe.user@example.EDU", "out@x.net"]
    found = person(SUN, **JOE, mailDeliveryOption=["mailbox", "forward"], mailForwardingAddress=own)
    assert found.forwards == ("out@x.net",)
    alone = person(SUN, **JOE, mailDeliveryOption=["mailbox", "forward"], mailForwardingAddress=own[0])
    assert (alone.forwards, alone.keeps, alone.home) == ((), True, "cliff")


def test_an_unmapped_home_is_in_the_way_only_of_mail_that_goes_there() -> None:
    lost = {"mail": "joe@example.edu", "mailHost": "gone.example.edu", "mailForwardingAddress": "out@x.net"}
    only = person(SUN, **lost, mailDeliveryOption="forward")
    assert only.problem == ""
    assert "mailHost 'gone.example.edu'" in only.doubt
    both = person(SUN, **lost, mailDeliveryOption=["mailbox", "forward"])
    assert "mailHost 'gone.example.edu'" in both.problem


def test_the_home_may_forward_by_itself() -> None:
    alone = interpreter(forwarding="home")
    given = {"mailDeliveryOption": ["mailbox", "forward"], "mailForwardingAddress": "out@x.net"}
    found = person(alone, **JOE, **given)
    assert (found.forwards, found.keeps, found.home) == ((), True, "cliff")
    homeless = person(alone, mail="joe@example.edu", **given)
    assert homeless.forwards == ("out@x.net",)


def test_a_routing_address_beats_the_home() -> None:
    found = person(SUN, **JOE, mailRoutingAddress="joe@zimbra.example.org", mailForwardingAddress="x@y.net")
    assert (found.forwards, found.keeps, found.home) == (("joe@zimbra.example.org",), False, "cliff")
    homeless = person(SUN, mail="joe@example.edu", mailRoutingAddress="joe@zimbra.example.org")
    assert (homeless.forwards, homeless.keeps, homeless.problem) == (("joe@zimbra.example.org",), False, "")


def test_a_source_route_is_a_home_and_a_recipient() -> None:
    through = "@cliff.example.edu:joe7@cliff.example.edu"
    found = person(SUN, **JOE, mailRoutingAddress=through)
    assert (found.home, found.route, found.forwards, found.problem) == ("cliff", "joe7@cliff.example.edu", (), "")
    homeless = person(SUN, mail="joe@example.edu", mailRoutingAddress=through)
    assert (homeless.home, homeless.route, homeless.problem) == ("cliff", "joe7@cliff.example.edu", "")
    crossed = person(SUN, mail="joe@example.edu", mailHost="zimbra1.example.edu", mailRoutingAddress=through)
    assert "leads through 'cliff.example.edu' and 'zimbra1.example.edu' is its home" in crossed.problem
    lost = person(SUN, mail="joe@example.edu", mailRoutingAddress="@gone.example.edu:joe@x.net")
    assert "gone.example.edu" in lost.problem


@pytest.mark.parametrize("bad", ["nonsense", "@x.net", "@:a@x.net", "@a:", ["a@x.net", "b@x.net"]])
def test_a_routing_address_that_makes_no_sense_lets_mail_wait(bad: str | list[str]) -> None:
    found = person(SUN, **JOE, mailRoutingAddress=bad)
    assert "mailRoutingAddress" in found.problem or "is no host" in found.problem


def test_groups_go_to_their_host_or_to_the_list_store() -> None:
    given = {"objectClass": ["top", "inetMailGroup"], "mail": "all@example.edu"}
    group = entry(SUN, raw(**given, mgrpRFC822MailMember=["a@example.edu", "b@example.edu"]))
    assert (group.role, group.home, group.host, group.problem) == (Role.GROUP, "lists", "", "")
    assert ("mgrpRFC822MailMember", "b@example.edu") in group.shown
    assert entry(SUN, raw(**given, mailHost="cliff.example.edu")).home == "cliff"
    lost = entry(SUN, raw(**given, mailHost="gone.example.edu"))
    assert lost.home == ""
    assert "'gone.example.edu' is no host" in lost.problem
    nowhere = entry(interpreter(), raw(**given))
    assert (nowhere.home, "`lists` names no store" in nowhere.problem) == ("", True)


def test_a_group_is_not_forwarded() -> None:
    group = raw(
        objectClass="inetMailGroup",
        mail="all@example.edu",
        mailDeliveryOption="forward",
        mailForwardingAddress="a@x.net",
    )
    assert entry(SUN, group).forwards == ()


def test_a_person_and_group_at_once_is_a_problem() -> None:
    both = entry(SUN, raw(objectClass=["inetMailUser", "inetMailGroup"], **JOE))
    assert "is a person and a group at once" in both.problem


def test_an_entry_whose_classes_cannot_be_read_is_a_problem_and_never_unknown() -> None:
    found = entry(SUN, raw(**JOE))
    assert "can objectClass be read?" in found.problem
    assert found.addresses == ("joe.user@example.edu",)


def test_what_has_nothing_to_do_with_mail() -> None:
    assert SUN.item(raw(objectClass="organizationalUnit", ou="people")) is None
    assert SUN.item(raw(objectClass="inetMailUser", uid="joe")) is None


def test_addresses_that_are_none() -> None:
    some = person(SUN, **JOE, mailAlternateAddress=["joe at example", "ok@example.edu", "x@"])
    assert some.addresses == ("joe.user@example.edu", "ok@example.edu")
    assert "mailAlternateAddress 'joe at example' is no address" in some.doubt
    assert some.problem == ""
    none = SUN.item(raw("uid=x\x1b,dc=y", objectClass="inetMailUser", mail=["joe", b"\xff\xfe@example.edu"]))
    assert isinstance(none, Unplaced)
    assert none.problem.startswith("uid=x\\x1b,dc=y: has no usable address")
    assert "\\udcff" in none.problem


def test_a_name_with_two_values_is_a_doubt_and_the_first_in_order() -> None:
    found = person(SUN, mail=["zoe@example.edu", "ann@example.edu", "ANN@example.edu"])
    assert found.key == "ann@example.edu"
    assert "mail has several values" in found.doubt
    assert found.problem == ""


def test_octets_that_are_no_utf8_are_no_quoted_address() -> None:
    found = person(SUN, **JOE, mailAlternateAddress=b'"\xff"@example.edu')
    assert found.addresses == ("joe.user@example.edu",)
    assert "is no address" in found.doubt


def test_a_domain_and_its_names() -> None:
    found = domain(
        SUN,
        raw(
            "o=example,dc=wrong,dc=edu",
            objectClass=["organization", "mailDomain"],
            sunPreferredDomain="Example.EDU",
            associatedDomain=["msd.example.edu", "example.edu", "Bücher.example"],
            mailRoutingSmartHost="zimbra1.example.edu",
            preferredMailHost="zimbra1.example.edu",
            mailDomainStatus="hold",
        ),
    )
    assert (found.domain, found.also) == ("example.edu", ("msd.example.edu", "xn--bcher-kva.example"))
    assert (found.standing, found.home, found.problem, found.doubt) == (Standing.HOLD, "zimbra", "", "")
    assert ("preferredMailHost", "zimbra1.example.edu") in found.shown


def test_a_domain_of_the_dc_tree() -> None:
    found = domain(SUN, raw("dc=mcs,DC=Example,dc=edu,o=internet", objectClass="inetDomain"))
    assert (found.domain, found.also, found.home) == ("mcs.example.edu", (), "")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "without a usable name"),
        ({"sunPreferredDomain": "not a domain"}, "without a usable name"),
        ({"sunPreferredDomain": "d.edu", "mail": "x@d.edu", "class": "inetMailUser"}, "person or group at once"),
    ],
)
def test_domains_that_cannot_be_placed(attributes: dict[str, str], reason: str) -> None:
    given = dict(attributes)
    classes = ["mailDomain", given.pop("class", "top")]
    found = SUN.item(raw("o=d", objectClass=classes, **given))
    assert isinstance(found, Unplaced)
    assert reason in found.problem


def test_a_smart_host_of_no_store_is_a_problem_of_the_domain() -> None:
    reader: Interpreter = SUN
    found = domain(
        reader, raw("o=d", objectClass="mailDomain", sunPreferredDomain="d.edu", mailRoutingSmartHost="gone")
    )
    assert found.home == ""
    assert "mailRoutingSmartHost 'gone' is no host" in found.problem
