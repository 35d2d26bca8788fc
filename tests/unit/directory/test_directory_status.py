"""The status values of semantics 1, attribute by attribute."""

import pytest
from support.directory_entries import domain, entry, interpreter, person, raw

from router.directory.interpret import Interpreter
from router.model.directory import Standing, effective

ALL = ("active", "inactive", "disabled", "deleted", "removed", "overquota", "hold")
SUN = interpreter()


@pytest.mark.parametrize("attribute", ["inetUserStatus", "mailUserStatus"])
@pytest.mark.parametrize("value", ALL)
def test_each_value_of_each_attribute(attribute: str, value: str) -> None:
    found = person(SUN, mail="joe@example.edu", mailHost="cliff.example.edu", **{attribute: value})
    assert found.standing is Standing(value)
    assert (found.doubt, found.problem, found.home) == ("", "", "cliff")
    assert person(SUN, mail="joe@example.edu", **{attribute: f" {value.upper()} "}).standing is Standing(value)


def test_missing_is_active_and_illegal_is_inactive_with_a_doubt() -> None:
    assert person(SUN, mail="joe@example.edu").standing is Standing.ACTIVE
    for illegal in ("frozen", "", "hold on", "aktiv\x1b[1m"):
        found = person(SUN, mail="joe@example.edu", mailUserStatus=illegal)
        assert found.standing is Standing.INACTIVE
        assert "uid=joe,dc=example: mailUserStatus" in found.doubt
        assert "is no status" in found.doubt
        assert found.doubt.isprintable()
        assert found.problem == ""


def test_several_values_are_inactive() -> None:
    found = person(SUN, mail="joe@example.edu", mailUserStatus=["active", "hold"])
    assert found.standing is Standing.INACTIVE
    assert "several values, 'active', 'hold'" in found.doubt


@pytest.mark.parametrize(
    ("account", "mail", "winner"),
    [
        ("active", "hold", "hold"),
        ("inactive", "hold", "inactive"),
        ("hold", "disabled", "hold"),
        ("deleted", "active", "deleted"),
        ("frozen", "deleted", "inactive"),
    ],
)
def test_the_first_that_is_not_active_wins(account: str, mail: str, winner: str) -> None:
    found = person(SUN, mail="joe@example.edu", inetUserStatus=account, mailUserStatus=mail)
    assert found.standing is Standing(winner)


@pytest.mark.parametrize(
    ("whole", "mail", "user", "winner"),
    [
        ("inactive", None, "hold", "inactive"),
        (None, "hold", "disabled", "hold"),
        (None, None, None, "active"),
        (None, None, "frozen", "inactive"),
        ("active", "active", "overquota", "overquota"),
        ("active", "hold", None, "hold"),
        ("disabled", "hold", "active", "disabled"),
        ("gone", "active", "deleted", "inactive"),
    ],
)
def test_the_domain_comes_first(whole: str | None, mail: str | None, user: str | None, winner: str) -> None:
    said = {"inetDomainStatus": whole, "mailDomainStatus": mail}
    given = {name: value for name, value in said.items() if value is not None}
    of_domain = domain(SUN, raw("o=d", objectClass="mailDomain", sunPreferredDomain="example.edu", **given))
    own = person(SUN, mail="joe@example.edu", **({"mailUserStatus": user} if user else {}))
    assert effective(of_domain.standing, own.standing) is Standing(winner)
    assert bool(of_domain.doubt) == (whole == "gone")


@pytest.mark.parametrize("attribute", ["inetGroupStatus", "inetMailGroupStatus"])
@pytest.mark.parametrize("value", ALL)
def test_groups_are_never_on_hold(attribute: str, value: str) -> None:
    group = raw(objectClass="inetMailGroup", mail="all@example.edu", mailHost="cliff.example.edu", **{attribute: value})
    found = entry(SUN, group)
    assert found.standing is (Standing.INACTIVE if value == "hold" else Standing(value))
    assert bool(found.doubt) == (value == "hold")


def test_a_persons_status_does_not_count_for_a_group_nor_the_other_way_round() -> None:
    group = raw(objectClass="inetMailGroup", mail="all@example.edu", mailUserStatus="disabled")
    assert entry(SUN, group).standing is Standing.ACTIVE
    assert person(SUN, mail="joe@example.edu", inetMailGroupStatus="disabled").standing is Standing.ACTIVE


@pytest.mark.parametrize(
    ("account", "mail", "standing"),
    [
        ("active", "enabled", "active"),
        ("locked", None, "active"),
        ("lockout", None, "active"),
        ("maintenance", "enabled", "hold"),
        ("Maintenance", "disabled", "hold"),
        ("closed", None, "disabled"),
        ("pending", None, "disabled"),
        ("active", "disabled", "disabled"),
        ("hold", None, "inactive"),
        ("inactive", None, "inactive"),
        (None, None, "active"),
    ],
)
def test_zimbra(account: str | None, mail: str | None, standing: str) -> None:
    given = {"zimbraAccountStatus": account, "zimbraMailStatus": mail}
    said = {name: value for name, value in given.items() if value is not None}
    found = person(interpreter("zimbra"), "zimbra", zimbraMailDeliveryAddress="joe@example.edu", **said)
    assert found.standing is Standing(standing)
    assert bool(found.doubt) == (standing == "inactive")


@pytest.mark.parametrize("preset", ["sun", "zimbra"])
def test_what_we_write_as_hold_reads_as_hold(preset: str) -> None:
    reader: Interpreter = interpreter(preset)
    assert reader.standing_of(reader.hold_value) is Standing.HOLD
    assert reader.standing_of(None) is Standing.ACTIVE
    assert reader.standing_of("nonsense") is Standing.INACTIVE


@pytest.mark.parametrize("preset", ["activedirectory", "sendmail"])
def test_directories_that_know_no_hold(preset: str) -> None:
    assert interpreter(preset).status_attribute == ""
    assert interpreter(preset).standing_of("hold") is Standing.ACTIVE
