"""
Finds every compare-and-set: conditions of UPDATE and DELETE beyond the key, row counts, and comparisons of epochs.

- `update(T).where(a, b)`: each condition is taken out in turn, where there is more than one; names are followed to
  their assignment in the same function. The same for `… WHERE a AND b` in the text of a statement.
- `x.rowcount == 0` and the like always says that the rows were there.
- A comparison that names an epoch, a generation, an incarnation or what was expected becomes True, and becomes False.
"""

import ast
import re
from collections.abc import Iterator

from mutation.quiet import Found
from mutation.source import Edit, Module, name_of

_CHANGES = frozenset({"update", "delete"})
_EXPECTED = re.compile(r"epoch|generation|incarnation|\bexpected\b|_applied\b|\bapplied\b")
_SQL_CHANGE = re.compile(r"\s*(UPDATE|DELETE)\b.*\bWHERE\b", re.IGNORECASE | re.DOTALL)


def find(module: Module) -> Iterator[Found]:
    for node in module.walk():
        if isinstance(node, ast.Call) and name_of(node.func) == "where" and _changes(node):
            yield from _conditions(module, node)
        elif isinstance(node, ast.Constant | ast.JoinedStr):
            yield from _text(module, node)
        elif isinstance(node, ast.Compare):
            yield from _row_count(module, node)
            yield from _epoch(module, node)


def _changes(where: ast.Call) -> bool:
    """Whether it is the `where` of an update or a delete."""
    chain = where.func.value if isinstance(where.func, ast.Attribute) else None
    while isinstance(chain, ast.Call) and isinstance(chain.func, ast.Attribute):
        chain = chain.func.value
    return isinstance(chain, ast.Call) and name_of(chain.func) in _CHANGES


def _conditions(module: Module, where: ast.Call) -> Iterator[Found]:
    parts: list[tuple[ast.AST, Edit]] = []
    for argument in where.args:
        value = argument.value if isinstance(argument, ast.Starred) else argument
        assigned = _assigned(module, value) if isinstance(value, ast.Name) else []
        for source in assigned or [argument]:
            parts.extend(_operands(module, source))
    if len(parts) > 1:
        for node, edit in parts:
            yield "condition", node, f"without the condition {_short(module.segment(node))}", (edit,)


def _assigned(module: Module, name: ast.Name) -> list[ast.AST]:
    function = module.function(name)
    values: list[ast.AST] = []
    for node in ast.walk(function) if function is not None else ():
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign):
            targets = [node.target]
        if isinstance(node, ast.Assign | ast.AugAssign) and name_of(targets[0]) == name.id:
            values.append(node.value)
    return values


def _operands(module: Module, node: ast.AST) -> Iterator[tuple[ast.AST, Edit]]:
    """The operands of `a & b`, `and_(a, b)` and `(a, b)`; an empty condition is one that is always true."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        yield from _operands(module, node.left)
        yield from _operands(module, node.right)
    elif isinstance(node, ast.Tuple) or (isinstance(node, ast.Call) and name_of(node.func) == "and_"):
        for one in node.elts if isinstance(node, ast.Tuple) else node.args:
            yield from _operands(module, one)
    else:
        yield node, module.replace(node, '__import__("sqlalchemy").true()')


def _text(module: Module, node: ast.Constant | ast.JoinedStr) -> Iterator[Found]:
    """Each part of `WHERE a AND b` in a statement that changes rows."""
    if isinstance(module.parent(node), ast.JoinedStr | ast.FormattedValue | ast.Expr):
        return
    whole = ast.unparse(node)
    plain = node.value if isinstance(node, ast.Constant) else whole[2:-1]
    if not isinstance(plain, str) or not _SQL_CHANGE.match(plain):
        return
    head, conditions = re.split(r"\bWHERE\b", plain, maxsplit=1, flags=re.IGNORECASE)
    conditions, tail = [*re.split(r"(?=\bRETURNING\b)", conditions, maxsplit=1), ""][:2]
    parts = _conjunction(conditions.strip())
    for index, part in enumerate(parts if len(parts) > 1 else ()):
        # A parameter that is not used any more would be one too many: the part is asked for, and does not count.
        rest = " AND ".join([*parts[:index], f"({part} OR 1)", *parts[index + 1 :]])
        changed = f"{head}WHERE {rest} {tail}"
        literal = repr(changed) if isinstance(node, ast.Constant) else f"f{whole[1]}{changed}{whole[1]}"
        yield "condition", node, f"without the condition {_short(part)}", (module.replace(node, literal),)


def _conjunction(conditions: str) -> list[str]:
    """The operands of the outermost ANDs; none where an OR is the outermost."""
    parts, depth, start, between = [], 0, 0, False
    for found in re.finditer(r"[()]|\b(?:AND|OR|BETWEEN)\b", conditions, re.IGNORECASE):
        word = found.group().upper()
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth or word in "()":
            continue
        if word == "OR":
            return []
        if word == "AND" and not between:
            parts.append(conditions[start : found.start()].strip())
            start = found.end()
        between = word == "BETWEEN"
    return [*parts, conditions[start:].strip()]


def _row_count(module: Module, node: ast.Compare) -> Iterator[Found]:
    if not any(isinstance(one, ast.Attribute) and one.attr == "rowcount" for one in ast.walk(node)):
        return
    unlucky = isinstance(node.ops[0], ast.NotEq | ast.Lt | ast.LtE) or _is_zero_test(node)
    yield "rowcount", node, f"not checked: {module.segment(node)}", (module.replace(node, str(not unlucky)),)


def _is_zero_test(node: ast.Compare) -> bool:
    zero = isinstance(node.comparators[0], ast.Constant) and node.comparators[0].value == 0
    return isinstance(node.ops[0], ast.Eq) and zero


def _epoch(module: Module, node: ast.Compare) -> Iterator[Found]:
    if isinstance(node.ops[0], ast.Is | ast.IsNot | ast.In | ast.NotIn) or _is_column(node):
        return
    sides = [side for side in (node.left, *node.comparators) if not isinstance(side, ast.Constant)]
    if not any(_EXPECTED.search(module.segment(side)) for side in sides):
        return
    for verdict in ("True", "False"):
        yield "epoch", node, f"{_short(module.segment(node))} is {verdict}", (module.replace(node, verdict),)


def _is_column(node: ast.Compare) -> bool:
    """A comparison that becomes SQL (`_T.c.epoch > e`) and says nothing in Python, or one of row counts."""
    return any(isinstance(one, ast.Attribute) and one.attr in {"c", "rowcount"} for one in ast.walk(node))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."
