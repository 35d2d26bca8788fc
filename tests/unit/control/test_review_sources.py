"""Sources that get another name or place in the configuration, or go out of it."""

from functools import partial

import pytest
from support.people import People

from router.control import alarms, following, mailboxes
from router.control.database import ControlDatabase
from router.control.directory_alarms import DISPUTE, PROBLEM
from router.control.mirror import Mirror

ANN = "ann@example.edu"


def mirror(database: ControlDatabase, source: str, *sources: str) -> Mirror:
    return Mirror(database, source, sources, wall=lambda: 5000.0, sleep=lambda _: None)


def sweep(one: Mirror, people: People) -> None:
    one.begin_sweep()
    one.swept(people.items())
    one.end_sweep()


def ann(database: ControlDatabase) -> tuple[str, str, str]:
    box = database.run_read(partial(mailboxes.by_key, keys=[ANN]))[ANN]
    return box.source, box.home, box.problem


@pytest.fixture
def people() -> People:
    people = People()
    people.add("ann", "cliff.example.edu")
    return people


@pytest.mark.parametrize(("before", "after"), [
    (("database", "ldap"), ("database", "renamed")),
    (("ldap", "database"), ("database", "renamed")),
    (("database", "ldap"), ("database", "other", "renamed")),
])  # fmt: skip
def test_a_directory_with_another_name_has_the_same_people(
    empty: ControlDatabase, people: People, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    sweep(mirror(empty, "ldap", *before), people)
    assert ann(empty) == ("ldap", "cliff", "")
    sweep(mirror(empty, "renamed", *after), people)
    assert ann(empty) == ("renamed", "cliff", "")
    assert [one for one in empty.run_read(alarms.open_alarms) if one.kind in {PROBLEM, DISPUTE}] == []


def test_the_order_of_the_configuration_decides_again_when_it_changes(empty: ControlDatabase) -> None:
    one, two = People(), People()
    one.add("ann", "cliff.example.edu")
    two.add("ann", "zimbra1.example.edu")
    for sources in (("database", "a", "b"), ("database", "b", "a"), ("a", "b", "database")):
        sweep(mirror(empty, "a", *sources), one)
        sweep(mirror(empty, "b", *sources), two)
        first = next(name for name in sources if name != "database")
        assert ann(empty) == (first, "cliff" if first == "a" else "zimbra", "")


def test_who_has_no_place_any_more_is_last_and_keeps_it(empty: ControlDatabase) -> None:
    mirror(empty, "ldap", "ldap", "database")
    mirror(empty, "renamed", "database", "renamed")
    assert [one.source for one in empty.run_read(following.states)] == ["renamed", "ldap"]
    assert empty.run_read(partial(following.enrolled, sources=("database", "renamed")))
    assert not empty.run_read(partial(following.enrolled, sources=("database", "ldap", "renamed")))
