"""What the tests of the repository's own rules share: its root and its Python files."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules(root: Path) -> list[Path]:
    """Every module of the package; there are always some."""
    found = sorted((root / "router").rglob("*.py"))
    assert found, "the package has no modules: the rules would hold of nothing"
    return found


@pytest.fixture(autouse=True)
def _no_collection_while_parsing() -> Iterator[None]:
    """CPython 3.11 may fail with SystemError when a finaliser runs in the middle of `ast.parse`."""
    gc.disable()
    yield
    gc.enable()
