"""
One module of the product as text and as a tree, and the edits that make a mutant of it.

Guarantees: an edit says which octets go and what comes in their place; everything else of the file stays as it is, so
that line numbers of coverage and tracebacks hold. The edits of one mutant do not overlap.

On failure: `SyntaxError` for a module that is no Python.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Edit:
    """The octets from `start` to `end` become `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guard taken out. `name` stays as long as the function and the order of its guards do; `lines` covers it."""

    kind: str
    path: str
    function: str
    number: int
    lines: tuple[int, int]
    what: str
    edits: tuple[Edit, ...]

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.path}:{self.function}:{self.number}"


def changed(text: bytes, edits: Sequence[Edit]) -> bytes:
    """The module with the edits made."""
    for edit in sorted(edits, key=lambda one: (one.start, one.end), reverse=True):
        text = text[: edit.start] + edit.text.encode() + text[edit.end :]
    return text


class Module:
    """A parsed module that knows the parent of each node."""

    def __init__(self, path: str, text: bytes) -> None:
        self.path = path
        self.text = text
        self.tree = ast.parse(text)
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._parents: dict[ast.AST, ast.AST] = {}
        self._around: dict[ast.AST, ast.AST | None] = {}
        self._enter(self.tree, None)
        self._nodes = sorted(self._around, key=_place)

    @classmethod
    def read(cls, root: Path, path: str) -> "Module":
        return cls(path, (root / path).read_bytes())

    def _enter(self, node: ast.AST, around: ast.AST | None) -> None:
        self._around[node] = around
        inside = node if isinstance(node, (*_FUNCTIONS, ast.Lambda)) else around
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, _NO_PLACE):
                self._parents[child] = node
                self._enter(child, inside)

    def parent(self, node: ast.AST) -> ast.AST | None:
        return self._parents.get(node)

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        here = self._parents.get(node)
        while here is not None:
            yield here
            here = self._parents.get(here)

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where the node is in the text."""
        where: tuple[int, int, int, int] = (
            getattr(node, "lineno", 0),
            getattr(node, "col_offset", 0),
            getattr(node, "end_lineno", 0),
            getattr(node, "end_col_offset", 0),
        )
        return self._lines[where[0] - 1] + where[1], self._lines[where[2] - 1] + where[3]

    def segment(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.text[start:end].decode()

    def replace(self, node: ast.AST, text: str) -> Edit:
        return Edit(*self.span(node), text)

    def function(self, node: ast.AST) -> Function | None:
        """The innermost function around the node; the node itself does not count."""
        for one in self.ancestors(node):
            if isinstance(one, Function):
                return one
        return None

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that the node is, or is part of."""
        if isinstance(node, ast.stmt):
            return node
        return next(one for one in self.ancestors(node) if isinstance(one, ast.stmt))

    def qualified(self, node: ast.AST) -> str:
        """`Class.method` around the node; `module` outside of all of them."""
        around = [one.name for one in self.ancestors(node) if isinstance(one, (*_FUNCTIONS, ast.ClassDef))]
        own = [node.name] if isinstance(node, _FUNCTIONS) else []
        return ".".join(reversed(own + around)) or "module"

    def walk(self) -> Iterator[ast.AST]:
        """All nodes in the order of the text."""
        return iter(self._nodes)

    def inside(self) -> dict[ast.AST, list[ast.AST]]:
        """The nodes of each function or lambda, without those of functions in it, in the order of the text."""
        found: dict[ast.AST, list[ast.AST]] = {}
        for node in self._nodes:
            around = self._around[node]
            if around is not None:
                found.setdefault(around, []).append(node)
        return found


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NO_PLACE = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
"""One object of each of these serves a whole tree."""


def _place(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def name_of(node: ast.AST) -> str:
    """The last word of a name or attribute: `fsync` of `os.fsync`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
