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
        self._parents = {child: parent for parent in ast.walk(self.tree) for child in ast.iter_child_nodes(parent)}

    @classmethod
    def read(cls, root: Path, path: str) -> "Module":
        return cls(path, (root / path).read_bytes())

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
        return iter(sorted(ast.walk(self.tree), key=_place))


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _place(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def name_of(node: ast.AST) -> str:
    """The last word of a name or attribute: `fsync` of `os.fsync`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
