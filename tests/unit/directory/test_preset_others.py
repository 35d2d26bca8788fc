"""Zimbra, Active Directory and sendmail's six cases (semantics 7.1, 7.3, 7.4), and maps of a site's own."""

import pytest
from support.directory_entries import domain, entry, interpreter, person, raw

from router.model.directory import Role, Standing

ZIMBRA = interpreter("zimbra", lists="lists")
AD = interpreter("activedirectory", homes={"EXCH1": "cliff"}, lists="lists")
SENDMAIL = interpreter("sendmail", local_hosts=["mail.example.edu", "cliff.example.edu"])
EXCH1 = "/o=Org/ou=AG/cn=Configuration/cn=Servers/cn=EXCH1"


def test_an_account_of_zimbra() -> None:
    found = person(
        ZIMBRA,
        "zimbra",
        zimbraMailDeliveryAddress="Joe@Example.edu",
        mail=["joe@example.edu", "unused@example.edu"],
        zimbraMailAlias=["j@example.edu"],
        zimbraOldMailAddress="old@example.edu",
        zimbraMailCatchAllAddress="@all.example.edu",
        zimbraMailTransport="lmtp:zimbra1.example.edu:7025",
        zimbraMailForwardingAddress="out@x.net",
    )
    assert found.key == "joe@example.edu"
    assert found.addresses == ("@all.example.edu", "j@example.edu", "joe@example.edu", "old@example.edu")
    assert (found.home, found.forwards, found.keeps, found.problem) == ("zimbra", (), True, "")
    assert ("zimbraMailForwardingAddress", "out@x.net") in found.shown


@pytest.mark.parametrize(
    ("no_copy", "keeps"), [(None, True), ("FALSE", True), ("TRUE", False), ("true", False), ("maybe", True)]
)
def test_zimbras_forwards_when_the_relay_is_to_forward(no_copy: str | None, keeps: bool) -> None:
    relay = interpreter("zimbra", forwarding="relay")
    given = {"zimbraPrefMailLocalDeliveryDisabled": no_copy} if no_copy is not None else {}
    found = person(
        relay,
        "zimbra",
        zimbraMailDeliveryAddress="joe@example.edu",
        zimbraMailTransport="smtp:cliff.example.edu:25",
        zimbraPrefMailForwardingAddress="a@x.net, b@x.net",
        **given,
    )
    assert (found.forwards, found.keeps) == (("a@x.net", "b@x.net"), keeps)


def test_a_distribution_list_of_zimbra() -> None:
    found = entry(
        ZIMBRA,
        raw(
            objectClass="zimbraDistributionList",
            zimbraMailAlias="all@example.edu",
            zimbraMailForwardingAddress=["a@example.edu", "b@example.edu"],
            zimbraMailStatus="enabled",
        ),
    )
    assert (found.role, found.key, found.home, found.forwards) == (Role.GROUP, "all@example.edu", "lists", ())


def test_a_domain_of_zimbra_shows_its_catch_all() -> None:
    found = domain(
        ZIMBRA,
        raw(
            "dc=example,dc=edu",
            objectClass=["dcObject", "zimbraDomain"],
            zimbraDomainName="example.edu",
            zimbraDomainStatus="maintenance",
            zimbraMailCatchAllAddress="@example.edu",
            zimbraMailCatchAllForwardingAddress="@example.edu",
            zimbraMailTransport="smtp:cliff.example.edu:25",
        ),
    )
    assert (found.domain, found.standing, found.home, found.catch_all) == (
        "example.edu",
        Standing.HOLD,
        "cliff",
        "@example.edu",
    )


def test_a_mailbox_of_exchange() -> None:
    found = person(
        AD,
        "activedirectory",
        mail="joe.user@example.edu",
        proxyAddresses=[
            "smtp:joe@example.edu",
            "SMTP:Joe.User@example.edu",
            "X500:/o=Org/cn=joe",
            "sip:joe@example.edu",
        ],
        msExchHomeServerName=EXCH1,
        altRecipient="CN=Ann,DC=example",
        userAccountControl="514",
    )
    assert found.key == "joe.user@example.edu"
    assert found.addresses == ("joe.user@example.edu", "joe@example.edu")
    assert (found.home, found.forwards, found.standing) == ("cliff", (), Standing.ACTIVE)
    assert (found.problem, found.doubt) == ("", "")
    assert ("altRecipient", "CN=Ann,DC=example") in found.shown


