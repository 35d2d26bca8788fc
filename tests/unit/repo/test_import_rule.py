"""
Who may import whom: model <- errors, ports, settings <- stations (never each other) <- pipeline <- daemon.

The admin side may import the data plane, never the other way round.

Imports inside functions and below TYPE_CHECKING count: a dependency is a dependency.
"""

import ast
from pathlib import Path

import pytest

FOUNDATION = frozenset({"model", "errors", "ports", "settings"})
STATIONS = frozenset({"accept", "classify", "route", "spool", "deliver", "report", "control", "directory"})
OFF_THE_DATA_PLANE = frozenset({"admin", "ledger", "demo"})

# Part of the package -> what it may import besides itself. A new part needs a line here, and a thought.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "": frozenset(),  # router/__init__.py
    "model": frozenset(),
    "errors": frozenset({"model"}),
    "ports": frozenset({"model", "errors"}),
    "settings": frozenset({"model", "errors"}),
    **dict.fromkeys(STATIONS, FOUNDATION),
    "pipeline": FOUNDATION | STATIONS,
    "daemon": FOUNDATION | STATIONS | {"pipeline"},
    "ledger": FOUNDATION,
    "demo": FOUNDATION | STATIONS | {"ledger"},
    "admin": FOUNDATION | STATIONS | {"ledger", "pipeline", "daemon", "demo"},
    "__main__": FOUNDATION | {"admin", "daemon"},
}


def part_of(module: Path, package: Path) -> str:
    """`model` for router/model/address.py, `errors` for router/errors.py, '' for the package itself."""
    first = module.relative_to(package).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imported_names(module: Path, package: Path) -> list[str]:
    """Dotted names of ours that a module imports, relative ones resolved."""
    here = ("router", *module.relative_to(package).parts[:-1])
    names: list[str] = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            names += [".".join([*base, alias.name]) for alias in node.names]
    return [name for name in names if name == "router" or name.startswith("router.")]


def violations(package: Path) -> list[str]:
    """`file imports part` for each import that the table does not allow."""
    known = {part_of(module, package) for module in package.rglob("*.py")}
    found: list[str] = []
    for module in sorted(package.rglob("*.py")):
        part = part_of(module, package)
        if part not in MAY_IMPORT:
            found.append(f"{module.name}: the import rule does not know '{part}'")
            continue
        wanted = {name.split(".")[1] for name in imported_names(module, package) if "." in name}
        forbidden = (wanted & known) - MAY_IMPORT[part] - {part}
        found += [f"{module.relative_to(package.parent)} imports {name}" for name in sorted(forbidden)]
    return found


def test_every_import_follows_the_rule(root: Path) -> None:
    assert violations(root / "router") == []


def test_the_data_plane_never_needs_the_admin_side() -> None:
    data_plane = set(MAY_IMPORT) - OFF_THE_DATA_PLANE - {"__main__"}
    assert all(not MAY_IMPORT[part] & OFF_THE_DATA_PLANE for part in data_plane)


def test_stations_never_import_each_other() -> None:
    assert all(not MAY_IMPORT[station] & STATIONS for station in STATIONS)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("model/bad.py", "import router.errors"),
        ("accept/bad.py", "from router.spool import queue"),
        ("accept/bad.py", "from router import spool"),
        ("accept/bad.py", "from ..spool import queue"),
        ("accept/bad.py", "def later():\n    from router.spool import queue"),
        ("pipeline.py", "from router.admin.cli import main"),
        ("daemon.py", "import router.ledger"),
        ("novelty/bad.py", "import router.model"),
    ],
)
def test_the_rule_sees_a_breach(tmp_path: Path, file: str, line: str) -> None:
    package = tmp_path / "router"
    for name in ("model", "accept", "spool", "admin", "ledger", "novelty"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (package / "errors.py").touch()
    (package / "novelty" / "__init__.py").unlink()
    (package / file).write_text(line + "\n")
    assert len(violations(package)) == 1
