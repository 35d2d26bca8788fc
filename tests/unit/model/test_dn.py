import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.model.dn import DnSyntaxError, Rdn, parse_dn


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("dc=example, dc=edu", ((("dc", "example"),), (("dc", "edu"),))),
        ("CN=Doe\\, J\\2c\\c3\\bc ,o=x", ((("cn", "Doe, J,ü"),), (("o", "x"),))),
        ("cn=a+uid=b;o=c", ((("cn", "a"), ("uid", "b")), (("o", "c"),))),
        ('cn="a,b",o=c', ((("cn", "a,b"),), (("o", "c"),))),
        ("2.5.4.3=#04024869", ((("2.5.4.3", "#04024869"),),)),
        ("cn=", ((("cn", ""),),)),
        ("cn=a=b", ((("cn", "a=b"),),)),
    ],
)
def test_parts(text: str, parts: tuple[Rdn, ...]) -> None:
    assert parse_dn(text) == parts


@pytest.mark.parametrize(
    "text",
    ["example.edu", "cn=a,", ",cn=a", "c n=a", "cn=a\\", "cn=a\\z", 'cn="a', "cn=#0", "cn=a\0", "joe@d", "D\\joe"],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(DnSyntaxError):
        parse_dn(text)


@example("a=#2")
@example("a=\\a")
@example("a=\udcff")
@given(st.text(alphabet='a=,+;"\\# 2\udcff', max_size=20))
def test_nothing_else_is_raised(text: str) -> None:
    try:
        parse_dn(text)
    except DnSyntaxError:
        return
