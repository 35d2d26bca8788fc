"""What is asked for is the literal address, and only an entry that has it counts as the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3 import DEREF_NEVER, SUBTREE
from ldap3.operation.search import search_operation
from support.directory_entries import domain, interpreter, person, raw

from router.directory.filters import all_filter, attributes, carries, domain_filter_for, filter_for, spellings
from router.directory.presets import PRESETS
from router.model.address import AddressSyntaxError, parse_address
from router.model.ldap_filter import Combined, Item, escape, parse_filter
from router.settings.directory import AttributeMap

SUN = PRESETS["sun"]
PLAIN = AttributeMap()


def items(text: str) -> list[Item]:
    def walk(found: Item | Combined) -> list[Item]:
        return [found] if isinstance(found, Item) else [one for inner in found.inner for one in walk(inner)]

    return walk(parse_filter(text))


def unescaped(text: str) -> bytes:
    """A decoder of RFC 4515 literals that shares nothing with the code under test."""
    found, at = bytearray(), 0
    while at < len(text):
        if text[at] == "\\":
            found.append(int(text[at + 1 : at + 3], 16))
            at += 3
        else:
            found += text[at].encode("ascii")
            at += 1
    return bytes(found)


def test_addresses_are_gathered_into_one_search() -> None:
    assert filter_for(PLAIN, ["a@d.edu", "b@d.edu"]) == "(&(objectClass=inetOrgPerson)(|(mail=a@d.edu)(mail=b@d.edu)))"
    assert filter_for(PLAIN, ["a@d.edu", "a@d.edu"]) == "(&(objectClass=inetOrgPerson)(mail=a@d.edu))"


def test_every_attribute_of_people_and_groups_is_asked() -> None:
    assert filter_for(SUN, ["a@d.edu"]) == (
        "(&(|(objectClass=inetMailUser)(objectClass=inetMailGroup))"
        "(|(mail=a@d.edu)(mailAlternateAddress=a@d.edu)(mailEquivalentAddress=a@d.edu)))"
    )
    assert "(|(mail=a@d.edu)(proxyAddresses=smtp:a@d.edu))" in filter_for(PRESETS["activedirectory"], ["a@d.edu"])


def test_a_catch_all_is_asked_for_only_by_its_own_key() -> None:
    assert filter_for(SUN, ["@d.edu"]).endswith("(mailAlternateAddress=@d.edu))")
    assert "=@" not in filter_for(SUN, ["a@d.edu"])
    assert filter_for(PLAIN, ["@d.edu"]) == filter_for(PLAIN, []) == ""


def test_domains() -> None:
    assert domain_filter_for(SUN, ["mcs.d.edu"]) == (
        "(&(|(objectClass=mailDomain)(objectClass=inetDomain))"
        "(|(sunPreferredDomain=mcs.d.edu)(associatedDomain=mcs.d.edu)(dc=mcs)))"
    )
    assert domain_filter_for(PLAIN, ["d.edu"]) == domain_filter_for(SUN, []) == ""


def test_everything() -> None:
    assert all_filter(PLAIN) == "(objectClass=inetOrgPerson)"
    assert all_filter(SUN) == f"(|{SUN.people}{SUN.groups}{SUN.domains})"


@pytest.mark.parametrize("key", ["*@d.edu", "a)(uid=*@d.edu", "\\2a@d.edu", "a\0b@d.edu", "jürgen@d.edu", " a @d.edu"])
def test_odd_addresses_are_literals(key: str) -> None:
    for schema in PRESETS.values():
        found = [one for one in items(filter_for(schema, [key])) if one.name.lower() != "objectclass"]
        assert all(len(one.parts) == 1 for one in found)
        assert any(one.parts[0].endswith(key.encode()) for one in found)


@given(st.text(min_size=1, max_size=20))
def test_what_is_asked_is_what_was_given(local: str) -> None:
    key = f"{local}@example.edu"
    assert unescaped(escape(key)) == key.encode("utf-8", "backslashreplace")
    text = filter_for(PLAIN, [key])
    asked = {one.parts for one in items(text) if one.name == "mail"}
    assert (key.encode("utf-8", "backslashreplace"),) in asked
    assert all(len(parts) == 1 for parts in asked), "no wildcard"
    for spelling in spellings(key):
        try:
            address = parse_address(spelling)
        except AddressSyntaxError:
            continue
        assert address.domain == "example.edu", "no spelling leads to another domain"


@given(st.text(min_size=1, max_size=20), st.booleans())
def test_the_library_sends_the_literal(odd: str, auto_escape: bool) -> None:
    text = f"(|(mail={escape(odd)})(x=y))"
    request = search_operation("dc=example", text, SUBTREE, DEREF_NEVER, ["mail"], 0, 0, False, auto_escape, True)
    sent = request["filter"]["or"][0]["equalityMatch"]["assertionValue"]
    assert bytes(sent) == odd.encode("utf-8", "backslashreplace")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("joe@example.edu", ("joe@example.edu",)),
        ("joe x@example.edu", ('"joe x"@example.edu', "joe x@example.edu")),
        ('a"b@example.edu', ('"a\\"b"@example.edu', 'a"b@example.edu')),
        ("joe@xn--bcher-kva.example", ("joe@xn--bcher-kva.example", "joe@bücher.example")),
        ("joe@xn--zzzzzzzz-.example", ("joe@xn--zzzzzzzz-.example",)),
    ],
)
def test_the_spellings_of_a_key(key: str, expected: tuple[str, ...]) -> None:
    assert spellings(key) == expected


@given(st.text(alphabet='ab\\" ü+.@', min_size=1, max_size=8))
def test_no_spelling_is_another_address(local: str) -> None:
    assert parse_address(spellings(f"{local}@xn--bcher-kva.example")[0]).key == f"{local}@xn--bcher-kva.example"


def test_a_catch_all_in_other_letters() -> None:
    assert "(mailAlternateAddress=@b\\c3\\bccher.example)" in filter_for(SUN, ["@xn--bcher-kva.example"])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_everything_that_is_read_is_asked_for(name: str) -> None:
    wanted = attributes(PRESETS[name])
    assert len({one.lower() for one in wanted}) == len(wanted)
    assert "" not in wanted
    assert {"objectClass", "entryCSN", "modifyTimestamp", "uSNChanged", PRESETS[name].home} <= set(wanted)
    own = AttributeMap(people="(&(isMailUser=TRUE)(!(gone=*)))", show=("Mail", "room"))
    assert {"isMailUser", "gone", "room"} <= set(attributes(own))
    assert [one for one in attributes(own) if one.lower() == "mail"] == ["mail"]


def test_only_an_entry_that_has_the_address_is_an_answer() -> None:
    joe = person(interpreter(), mail="Joe@Example.edu", mailAlternateAddress=["j@example.edu", "@d.edu"])
    for key, has in (
        ("joe@example.edu", True),
        ("j@example.edu", True),
        ("@d.edu", True),
        ("x@d.edu", False),
        ("jo@example.edu", False),
        ("*", False),
    ):
        assert carries(joe, key) is has
    whole = domain(
        interpreter(), raw("o=d", objectClass="mailDomain", sunPreferredDomain="d.edu", associatedDomain="e.edu")
    )
    assert carries(whole, "anybody@d.edu")
    assert carries(whole, "anybody@e.edu")
    assert not carries(whole, "anybody@x.d.edu")
