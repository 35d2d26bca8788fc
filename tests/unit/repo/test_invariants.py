"""The page of invariants has all of them, and every test that it names exists."""

import ast
import re
from pathlib import Path

import pytest

ALL = range(1, 83)
STARRED = {1, 2, 3, 4, 14, 20, 21, 22, 29, 30, 35, 46, 47, 48, 58, 60, 63, 69, 74}
ROW = re.compile(r"^\| (\d+)( ★)? \| (.+?) \| (.+?) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
REASON = "reliability.md#what-does-not-apply"


def rows(page: str) -> dict[int, tuple[bool, str, str]]:
    """By number: whether it is starred, its sentence, and what shows it."""
    found = [(int(number), (bool(star), text, shown)) for number, star, text, shown in ROW.findall(page)]
    assert len(found) == len(dict(found)), "a number stands there twice"
    return dict(found)


def names(path: Path) -> set[str]:
    """What a module of tests defines at its top."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    defined = {one.name for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    targets = [target for one in body if isinstance(one, ast.Assign) for target in one.targets]
    return defined | {one.id for one in targets if isinstance(one, ast.Name)}


def missing(root: Path, page: str) -> list[str]:
    known: dict[str, set[str]] = {}
    lost = []
    for path, name in TEST.findall(page):
        if path not in known:
            known[path] = names(root / path) if (root / path).is_file() else set()
        if name not in known[path]:
            lost.append(f"{path}::{name}")
    return lost


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "invariants.md").read_text(encoding="utf-8")


def test_all_of_them_are_there_with_their_stars(page: str) -> None:
    found = rows(page)
    assert sorted(found) == list(ALL)
    assert {number for number, (starred, _, _) in found.items() if starred} == STARRED


def test_every_one_is_shown_or_has_its_reason(page: str) -> None:
    for number, (starred, text, shown) in rows(page).items():
        tested = TEST.findall(shown)
        assert tested or not starred, f"{number} is starred and has no test"
        assert tested or REASON in text, f"{number} has neither a test nor a reason"


def test_every_test_that_is_named_exists(root: Path, page: str) -> None:
    assert missing(root, page) == []
    assert len(TEST.findall(page)) > 150


def test_what_is_not_there_is_seen(root: Path, page: str) -> None:
    """The rules above can fail."""
    here = "tests/unit/repo/test_invariants.py"
    assert missing(root, f"`{here}::test_gone` `tests/gone.py::test_x` `{here}::names`") == [
        f"{here}::test_gone",
        "tests/gone.py::test_x",
    ]
    with pytest.raises(AssertionError, match="twice"):
        rows("| 1 ★ | a | b |\n| 1 | a | b |")
    assert sorted(rows(page.replace("| 17 |", "| seventeen |"))) != list(ALL)
