"""
Finds what must happen in one turn of the event loop: decide and register, look and enter.

- A call of `register`, with what was decided before it in the same function.
- A place where a method enters something into `self.X` after it looked at `self.X`, without an await between the two.

The mutant gives the loop a turn (`await asyncio.sleep(0)`) right before the entry. A plain function becomes a
coroutine for that, and so do its callers up to the first that is one already. Where this cannot be done (a callback,
a lambda, a name that others may call) there is no mutant: an await cannot get there by mistake either. Commands, the
ledger and the demonstration are left out: nobody shares what they look at.
"""

import ast
from collections.abc import Iterator

from mutation.quiet import Found
from mutation.source import Edit, Function, Module, name_of

_TURN = '__import__("asyncio").sleep(0)'
_ENTERING = frozenset({"add", "append", "appendleft", "setdefault", "update"})
_ALONE = ("router/admin/", "router/ledger/", "router/demo/")
_REGISTER = frozenset({"register", "decided_held"})


def find(module: Module) -> Iterator[Found]:
    if module.path.startswith(_ALONE):
        return
    for function, nodes in module.inside().items():
        if not isinstance(function, Function):
            continue
        for entry, what in _entries(module, function, nodes):
            edits = _with_turn(module, function, module.statement(entry))
            if edits is not None:
                yield "turn", entry, what, edits


def _entries(module: Module, function: Function, nodes: list[ast.AST]) -> Iterator[tuple[ast.AST, str]]:
    looked: dict[str, ast.stmt] = {}
    for node in nodes:
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            looked.clear()
        elif isinstance(node, ast.Call) and name_of(node.func) in _REGISTER:
            if module.statement(node) is not _first(function):
                yield node, f"a turn before {module.segment(node.func)}()"
        elif (own := _own_attribute(node)) is not None:
            statement = module.statement(node)
            if _enters(module, node):
                if own in looked and looked[own] is not statement:
                    yield node, f"a turn between looking at self.{own} and entering it"
            elif not _is_measured(module, node):
                looked.setdefault(own, statement)


def _first(function: Function) -> ast.stmt:
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return function.body[1] if documented and len(function.body) > 1 else first


def _own_attribute(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr
    return None


def _is_measured(module: Module, node: ast.AST) -> bool:
    """`len(self.X)` and `self.X.clear()` keep a bound: one that is missed by an entry or two breaks nothing."""
    above = module.parent(node)
    return (isinstance(above, ast.Call) and name_of(above.func) == "len") or (
        isinstance(above, ast.Attribute) and above.attr == "clear"
    )


def _enters(module: Module, node: ast.AST) -> bool:
    """Whether `self.X` is the target of `self.X[k] = v`, `self.X.add(v)`, `self.X = v` or `self.X += v`."""
    above = module.parent(node)
    if isinstance(above, ast.Subscript) and above.value is node:
        return isinstance(above.ctx, ast.Store)
    if isinstance(above, ast.Attribute) and above.attr in _ENTERING:
        return isinstance(module.parent(above), ast.Call)
    return isinstance(above, ast.Assign | ast.AugAssign | ast.AnnAssign) and isinstance(
        getattr(node, "ctx", None), ast.Store
    )


def _with_turn(module: Module, function: Function, statement: ast.stmt) -> tuple[Edit, ...] | None:
    edits = _as_coroutine(module, function, frozenset())
    if edits is None:
        return None
    start, _ = module.span(statement)
    indent = " " * statement.col_offset
    return (*edits, Edit(start, start, f"await {_TURN}\n{indent}"))


def _as_coroutine(module: Module, function: Function, done: frozenset[str]) -> tuple[Edit, ...] | None:
    """The edits that make a function a coroutine and its callers wait for it; None where that cannot be."""
    if isinstance(function, ast.AsyncFunctionDef) or function.name in done:
        return ()
    if not function.name.startswith("_") or function.name.startswith("__") or function.decorator_list:
        return None
    start, _ = module.span(function)
    edits = [Edit(start, start, "async ")]
    callers: set[Function] = set()
    for node in module.walk():
        if not isinstance(node, ast.Attribute | ast.Name) or name_of(node) != function.name:
            continue
        call, caller = module.parent(node), module.function(node)
        if not isinstance(call, ast.Call) or call.func is not node or caller is None or _lazy(module, call):
            return None
        first, last = module.span(call)
        edits += [Edit(first, first, "(await "), Edit(last, last, ")")]
        callers.add(caller)
    for caller in callers:
        more = _as_coroutine(module, caller, done | {function.name})
        if more is None:
            return None
        edits.extend(more)
    return tuple(dict.fromkeys(edits)) if callers else None


def _lazy(module: Module, call: ast.Call) -> bool:
    """In a lambda or a generator, which do not run where they stand."""
    for one in module.ancestors(call):
        if isinstance(one, Function):
            return False
        if isinstance(one, ast.Lambda | ast.GeneratorExp):
            return True
    return True