def test_the_primary_address_is_the_one_in_capitals() -> None:
    given = {"mail": "a@example.edu", "proxyAddresses": ["smtp:b@example.edu", "SMTP:c@example.edu"]}
    assert person(AD, "activedirectory", **given).key == "c@example.edu"
    assert (
        person(AD, "activedirectory", mail="z@example.edu", proxyAddresses="smtp:b@example.edu").key == "z@example.edu"
    )
    two = person(AD, "activedirectory", proxyAddresses=["SMTP:d@example.edu", "SMTP:c@example.edu"])
    assert two.key == "c@example.edu"
    assert "several primary addresses" in two.doubt


@pytest.mark.parametrize("target", ["SMTP:joe@new.example.net", "smtp:joe@new.example.net", "joe@new.example.net"])
def test_a_target_address_gets_everything(target: str) -> None:
    remote = person(AD, "activedirectory", mail="joe@example.edu", targetAddress=target)
    assert (remote.forwards, remote.keeps, remote.home) == (("joe@new.example.net",), False, "")
    mailbox = person(AD, "activedirectory", mail="joe@example.edu", targetAddress=target, msExchHomeServerName=EXCH1)
    assert (mailbox.forwards, mailbox.keeps, mailbox.home) == (("joe@new.example.net",), False, "cliff")


@pytest.mark.parametrize("target", ["X400:c=de;a=x", "NOTES:joe", "", ["SMTP:a@x.net", "SMTP:b@x.net"]])
def test_a_target_that_is_no_mail_address_is_a_problem(target: str | list[str]) -> None:
    found = person(AD, "activedirectory", mail="joe@example.edu", msExchHomeServerName=EXCH1, targetAddress=target)
    assert "targetAddress" in found.problem


def test_a_contact_may_lead_to_its_own_outside_address() -> None:
    contact = raw(
        objectClass=["top", "person", "contact"],
        proxyAddresses=["SMTP:joe@gmail.example", "smtp:joe@example.edu"],
        targetAddress="SMTP:joe@gmail.example",
    )
    found = entry(AD, contact)
    assert (found.forwards, found.keeps, found.problem) == (("joe@gmail.example",), False, "")


@pytest.mark.parametrize("kind", ["group", "publicFolder", "msExchDynamicDistributionList"])
def test_groups_of_exchange(kind: str) -> None:
    found = entry(AD, raw(objectClass=["top", kind], mail="all@example.edu"))
    assert (found.role, found.home) == (Role.GROUP, "lists")


def test_a_computer_is_no_person() -> None:
    machine = ["top", "person", "organizationalPerson", "user", "computer"]
    assert AD.item(raw(objectClass=machine)) is None
    assert "neither a person nor a group" in entry(AD, raw(objectClass=machine, mail="x@example.edu")).problem


def test_addresses_of_which_the_server_sent_a_part_make_mail_wait() -> None:
    attributes = {"objectClass": "user", "mail": "joe@example.edu", "proxyAddresses;range=0-1499": "smtp:j@example.edu"}
    assert "sent only a part of proxyAddresses" in entry(AD, raw(**attributes)).problem


