"""The size and shape of the code: small files, small functions, a docstring on each, no bag of helpers, no promises."""

import ast
import re
from pathlib import Path

import pytest

MAX_FILE = 400
MAX_FUNCTION = 60
PROMISE = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|NotImplemented" r"Error")
BAGS = {"utils", "util", "helpers", "misc", "common"}
SOURCES = ("router", "tests", "config", "systemd", "docs")


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def long_functions(module: Path) -> list[str]:
    functions = (
        node
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [
        f"{module.name}:{node.lineno} {node.name}"
        for node in functions
        if (node.end_lineno or node.lineno) - node.lineno >= MAX_FUNCTION
    ]


def test_files_are_short(modules: list[Path]) -> None:
    assert [f"{module}: {len(lines(module))} lines" for module in modules if len(lines(module)) > MAX_FILE] == []


def test_functions_are_short(modules: list[Path]) -> None:
    assert [place for module in modules for place in long_functions(module)] == []


def test_a_function_of_sixty_one_lines_is_too_long(tmp_path: Path) -> None:
    module = tmp_path / "long.py"
    module.write_text("def fine():\n" + "    pass\n" * 59 + "def long():\n" + "    pass\n" * 60)
    assert long_functions(module) == ["long.py:61 long"]


def test_every_module_says_what_it_is_for(modules: list[Path]) -> None:
    assert [str(module) for module in modules if not ast.get_docstring(ast.parse(module.read_text()))] == []


def test_no_module_is_a_bag_of_helpers(modules: list[Path]) -> None:
    assert [str(module) for module in modules if module.stem in BAGS] == []


def test_nothing_is_left_for_later(root: Path) -> None:
    files = [root / "dev", root / ".ci" / "run", root / "README.md", *root.glob("*.toml")]
    files += [path for folder in SOURCES for path in (root / folder).rglob("*") if path.is_file()]
    texts = [path for path in files if path.suffix not in {".pyc", ".eml", ".bin"}]
    found = [
        f"{path}:{number}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if PROMISE.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("word", ["TO" + "DO: later", "raise NotImplemented" + "Error", "# FIX" + "ME"])
def test_the_search_finds_what_it_looks_for(word: str) -> None:
    assert PROMISE.search(word)
