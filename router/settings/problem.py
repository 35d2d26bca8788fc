"""
What is wrong with a configuration file: plain values a person or a program can read.

Guarantees: a `SettingsError` carries every problem found, in the order of the file, never only the first one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from router.errors import SluiceError

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys of mappings and 0-based indices of lists."""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong. `line` and `column` count from 1; 0 means the file as a whole.

    `key` is the dotted path of the value (`stores.cliff.hosts[0]`), empty for the file as a whole; `remedy` says
    what to write instead and may be empty.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class SettingsError(SluiceError):
    """The configuration cannot be used; `problems` are all its errors. The one in force stays in force."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(_with_remedy(problem) for problem in self.problems))


def dotted(path: KeyPath) -> str:
    """
    The path as people write it.

    >>> dotted(("stores", "cliff", "hosts", 0))
    'stores.cliff.hosts[0]'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _with_remedy(problem: Problem) -> str:
    return f"{problem}\n    {problem.remedy}" if problem.remedy else str(problem)