@pytest.mark.parametrize(
    ("host", "address", "home", "forwards", "route"),
    [
        ("mail.example.edu", "joe@new.example.edu", "", ("joe@new.example.edu",), ""),
        ("mx.example.edu", "joe@new.example.edu", "", ("joe@new.example.edu",), ""),
        ("cliff.example.edu", "joe@new.example.edu", "cliff", ("joe@new.example.edu",), ""),
        ("cliff.example.edu", None, "cliff", (), ""),
        ("zimbra1.example.edu", "joe7@Zimbra1.example.edu", "zimbra", (), "joe7@Zimbra1.example.edu"),
        ("zimbra1.example.edu", None, "zimbra", (), ""),
        (None, "joe@new.example.edu", "", ("joe@new.example.edu",), ""),
        (None, None, "", (), ""),
    ],
)
def test_the_six_cases_of_sendmail(
    host: str | None, address: str | None, home: str, forwards: tuple[str, ...], route: str
) -> None:
    given = {"mailHost": host, "mailRoutingAddress": address}
    said = {name: value for name, value in given.items() if value is not None}
    found = person(SENDMAIL, "sendmail", mailLocalAddress="joe@example.edu", **said)
    assert (found.home, found.forwards, found.route, found.problem) == (home, forwards, route, "")
    assert found.keeps == (not forwards)


@pytest.mark.parametrize("host", ["mail.example.edu", "mx.example.edu", "gone.example.edu"])
def test_a_host_of_sendmail_that_is_no_store_lets_mail_wait(host: str) -> None:
    found = person(SENDMAIL, "sendmail", mailLocalAddress="joe@example.edu", mailHost=host)
    assert found.home == ""
    assert f"mailHost '{host}'" in found.problem


def test_sendmails_addresses_are_many_and_one_may_be_a_whole_domain() -> None:
    found = person(SENDMAIL, "sendmail", mailLocalAddress=["z@example.edu", "@d.example.edu", "a@example.edu"])
    assert (found.key, found.addresses) == ("a@example.edu", ("@d.example.edu", "a@example.edu", "z@example.edu"))
    assert found.doubt == ""
    whole = person(SENDMAIL, "sendmail", mailLocalAddress="@d.example.edu", mailHost="zimbra1.example.edu")
    assert (whole.key, whole.home) == ("@d.example.edu", "zimbra")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("auto", "20240101000000.000001Z#0"),
        ("entryCSN", "20240101000000.000001Z#0"),
        ("uSNChanged", "00000000000000000123"),
        ("modifyTimestamp", "20240101000000Z"),
    ],
)
def test_versions(chosen: str, expected: str) -> None:
    reader = interpreter(change_attribute=chosen)
    given = {
        "mail": "joe@example.edu",
        "entryCSN": "20240101000000.000001Z#0",
        "uSNChanged": "123",
        "modifyTimestamp": "20240101000000Z",
    }
    assert person(reader, **given).version == expected


def test_versions_sort_and_nonsense_is_none() -> None:
    numbers = ["9", "10", "99", "100", str(2**63)]
    versions = [person(AD, "activedirectory", mail="a@b.edu", uSNChanged=number).version for number in numbers]
    assert versions == sorted(versions)
    assert person(AD, "activedirectory", mail="a@b.edu", uSNChanged="x", modifyTimestamp="2024Z").version == "2024Z"
    assert person(AD, "activedirectory", mail="a@b.edu", entryCSN=b"\xff", uSNChanged="-5").version == ""


def test_a_map_of_ones_own() -> None:
    own = {
        "people": "(&(objectClass=posixAccount)(mailEnabled=TRUE))",
        "canonical": "mail",
        "addresses": ["mail", "alias"],
        "home": "server",
        "statuses": [{"attribute": "state", "values": {"Umzug": "hold", "ok": "active", "gesperrt": "disabled"}}],
        "write_status": "state",
        "write_hold": "Umzug",
    }
    reader = interpreter(own, homes={"Alt": "cliff"})
    joe = {"objectClass": "posixAccount", "mailEnabled": "TRUE", "mail": ["b@d.edu", "a@d.edu"], "alias": "c@d.edu"}
    found = entry(reader, raw(**joe, server="ALT", state="UMZUG"))
    assert (found.key, found.home, found.standing, found.doubt) == ("a@d.edu", "cliff", Standing.HOLD, "")
    assert entry(reader, raw(**joe, state="hold")).standing is Standing.INACTIVE
    assert (reader.status_attribute, reader.hold_value, reader.home_attribute) == ("state", "Umzug", "server")
    assert reader.host_of("cliff") == "Alt"
