import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.model.ldap_filter import (
    Combined,
    FilterSyntaxError,
    Item,
    escape,
    is_attribute_name,
    matches,
    names_in,
    parse_filter,
)

ANN = {
    "objectclass": (b"inetOrgPerson", b"top"),
    "cn": (b"Ann  Lee",),
    "uid": (b"ann",),
    "number": (b"7",),
    "objectcategory": (b"CN=Person,CN=Schema,DC=example",),
}


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("joe@example.edu", "joe@example.edu"),
        ("*@d", r"\2a@d"),
        ("a)(uid=*", r"a\29\28uid=\2a"),
        ("a\\b", r"a\5cb"),
        ("a\0b", r"a\00b"),
        ("bücher", r"b\c3\bccher"),
        (" a b ", r"\20a b\20"),
        ("  ", r"\20\20"),
        ("a\r\n", r"a\0d\0a"),
        ("", ""),
        ("\udcff", r"\5cudcff"),
    ],
)
def test_what_an_address_looks_like_in_a_filter(text: str, literal: str) -> None:
    assert escape(text) == literal


@given(st.text())
def test_an_escaped_text_is_one_literal(text: str) -> None:
    literal = escape(text)
    assert literal.isascii()
    assert literal.isprintable()
    expected = text.encode("utf-8", "backslashreplace")
    assert parse_filter(f"(mail={literal})") == Item("mail", "=", "", (expected,))


def test_a_filter_and_its_attributes() -> None:
    found = parse_filter("(&(objectClass=*)(!(cn=a*b\\2ac))(|(uid>=5)(x:1.2.3:=7)(y:dn:=z)))")
    assert isinstance(found, Combined)
    assert found.inner[0] == Item("objectClass", "=", "", (b"", b""))
    assert list(names_in(found)) == ["objectClass", "cn", "uid", "x", "y"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mail=a",
        "(mail=a",
        "(mail=a))",
        "(mail=a)(b=c)",
        "(&)",
        "(!(a=b)(c=d))",
        "(!)",
        "(mail)",
        "(=a)",
        "(ma il=a)",
        "(mail=a\\zz)",
        "(mail=a\\2)",
        "(mail=(a)",
        "(mail=a\0)",
        "(a~b=c)",
        "(a:1.2>=c)",
        "(&(a=b)",
        "(" * 5000,
        "(&" * 5000 + "(a=b)" + ")" * 5000,
    ],
)
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(FilterSyntaxError):
        parse_filter(text)


@example("(a=\\2)")
@example("(a:2:>=2)")
@example("(!)")
@example("(number:1.2.840.113556.1.4.803:=a)")
@given(st.text(alphabet="()&|!*=\\:<>~a2 ", max_size=40))
def test_parsing_never_fails_otherwise(text: str) -> None:
    try:
        matches(parse_filter(text), ANN)
    except FilterSyntaxError:
        return


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(objectClass=INETorgperson)", True),
        ("(objectClass=person)", True),
        ("(objectClass=group)", False),
        ("(CN=ann lee)", True),
        ("(cn=*)", True),
        ("(sn=*)", False),
        ("(cn=a*e)", True),
        ("(cn=*nn*)", True),
        ("(cn=*z*)", False),
        ("(uid~=ANN)", True),
        ("(number>=10)", False),
        ("(number<=10)", True),
        ("(number:1.2.840.113556.1.4.803:=3)", True),
        ("(number:1.2.840.113556.1.4.803:=8)", False),
        ("(number:1.2.840.113556.1.4.804:=9)", True),
        ("(number:1.2.3:=9)", None),
        ("(!(number:1.2.3:=9))", None),
        ("(&(uid=ann)(number:1.2.3:=9))", None),
        ("(&(uid=bob)(number:1.2.3:=9))", False),
        ("(|(uid=ann)(number:1.2.3:=9))", True),
        ("(|(uid=bob)(number:1.2.3:=9))", None),
        ("(&(objectClass=person)(!(objectClass=computer)))", True),
        ("(objectCategory=person)", True),
        ("(objectCategory=computer)", False),
    ],
)
def test_judging_an_entry(text: str, expected: bool | None) -> None:
    assert matches(parse_filter(text), ANN) is expected


@pytest.mark.parametrize(("name", "good"), [("mail", True), ("2.5.4.3", True), ("a;lang-de", True), ("a b", False)])
def test_names_of_attributes(name: str, good: bool) -> None:
    assert is_attribute_name(name) is good
    assert not is_attribute_name("a)(b")
