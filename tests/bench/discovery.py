"""
Every row of the benchmark: each module of `bench.rows` has one, as `ROW`.

Guarantees: a new module is a new row, without a list to keep. On failure: `AttributeError` for a module without `ROW`.
"""

import importlib
import pkgutil

from bench import rows
from bench.row import Row


def discovered() -> dict[str, Row]:
    """By name; names are unique."""
    modules = [importlib.import_module(f"{rows.__name__}.{one.name}") for one in pkgutil.iter_modules(rows.__path__)]
    found: dict[str, Row] = {}
    for module in modules:
        row: Row = module.ROW
        assert row.name not in found, f"two rows are called {row.name}"
        found[row.name] = row
    return found
