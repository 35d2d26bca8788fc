"""user list, show and set for people who are in LDAP."""

import json
from typing import Any

import pytest
from support.people_ldif import OLD_HOST, sun_dn

pytestmark = pytest.mark.slow
Site = Any
ANN = "user1@example.edu"
LOCAL = "local@example.edu"


@pytest.fixture
def mixed(site: Site) -> Site:
    """With somebody from the database, too."""
    users = site.state.parent / "users.csv"
    users.write_text(f"address,home\n{LOCAL},cliff\n")
    assert site("user", "import", str(users)).status == 0
    return site


def test_the_source_is_shown(mixed: Site) -> None:
    rows = [json.loads(line) for line in mixed("user", "list", "--json").out.splitlines()]
    assert {one["mailbox"]: one["source"] for one in rows if one["mailbox"] in {ANN, LOCAL}} == {
        ANN: "people",
        LOCAL: "database",
    }
    assert {one["kind"] for one in rows if one["mailbox"] == "staff@example.edu"} == {"list"}
    shown = mixed("user", "show", ANN, LOCAL, "--json").json["mailboxes"]
    assert [(one["source"], one["dn"]) for one in shown] == [("people", [sun_dn("user1")]), ("database", [])]
    plain = mixed("user", "show", ANN).out
    assert f"entry        {sun_dn('user1')}".split() == next(
        line.split() for line in plain.splitlines() if line.startswith("entry")
    )


@pytest.mark.parametrize(
    "wanted",
    [
        ("--home", "zimbra"),
        ("--status", "disabled"),
        ("--add-address", "extra@example.edu"),
        ("--remove-address", "user.1@example.edu"),
    ],
)
def test_what_the_directory_says_is_not_set_here_and_nothing_else_either(mixed: Site, wanted: tuple[str, ...]) -> None:
    before = mixed.mailbox(ANN), mixed.mailbox(LOCAL)
    names = [ANN] if "--add-address" in wanted else [LOCAL, ANN]
    found = mixed("user", "set", *names, *wanted, "--reason", "because")
    assert found.status == 65
    assert f"{ANN} comes from the directory people" in found.err
    assert "sluice move" in found.err
    assert LOCAL not in found.err
    assert (mixed.mailbox(ANN), mixed.mailbox(LOCAL)) == before
    assert mixed.server.entry(sun_dn("user1"))["mailHost"] == [OLD_HOST]


def test_what_only_sluice_knows_is_set(mixed: Site) -> None:
    found = mixed("user", "set", ANN, "--target", "zimbra", "--home", "cliff", "--reason", "because")
    assert found.status == 0, found.err
    mixed.follow()
    assert mixed.mailbox(ANN).target == "zimbra"
