"""A search is written as ldap3 writes it, octet by octet, and read as ldap3 reads it."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3 import BASE, DEREF_NEVER, SUBTREE
from ldap3.operation.search import search_operation, search_result_entry_response_to_dict_fast
from ldap3.protocol.convert import build_controls_list
from ldap3.protocol.rfc2696 import paged_search_control
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from ldap3.utils.asn1 import decode_message_fast, encode

from router.directory.search_message import (
    Control,
    Elsewhere,
    End,
    Question,
    paging,
    search_message,
    told_by,
)
from router.model.directory import RawEntry
from router.model.ldap_filter import FilterSyntaxError, escape

_NAMES = st.sampled_from(["mail", "objectClass", "2.5.4.3", "cn;lang-de"])
_VALUES = st.text(max_size=200).filter(lambda text: text.isprintable()).map(escape)
_ITEMS = st.one_of(
    st.builds("({}={})".format, _NAMES, _VALUES.filter(bool)),
    st.builds("({}={}*{}*{})".format, _NAMES, _VALUES, _VALUES.filter(bool), _VALUES),
    st.builds("({}={}*)".format, _NAMES, _VALUES),
    st.builds("({}~={})".format, _NAMES, _VALUES.filter(bool)),
    st.builds("({}>={})".format, _NAMES, _VALUES.filter(bool)),
    st.builds("({}<={})".format, _NAMES, _VALUES.filter(bool)),
    st.builds("({}:1.2.840.113556.1.4.803:={})".format, _NAMES, _VALUES.filter(bool)),
    st.builds("({}:dn:={})".format, _NAMES, _VALUES.filter(bool)),
    st.builds("(:dn:2.5.13.2:={})".format, _VALUES.filter(bool)),
)
_FILTERS = st.recursive(
    _ITEMS,
    lambda inner: st.one_of(
        st.builds("(!{})".format, inner),
        st.builds("(&{})".format, st.lists(inner, min_size=1, max_size=4).map("".join)),
        st.builds("(|{})".format, st.lists(inner, min_size=1, max_size=4).map("".join)),
    ),
    max_leaves=8,
)
_QUESTIONS = st.builds(
    Question,
    st.sampled_from(["", "dc=example,dc=edu", "ou=Ämter,o=x"]),
    _FILTERS,
    st.lists(st.sampled_from(["mail", "cn", "modifyTimestamp"]), max_size=30).map(tuple),
    st.booleans(),
)
_NUMBERS = st.integers(1, 2**31 - 1)


def written_by_ldap3(number: int, question: Question, seconds: int, controls: list[Any]) -> bytes:
    message = LDAPMessage()
    message["messageID"] = MessageID(number)
    scope = SUBTREE if question.whole else BASE
    request = search_operation(
        question.base, question.filter, scope, DEREF_NEVER, list(question.attributes), 0, seconds, False, False, False
    )
    message["protocolOp"] = ProtocolOp().setComponentByName("searchRequest", request)
    if controls:
        message["controls"] = build_controls_list(controls)
    return bytes(encode(message))


@given(_NUMBERS, _QUESTIONS, st.integers(1, 100_000))
def test_what_is_sent_is_what_ldap3_sends(number: int, question: Question, seconds: int) -> None:
    assert search_message(number, question, seconds) == written_by_ldap3(number, question, seconds, [])


@given(st.integers(1, 2**31 - 1), st.binary(max_size=300))
def test_so_is_a_page(size: int, cookie: bytes) -> None:
    question, scope = Question("", "(a=b)", ()), ("1.2.840.113556.1.4.1339", False, None)
    theirs = written_by_ldap3(7, question, 9, [scope, paged_search_control(True, size, cookie)])
    assert search_message(7, question, 9, [scope, paging(size, cookie)]) == theirs


def test_a_rule_that_begins_like_the_word_for_the_dn_is_a_rule() -> None:
    assert b"\x81\x10dnQualifierMatch\x82\x02cn" in search_message(1, Question("", "(cn:dnQualifierMatch:=x)", ()), 1)


@pytest.mark.parametrize("pattern", ["(cn=*)", "(cn=**)"])
def test_a_pattern_without_a_letter_asks_for_presence(pattern: str) -> None:
    """A substring of no length is no filter (RFC 4511 4.5.1.7.2)."""
    assert b"\x01\x01\x00\x87\x02cn0\x00" in search_message(1, Question("", pattern, ()), 1)


@pytest.mark.parametrize(
    ("question", "error"),
    [(Question("", "(mail=a", ()), FilterSyntaxError), (Question("\udc80", "(a=b)", ()), UnicodeEncodeError)],
)
def test_what_cannot_be_written_is_refused(question: Question, error: type[ValueError]) -> None:
    with pytest.raises(error):
        search_message(1, question, 1)


# --- what comes back, written with pieces of BER by hand ------------------------------------------------------------


def tlv(tag: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    return bytes([tag, 0x82]) + len(value).to_bytes(2, "big") + value


def octets(text: str | bytes) -> bytes:
    return tlv(4, text if isinstance(text, bytes) else text.encode())


def answered(number: int, operation: bytes, *more: bytes) -> bytes:
    return tlv(0x30, bytes([2, 1, number]), operation, *more)


def entry(dn: str | bytes, attributes: list[tuple[str, list[bytes]]]) -> bytes:
    told = [tlv(0x30, octets(name), tlv(0x31, *map(octets, values))) for name, values in attributes]
    return tlv(0x64, octets(dn), tlv(0x30, *told))


def done(code: int, text: str = "") -> bytes:
    return tlv(0x65, bytes([10, 1, code]), octets(""), octets(text))


_ATTRIBUTES = st.dictionaries(
    st.text(string.ascii_letters, min_size=1, max_size=9), st.lists(st.binary(max_size=20), max_size=3), max_size=5
)


@given(st.text(max_size=20).filter(lambda text: text.isprintable()), _ATTRIBUTES)
def test_an_entry_is_read_as_ldap3_reads_it(dn: str, attributes: dict[str, list[bytes]]) -> None:
    attributes = {name.lower(): values for name, values in attributes.items()}
    message = answered(3, entry(dn, list(attributes.items())))
    theirs = search_result_entry_response_to_dict_fast(decode_message_fast(message)["payload"], None, None, False)
    told = told_by(message, 3)
    assert isinstance(told, RawEntry)
    assert told.dn == theirs["dn"]
    assert told.attributes == {name: tuple(values or ()) for name, values in theirs["raw_attributes"].items()}


def test_a_dn_that_is_not_utf_8_is_still_read() -> None:
    """Active Directory is known to send such (ldap3 reads it as Latin-1)."""
    told = told_by(answered(3, entry(b"cn=\xe4", [])), 3)
    assert told == RawEntry("cn=ä", {})


def test_names_are_in_lower_case_and_parts_of_a_value_list_come_together() -> None:
    """Active Directory sends at most 1,500 values of an attribute (`proxyAddresses;range=0-1499`)."""
    sent = [("mail", [b"a"]), ("proxyAddresses", []), ("proxyAddresses;range=0-1499", [b"SMTP:a"])]
    told = told_by(answered(3, entry("cn=a", sent)), 3)
    attributes = {"mail": (b"a",), "proxyaddresses": (b"SMTP:a",), "proxyaddresses;range=0-1499": ()}
    assert told == RawEntry("cn=a", attributes)


def test_the_end_has_code_text_and_cookie() -> None:
    cookie = tlv(0x30, bytes([2, 1, 0]), octets(b"\x00more"))
    other = tlv(0x30, octets("1.2.3"), octets("x"))
    paged: Control = ("1.2.840.113556.1.4.319", False, cookie)
    controls = tlv(0xA0, other, tlv(0x30, octets(paged[0]), bytes([1, 1, 0]), octets(cookie)))
    assert told_by(answered(3, done(0), controls), 3) == End(0, "", b"\x00more")
    assert told_by(answered(3, done(4, "too much")), 3) == End(4, "too much", b"")


def test_other_things_that_a_server_says() -> None:
    assert isinstance(told_by(answered(3, tlv(0x73, octets("ldap://other/"))), 3), Elsewhere)
    assert told_by(answered(3, tlv(0x79, tlv(0x80, b"1.2.3"))), 3) is None, "an intermediate response"
    with pytest.raises(ValueError, match="ends the session"):
        told_by(answered(0, tlv(0x78, bytes([10, 1, 52]), octets(""), octets(""))), 3)
    with pytest.raises(ValueError, match="no question of ours"):
        told_by(answered(2, done(0)), 3)
    with pytest.raises(ValueError, match="another kind"):
        told_by(answered(3, tlv(0x67, bytes([10, 1, 0]), octets(""), octets(""))), 3)
