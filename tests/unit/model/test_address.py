"""The one path parser: what it takes, what it refuses, and that it can do nothing else."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.model.address import MAX_PATH, Address, AddressSyntaxError, parse_address, parse_domain, parse_path

GOOD = {
    "user@example.edu": "user@example.edu",
    "John.Doe@Example.EDU": "john.doe@example.edu",
    "user+tag@example.edu": "user+tag@example.edu",
    "a!b%c@example.edu": "a!b%c@example.edu",
    "o'neil/x=y?z^`{|}~-*&#$@example.edu": "o'neil/x=y?z^`{|}~-*&#$@example.edu",
    '"john"@example.edu': "john@example.edu",
    '"a b"@example.edu': "a b@example.edu",
    '"a\\"b"@example.edu': 'a"b@example.edu',
    '"u@evil.example"@example.edu': "u@evil.example@example.edu",
    "user@[192.0.2.1]": "user@[192.0.2.1]",
    "user@[IPv6:2001:DB8::1]": "user@[ipv6:2001:db8::1]",
    "user@under_score.example": "user@under_score.example",
    "Postmaster": "postmaster@",
    "POSTMASTER@example.edu": "postmaster@example.edu",
    "user@bücher.example": "user@xn--bcher-kva.example",
    "user@BÜCHER.example": "user@xn--bcher-kva.example",
    "Jürgen@example.edu": "jürgen@example.edu",
    "x" * 64 + "@example.edu": "x" * 64 + "@example.edu",
    "x" * 300 + "@example.edu": "x" * 300 + "@example.edu",
}

BAD = [
    "",
    "user",
    "postmaster@",
    '"postmaster"',
    "@example.edu",
    "user@",
    "user@@example.edu",
    "u@evil.example@example.edu",
    "user@example.edu.",
    "user@.example.edu",
    "user@example..edu",
    "user@-example.edu",
    "user@example-.edu",
    "user@exa mple.edu",
    "user@" + "a" * 64 + ".edu",
    "user@" + "a." * 130 + "edu",
    "x" * MAX_PATH + "@example.edu",
    ".user@example.edu",
    "user.@example.edu",
    "us..er@example.edu",
    "us er@example.edu",
    "us\ter@example.edu",
    "us\0er@example.edu",
    "us\x85er@example.edu",
    "us\u2028er@example.edu",
    "us\u202eer@example.edu",
    "us\udc80er@example.edu",
    'a"b"@example.edu',
    '""@example.edu',
    '"a@example.edu',
    '"a\r\nb"@example.edu',
    "user@[192.0.2.1",
    "user@[192.0.2.256]",
    "user@[::1]",
    "user@[IPv6:::1%eth0]",
    "user@[IPv6:::1%> NOTIFY=NEVER]",
    "user@[IPv6:::1%\r\n]",
    "user@[evil]",
    "user@[\u0661.2.3.4]",
    "user@ex\u202eample.edu",
    "<user@example.edu>",
    "<evil@x.y> good@example.edu",
    "user@example.edu> NOTIFY=NEVER",
    "user@example.edu\r\nRCPT TO:<x@y>",
]


@pytest.mark.parametrize(("text", "key"), GOOD.items())
def test_good_addresses_keep_their_wire_form_and_fold_to_a_key(text: str, key: str) -> None:
    address = parse_address(text)
    assert address.wire == text
    assert address.key == key


@pytest.mark.parametrize("text", BAD)
def test_inv_65_bad_addresses_are_syntax_errors(text: str) -> None:
    with pytest.raises(AddressSyntaxError):
        parse_address(text)


def test_the_error_does_not_quote_the_address() -> None:
    with pytest.raises(AddressSyntaxError) as caught:
        parse_address("secret person@example.edu")
    assert "secret" not in str(caught.value)


def test_one_name_in_two_unicode_spellings_is_one_key() -> None:
    assert parse_address("e\u0301t\u00e9@example.edu").key == parse_address("\u00e9te\u0301@EXAMPLE.edu").key


def test_ascii_says_whether_smtputf8_is_needed() -> None:
    assert parse_address("user@example.edu").ascii
    assert not parse_address("user@bücher.example").ascii


@pytest.mark.parametrize(
    ("path", "wire"),
    [
        ("<user@example.edu>", "user@example.edu"),
        ("<@relay.example:user@example.edu>", "user@example.edu"),
        ("<@a.example,@b.example:user@example.edu>", "user@example.edu"),
        ("<Postmaster>", "Postmaster"),
    ],
)
def test_paths_lose_their_brackets_and_source_route(path: str, wire: str) -> None:
    address = parse_path(path)
    assert address is not None
    assert address.wire == wire


def test_inv_74_the_null_path_is_none() -> None:
    assert parse_path("<>") is None


@pytest.mark.parametrize(
    "path", ["", "<", ">", "user@example.edu", "<user@example.edu", "<@:u@e>", "<@a u@e.x>", "< >"]
)
def test_rx2_bad_paths_are_syntax_errors(path: str) -> None:
    with pytest.raises(AddressSyntaxError):
        parse_path(path)


@pytest.mark.parametrize("text", ["<\\=()@[@d>", "<a@[>", "<\x00>", "<\ud800@d>"])
def test_rx2_inputs_that_broke_other_parsers(text: str) -> None:
    with pytest.raises(AddressSyntaxError):
        parse_path(text)


@example("a@[192.0.2.256]")
@example("\udcff@example.edu")
@given(st.text())
def test_any_text_is_an_address_or_a_syntax_error(text: str) -> None:
    for parse in (parse_address, parse_path, parse_domain):
        with contextlib.suppress(AddressSyntaxError):
            parse(text)


SPICE = st.text(alphabet='ab.@<>"\\[]:%,; \r\n\0éü\uff21\u3002ß\u200d\u0301İ1-', max_size=30)


@given(SPICE, SPICE)
def test_what_is_accepted_is_safe_to_send_and_to_compare(local: str, domain: str) -> None:
    text = f"{local}@{domain}"
    try:
        address = parse_address(text)
    except AddressSyntaxError:
        return
    assert address.wire == text
    assert not set(text) & set("\r\n\0")
    assert address.domain == address.domain.lower()
    assert address.domain.isascii()
    assert parse_domain(address.domain) == address.domain
    assert address.local == address.local.lower() or not address.local.isascii()
    text.encode("utf-8")


@given(st.from_regex(r"[A-Za-z0-9]{1,10}(\.[A-Za-z0-9]{1,10}){0,2}", fullmatch=True))
def test_case_and_quotes_do_not_make_another_key(local: str) -> None:
    plain = parse_address(f"{local}@Example.EDU")
    assert parse_address(f'"{local.upper()}"@example.edu').key == plain.key
    assert plain == Address(f"{local}@Example.EDU", local.lower(), "example.edu")
