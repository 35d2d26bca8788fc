"""Sub-addresses, rules S1 to S9."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.classify.subaddress import Split, quoted, spelled_local, split, wire_local, with_suffix
from router.model.address import parse_address


@pytest.mark.parametrize(
    ("local", "delimiters", "parts"),
    [
        ("joe", "+", None),
        ("joe+lists", "+", ("joe", "+", "lists")),
        ("joe+a+b", "+", ("joe", "+", "a+b")),
        ("joe+", "+", ("joe", "+", "")),
        ("+joe", "+", None),
        ("+joe+a", "+", None),
        ("+", "+", None),
        ("", "+", None),
        ("joe+x", "", None),
        ("joe-x+y", "+-", ("joe", "-", "x+y")),
        ("joe+x-y", "+-", ("joe", "+", "x-y")),
        ("postmaster+x", "+", ("postmaster", "+", "x")),
        ("mailer-daemon", "-", None),
        ("double-bounce", "-", None),
        ("MAILER-Daemon", "-", None),
        ("owner-news", "-", None),
        ("news-request", "-", None),
        ("news-Request", "+-", None),
        ("owner-", "-", ("owner", "-", "")),
        ("-request", "-", None),
        ("owner-news", "+", None),
        ("owner-news+x", "+", ("owner-news", "+", "x")),
        ("news-owner", "-", ("news", "-", "owner")),
    ],
)
def test_split(local: str, delimiters: str, parts: tuple[str, str, str] | None) -> None:
    assert split(local, delimiters) == (None if parts is None else Split(*parts))


@given(st.text("ab+-=.", max_size=12), st.text("+-=", max_size=3))
def test_a_split_loses_nothing(local: str, delimiters: str) -> None:
    parts = split(local, delimiters)

    if parts is not None:
        assert parts.base
        assert parts.base + parts.suffix == local
        assert not set(parts.base) & set(delimiters)


@pytest.mark.parametrize(
    ("text", "spelled", "wire"),
    [
        ("Joe+X@Example.edu", "Joe+X", "Joe+X"),
        ('"Joe X"@example.edu', "Joe X", '"Joe X"'),
        ('"a\\"b@c"@example.edu', 'a"b@c', '"a\\"b@c"'),
        ("PostMaster", "PostMaster", "PostMaster"),
        ("a@[IPv6:2001:db8::1]", "a", "a"),
    ],
)
def test_the_spelling_of_a_local_part(text: str, spelled: str, wire: str) -> None:
    address = parse_address(text)

    assert (spelled_local(address), wire_local(address)) == (spelled, wire)


@pytest.mark.parametrize(
    ("key", "suffix", "address"),
    [
        ("joe.user@example.edu", "", "joe.user@example.edu"),
        ("joe.user@example.edu", "+Foo", "joe.user+Foo@example.edu"),
        ("joe.user@example.edu", "+", "joe.user+@example.edu"),
        ("joe.user@example.edu", "+a b", '"joe.user+a b"@example.edu'),
        ("joe@example.edu", "+a.", '"joe+a."@example.edu'),
        ('a"b\\@example.edu', "", '"a\\"b\\\\"@example.edu'),
        ("a@b@example.edu", "", '"a@b"@example.edu'),
    ],
)
def test_an_extension_travels_with_an_alias(key: str, suffix: str, address: str) -> None:
    assert with_suffix(key, suffix) == address


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30))
def test_what_is_written_reads_back(local: str) -> None:
    address = parse_address(f"{quoted(local)}@example.edu")

    assert spelled_local(address) == local
