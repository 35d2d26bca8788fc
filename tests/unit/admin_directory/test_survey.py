"""Counting a directory without keeping it: circles of forwards, addresses that came twice."""

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.admin.cli.address_book import AddressBook, number_of
from router.admin.cli.check_survey import MOST_VALUES, Survey
from router.model.directory import DomainEntry, Entry, Role

NAMES = [f"{letter}@example.edu" for letter in "abcdef"]


def person(key: str, *forwards: str, keeps: bool = False, home: str = "cliff", problem: str = "") -> Entry:
    dn, host, doubt = f"uid={key}", f"host of {key}", problem and f"{key} in doubt"
    parts = (dn, Role.PERSON, key, (key,), "1", home, host)
    return Entry(*parts, forwards=forwards, keeps=keeps, problem=problem, doubt=doubt)


def reaches(edges: dict[str, list[str]], start: str) -> bool:
    """Whether a walk of at least two steps leads back."""
    seen, todo = set[str](), [one for one in edges.get(start, []) if one != start]
    while todo:
        one = todo.pop()
        if one == start:
            return True
        if one not in seen:
            seen.add(one)
            todo += edges.get(one, [])
    return False


@given(st.dictionaries(st.sampled_from(NAMES), st.tuples(st.lists(st.sampled_from(NAMES), max_size=3), st.booleans())))
def test_a_circle_is_found_where_and_only_where_there_is_one(graph: dict[str, tuple[list[str], bool]]) -> None:
    survey = Survey(["example.edu"])
    for key, (forwards, keeps) in graph.items():
        survey.add(person(key, *dict.fromkeys(forwards), keeps=keeps))
    edges = {key: [one for one in forwards if one != key] for key, (forwards, keeps) in graph.items() if not keeps}
    edges = {key: [one for one in targets if one in edges] for key, targets in edges.items()}
    found = survey.circles()
    assert bool(found) == any(reaches(edges, key) for key in edges)
    for circle in found:
        steps = zip(circle.keys, (*circle.keys[1:], circle.keys[0]), strict=True)
        assert all(after in edges[before] for before, after in steps)


def test_a_long_chain_needs_no_stack() -> None:
    survey = Survey(["example.edu"])
    for number in range(5000):
        survey.add(person(f"p{number}@example.edu", f"p{(number + 1) % 5000}@example.edu"))
    (circle,) = survey.circles()
    assert len(circle.keys) == 5000


@given(st.lists(st.text(max_size=3), max_size=40))
def test_what_came_twice(addresses: list[str]) -> None:
    book = AddressBook()
    for one in addresses:
        book.add(one)
    twice = {one for one in addresses if addresses.count(one) > 1}
    told = list(book.twice())
    assert set(told) == {number_of(one) for one in twice}
    assert len(told) == len(twice)


def test_a_domain_with_a_home_has_one_for_its_people() -> None:
    survey = Survey(["example.edu"])
    survey.add(replace(person("a@example.edu", home=""), host=""))
    assert survey.homeless.named == ["example.edu: 1, such as uid=a@example.edu"]
    survey.add(DomainEntry("o=x", "example.edu", "1", home="cliff"))
    assert survey.homeless.named == []


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    """Twenty thousand people who all are wrong in some way of their own."""
    survey = Survey(["example.edu"])
    tracemalloc.start()
    for number in range(20_000):
        key = f"person{number}@d{number}.org"
        survey.add(person(key, home="", problem=f"{key} is strange"))
        survey.add(DomainEntry(f"o={number}", f"d{number}.org", "1"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000
    assert survey.people == 20_000
    assert survey.doubts.total == 20_000
    assert max(len(survey.unmapped), len(survey.elsewhere), len(survey.domains)) <= MOST_VALUES + 1
