"""
Finds what is said to the databases about transactions and durability: COMMIT, BEGIN, SQLAlchemy's `begin()`, PRAGMA.

COMMIT and BEGIN become a statement without effect; a `with connection.begin()` is closed instead of committed. A
PRAGMA becomes `SELECT 1`, and so does each row of a table of settings that a loop writes as PRAGMAs; a check that
refuses what it read back lets everything pass.
"""

import ast
from collections.abc import Iterator

from mutation.quiet import Found
from mutation.source import Edit, Function, Module, name_of

_IDLE = '"SELECT 1"'
_EXECUTE = frozenset({"execute", "exec_driver_sql", "call"})


def find(module: Module) -> Iterator[Found]:
    for node in module.walk():
        if isinstance(node, ast.Call):
            yield from _statement(module, node)
            yield from _block(module, node)
        elif isinstance(node, ast.For):
            yield from _table(module, node)
        elif isinstance(node, ast.If):
            yield from _check(module, node)


def _statement(module: Module, call: ast.Call) -> Iterator[Found]:
    if name_of(call.func) not in _EXECUTE:
        return
    for argument in call.args:
        words = _text(argument).upper().split()
        if words[:1] == ["PRAGMA"]:
            yield "pragma", argument, f"{_text(argument)} is not said", (module.replace(argument, _IDLE),)
        elif words[:1] in (["COMMIT"], ["END"]):
            yield "commit", argument, "no COMMIT", (module.replace(argument, _IDLE),)
            yield "commit", argument, "ROLLBACK instead of COMMIT", (module.replace(argument, '"ROLLBACK"'),)
        elif words[:1] == ["BEGIN"] or _chooses_begin(argument):
            yield "begin", argument, "no BEGIN", (module.replace(argument, _IDLE),)


def _chooses_begin(node: ast.AST) -> bool:
    return isinstance(node, ast.IfExp) and all(_text(one).startswith("BEGIN") for one in (node.body, node.orelse))


def _block(module: Module, call: ast.Call) -> Iterator[Found]:
    """`with connection.begin():` commits at its end; closing a transaction that was not committed rolls it back."""
    if name_of(call.func) in {"begin", "commit"} and isinstance(module.parent(call), ast.withitem) and not call.args:
        edit = module.replace(call, f'__import__("contextlib").closing({module.segment(call)})')
        yield "commit", call, "rolled back at its end", (edit,)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(_piece(one) for one in node.values) if isinstance(node, ast.JoinedStr) else ""


def _piece(node: ast.expr) -> str:
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    return _text(node)


def _says_pragma(node: ast.AST) -> bool:
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call) and name_of(one.func) in _EXECUTE]
    return any(_text(argument).upper().startswith("PRAGMA") for call in calls for argument in call.args)


def _table(module: Module, loop: ast.For) -> Iterator[Found]:
    """Each row of the constant that the loop turns into PRAGMAs."""
    if not isinstance(loop.iter, ast.Name) or not _says_pragma(loop):
        return
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and name_of(node.targets[0]) == loop.iter.id:
            rows = node.value.elts if isinstance(node.value, ast.Tuple | ast.List) else []
            for row in rows:
                yield "pragma", row, f"{module.segment(row)} is not set", (_without(module, row),)


def _without(module: Module, row: ast.AST) -> Edit:
    start, end = module.span(row)
    while module.text[end : end + 1] in {b",", b" ", b"\n"}:
        end += 1
    return Edit(start, end, "")


def _check(module: Module, test: ast.If) -> Iterator[Found]:
    """An `if` that only raises, in a function that says a PRAGMA: the value that was read back is not looked at."""
    function = module.function(test)
    if len(test.body) == 1 and isinstance(test.body[0], ast.Raise) and function is not None and _is_shell(function):
        what = f"not checked: {module.segment(test.test)}"
        yield "readback", test, what, (module.replace(test.test, "False"),)


def _is_shell(function: Function) -> bool:
    return _says_pragma(function)
