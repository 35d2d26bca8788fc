"""
Finds what keeps a cancellation away from work that must be finished or accounted for.

`asyncio.shield(x)` becomes `x`. A handler of `CancelledError` that does something of its own becomes a bare `raise`;
one that swallows the cancellation does, too.
"""

import ast
from collections.abc import Iterator

from mutation.quiet import Found
from mutation.source import Edit, Module, name_of


def find(module: Module) -> Iterator[Found]:
    for node in module.walk():
        if isinstance(node, ast.Call) and name_of(node.func) == "shield":
            yield "shield", node, "no shield", (module.replace(node.func, "(lambda x: x)"),)
        elif isinstance(node, ast.ExceptHandler) and _of_cancellation(node) and not _only_raises(node):
            start, _ = module.span(node.body[0])
            _, end = module.span(node.body[-1])
            yield "shield", node, "a cancellation passes unnoticed", (Edit(start, end, "raise"),)


def _of_cancellation(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is not None and name_of(kind) == "CancelledError" for kind in kinds)


def _only_raises(handler: ast.ExceptHandler) -> bool:
    return len(handler.body) == 1 and isinstance(handler.body[0], ast.Raise) and handler.body[0].exc is None
