"""
All mutants of a tree: every guard of every kind, found in the syntax trees of `router/`.

Guarantees: the list depends on the code alone and is in the order of paths and lines; names are unique.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from mutation import cancelling, comparing, quiet, statements, steps
from mutation.quiet import Found
from mutation.source import Edit, Module, Mutant

KINDS = {
    "fsync": "fsync, fdatasync and what wraps them",
    "commit": "the end of a transaction",
    "begin": "the beginning of a transaction",
    "pragma": "a PRAGMA",
    "readback": "a check of what was read back",
    "linger": "SO_LINGER",
    "shield": "a cancellation shield",
    "condition": "a condition of an UPDATE or DELETE",
    "rowcount": "a check of a row count",
    "epoch": "a comparison of epochs",
    "turn": "a step without an await",
}


def mutants(root: Path) -> list[Mutant]:
    """Every mutant of the modules below `root`/router."""
    paths = sorted(path.relative_to(root).as_posix() for path in (root / "router").rglob("*.py"))
    return of_modules([Module.read(root, path) for path in paths])


def of_modules(modules: Sequence[Module]) -> list[Mutant]:
    found = [*quiet.find(modules)]
    for module in modules:
        found.extend((module, one) for one in _one_by_one(module))
    found.sort(key=lambda one: (one[0].path, *one[0].span(one[1][1]), one[1][0]))
    seen: Counter[tuple[str, str, str]] = Counter()
    made: set[tuple[str, tuple[Edit, ...]]] = set()
    result = []
    for module, (kind, node, what, edits) in found:
        if (module.path, edits) in made:
            continue  # the same condition of two statements, a check that two finders see
        made.add((module.path, edits))
        function = module.qualified(node)
        seen[kind, module.path, function] += 1
        lines = module.statement(node).lineno, getattr(node, "end_lineno", 1)
        result.append(Mutant(kind, module.path, function, seen[kind, module.path, function], lines, what, edits))
    return result


def _one_by_one(module: Module) -> Iterator[Found]:
    return chain.from_iterable(finder.find(module) for finder in (statements, cancelling, comparing, steps))
