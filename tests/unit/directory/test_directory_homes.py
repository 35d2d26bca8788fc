"""A value of the home attribute means one store or none, and what is written reads as what was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.directory_entries import STORES, interpreter, person

from router.errors import NotFound

HOMES = {"oldmail.example.edu": "cliff", "Newmail.Example.edu.": "zimbra", "shared.example.edu": "sunray"}
SUN = interpreter(homes=HOMES)


@pytest.mark.parametrize(
    ("host", "store"),
    [
        ("oldmail.example.edu", "cliff"),
        ("OLDMAIL.example.EDU.", "cliff"),
        (" newmail.example.edu ", "zimbra"),
        ("cliff.example.edu", "cliff"),
        ("Zimbra2.Example.edu", "zimbra"),
        ("zimbra2.example.edu:2525", "zimbra"),
        ("[cliff.example.edu]", "cliff"),
        ("shared.example.edu", "sunray"),
    ],
)
def test_hosts_that_mean_a_store(host: str, store: str) -> None:
    found = person(SUN, mail="joe@example.edu", mailHost=host)
    assert (found.home, found.problem) == (store, "")
    assert found.host == host.strip()
    assert SUN.store_of(host) == store


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("gone.example.edu", "is no host of any store"),
        ("", "is no host of any store"),
        ("liff.example.edu", "is no host of any store"),
        ("example.edu", "is no host of any store"),
        ("x.cliff.example.edu", "is no host of any store"),
        ("*", "is no host of any store"),
        ("mx.example.edu", "this relay itself"),
        ("MX.example.edu.", "this relay itself"),
        ("cliff.example.edu\x1b[2J\n", "\\x1b[2J\\n"),
    ],
)
def test_hosts_that_mean_none_are_a_problem_that_names_entry_and_value(host: str, reason: str) -> None:
    found = person(SUN, mail="joe@example.edu", mailHost=host)
    assert found.home == ""
    assert found.problem.startswith("uid=joe,dc=example: mailHost '")
    assert reason in found.problem
    assert found.problem.isprintable()
    assert SUN.store_of(host) == ""


def test_a_host_of_two_stores_is_ambiguous_unless_homes_says_which() -> None:
    found = person(interpreter(), mail="joe@example.edu", mailHost="shared.example.edu")
    assert found.home == ""
    assert "is a host of cliff and sunray: say in `homes`" in found.problem
    with_port = person(interpreter(), mail="joe@example.edu", mailHost="shared.example.edu:2525")
    assert with_port.home == "sunray"


def test_two_hosts_are_none() -> None:
    found = person(SUN, mail="joe@example.edu", mailHost=["cliff.example.edu", "zimbra1.example.edu"])
    assert found.home == ""
    assert "mailHost has several values, 'cliff.example.edu', 'zimbra1.example.edu'" in found.problem
    same = person(SUN, mail="joe@example.edu", mailHost=["cliff.example.edu", "CLIFF.example.edu"])
    assert (same.home, same.problem) == ("cliff", "")


def test_no_host_is_no_problem() -> None:
    found = person(SUN, mail="joe@example.edu")
    assert (found.home, found.host, found.problem) == ("", "", "")
    assert SUN.store_of(None) == ""


@pytest.mark.parametrize(
    ("transport", "store"),
    [
        ("lmtp:zimbra1.example.edu:7025", "zimbra"),
        ("LMTP:Zimbra1.Example.EDU:7025", "zimbra"),
        ("smtp:cliff.example.edu:25", "cliff"),
        ("smtp:[cliff.example.edu]", "cliff"),
        ("relay:cliff.example.edu", "cliff"),
        ("smtp:shared.example.edu:2525", "sunray"),
        ("smtp:shared.example.edu:26", ""),
        ("local:cliff.example.edu", ""),
        ("smtp:", ""),
        ("smtp:mx.example.edu:25", ""),
        ("error:", ""),
    ],
)
def test_transports(transport: str, store: str) -> None:
    zimbra = interpreter("zimbra")
    found = person(zimbra, "zimbra", zimbraMailDeliveryAddress="joe@example.edu", zimbraMailTransport=transport)
    assert found.home == store
    assert bool(found.problem) == (not store)


def test_a_transport_comes_before_the_mailbox_server() -> None:
    given = {"zimbraMailDeliveryAddress": "joe@example.edu", "zimbraMailHost": "zimbra1.example.edu"}
    zimbra = interpreter("zimbra")
    assert person(zimbra, "zimbra", **given).home == "zimbra"
    assert person(zimbra, "zimbra", **given, zimbraMailTransport="smtp:cliff.example.edu:25").home == "cliff"
    assert person(zimbra, "zimbra", **given, zimbraMailTransport="smtp:gone.example.edu:25").home == ""


@pytest.mark.parametrize(
    ("given", "store"),
    [
        ({"msExchHomeServerName": "/o=Org/ou=Group/cn=Configuration/cn=Servers/cn=EXCH1"}, "zimbra"),
        ({"homeMDB": "CN=DB1,CN=SG1,CN=InformationStore,CN=exch1,CN=Servers,CN=AG1,DC=example"}, "zimbra"),
        ({"homeMDB": "CN=DB7,CN=Databases,CN=AG1,CN=Org,CN=Microsoft Exchange,DC=example"}, "cliff"),
        ({"homeMDB": "CN=Servers,CN=AG1"}, ""),
        ({"homeMDB": "nonsense"}, ""),
        ({"msExchHomeServerName": "/o=Org/ou=x"}, ""),
        ({"msExchHomeServerName": "/o=Org/cn=EXCH2", "homeMDB": "CN=DB7,CN=Databases"}, ""),
    ],
)
def test_servers_of_exchange(given: dict[str, str], store: str) -> None:
    exchange = interpreter("activedirectory", homes={"EXCH1": "zimbra", "db7": "cliff"})
    found = person(exchange, "activedirectory", mail="joe@example.edu", **given)
    assert found.home == store
    assert bool(found.problem) == (not store)


def test_what_is_written_for_a_store() -> None:
    assert SUN.host_of("cliff") == "oldmail.example.edu"
    assert SUN.host_of("lists") == "lists.example.edu"
    assert interpreter().host_of("zimbra") == "zimbra1.example.edu"
    assert interpreter().host_of("sunray") == "sunray.example.edu"
    zimbra = interpreter("zimbra", homes={"newmail.example.edu": "zimbra", "lmtp:old:7025": "cliff"})
    assert zimbra.host_of("zimbra") == "smtp:newmail.example.edu:25"
    assert zimbra.host_of("cliff") == "lmtp:old:7025"
    assert zimbra.host_of("lists") == "lmtp:lists.example.edu:7025"


def test_a_store_with_several_values_needs_to_be_told_which_is_written() -> None:
    homes = {"b.example.edu": "zimbra", "a.example.edu": "zimbra"}
    with pytest.raises(NotFound, match=r"a\.example\.edu, b\.example\.edu all mean zimbra: say in `write_homes`"):
        interpreter(homes=homes).host_of("zimbra")
    told = interpreter(homes=homes, write_homes={"zimbra": "b.example.edu"})
    assert told.host_of("zimbra") == "b.example.edu"


@pytest.mark.parametrize(
    ("schema", "store", "reason"),
    [
        ("sun", "gone", "there is no store gone"),
        ("activedirectory", "zimbra", "not written"),
        ({"home": "mailHost", "write_home": False}, "zimbra", "not written"),
        ({}, "zimbra", "not written"),
    ],
)
def test_stores_for_which_nothing_can_be_written(schema: object, store: str, reason: str) -> None:
    with pytest.raises(NotFound, match=reason):
        interpreter(schema).host_of(store)


def test_a_value_that_would_read_as_another_store_is_never_written() -> None:
    crossed = interpreter(write_homes={"zimbra": "cliff.example.edu"})
    with pytest.raises(NotFound, match="no value of mailHost means zimbra"):
        crossed.host_of("zimbra")


@given(st.sampled_from(["sun", "zimbra", "sendmail"]), st.sampled_from(sorted(STORES)))
def test_what_is_written_reads_as_the_store(schema: str, store: str) -> None:
    reader = interpreter(schema)
    assert reader.store_of(reader.host_of(store)) == store
