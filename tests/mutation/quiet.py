"""
Finds calls that do nothing but make durable or abort: fsync, fdatasync, SO_LINGER, and functions that only wrap them.

Each is replaced by a function that takes anything and does nothing; its arguments are still evaluated. A function is a
wrapper when, apart from opening and closing, the guard is all that it calls: then its callers are guards as well.
"""

import ast
from collections.abc import Callable, Iterator, Sequence

from mutation.source import Edit, Function, Module, name_of

NOTHING = "(lambda *_a, **_k: None)"
_SYNCS = frozenset({"fsync", "fdatasync"})
_AROUND = frozenset({"open", "close", "fileno", "suppress", "flush", "OSError"})

Found = tuple[str, ast.AST, str, tuple[Edit, ...]]
"""Kind, where, what it is in words, the edits."""


def find(modules: Sequence[Module]) -> Iterator[tuple[Module, Found]]:
    for kind, is_guard in (("fsync", _is_sync), ("linger", _is_linger)):
        wrappers = _wrappers(modules, is_guard)
        for module in modules:
            for node in module.walk():
                if is_guard(module, node) or _refers(module, node, wrappers):
                    called = module.segment(node)
                    yield module, (kind, node, f"{called} does nothing", (module.replace(node, NOTHING),))


def _is_sync(_module: Module, node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute | ast.Name) and name_of(node) in _SYNCS and isinstance(node.ctx, ast.Load)


def _is_linger(module: Module, node: ast.AST) -> bool:
    call = module.parent(node)
    return (
        isinstance(call, ast.Call)
        and node is call.func
        and name_of(node) == "setsockopt"
        and any(name_of(argument) == "SO_LINGER" for argument in call.args)
    )


def _wrappers(modules: Sequence[Module], is_guard: Callable[[Module, ast.AST], bool]) -> frozenset[str]:
    """Names of functions that call the guard and, but for opening and closing, nothing else."""
    found = set()
    for module in modules:
        for function in ast.walk(module.tree):
            if not isinstance(function, Function):
                continue
            called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
            guards = [one for one in called if is_guard(module, one)]
            if guards and all(one in guards or name_of(one) in _AROUND for one in called):
                found.add(function.name)
    return frozenset(found)


def _refers(module: Module, node: ast.AST, wrappers: frozenset[str]) -> bool:
    if not isinstance(node, ast.Attribute | ast.Name) or name_of(node) not in wrappers:
        return False
    return isinstance(node.ctx, ast.Load) and not isinstance(module.parent(node), ast.ImportFrom)
