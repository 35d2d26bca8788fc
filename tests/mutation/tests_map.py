"""
Which tests run which lines: found by one run of all fast tests, kept in a file, and asked for each mutant.

Guarantees: only tests that pass on the tree as it is are in the map. It is made anew when router/ or tests/ changed,
unless it is asked for as it is. Tests of the repository itself (texts, sizes) are not in it: what they say of a mutant
is nothing about what the mutant does.

On failure: `MapFailed` with the last words of the tests.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import coverage

from mutation.scratch import Scratch
from mutation.source import Mutant

_FAST = ("-m", "not slow and not corpus", "--maxfail=1000", "-p", "mutation.tracing", "--timeout=120")
_SECONDS = 1800.0
_LEFT_OUT = ("tests/unit/repo/", "tests/unit/mutation/")


class MapFailed(Exception):
    """The tests could not be run."""


@dataclass(frozen=True, slots=True)
class LineMap:
    """Seconds of each test, and for each file of the product the tests that run a line of it."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[int]]]
    names: list[str]

    def covering(self, mutant: Mutant) -> list[str]:
        """Tests that run the mutant's lines, those of its own station first, then the short ones."""
        file = self.lines.get(mutant.path, {})
        numbers = {n for line in range(mutant.lines[0], mutant.lines[1] + 1) for n in file.get(line, ())}
        if mutant.function == "module":
            numbers = {n for tests in file.values() for n in tests}
        station = f"tests/unit/{mutant.path.split('/')[1]}"
        names = [self.names[number] for number in numbers]
        return sorted(names, key=lambda name: (not name.startswith(station), self.seconds.get(name, 0.0), name))

    def as_json(self) -> str:
        return json.dumps({"seconds": self.seconds, "lines": self.lines, "names": self.names})

    @classmethod
    def from_json(cls, text: str) -> "LineMap":
        facts = json.loads(text)
        lines = {path: {int(line): tests for line, tests in of.items()} for path, of in facts["lines"].items()}
        return cls(facts["seconds"], lines, facts["names"])


def make(root: Path, jobs: int) -> LineMap:
    """Run every fast test once under coverage, in `jobs` processes."""
    files = sorted(path.relative_to(root).as_posix() for path in (root / "tests").rglob("test_*.py"))
    files = [name for name in files if not name.startswith(_LEFT_OUT)]
    with ThreadPoolExecutor(jobs) as pool:
        shares = pool.map(lambda job: _traced(root, files[job::jobs]), range(jobs))
        return _joined(list(shares))


@dataclass(frozen=True, slots=True)
class _Share:
    seconds: dict[str, float]
    contexts: dict[str, dict[int, list[str]]]


def _traced(root: Path, files: Sequence[str]) -> _Share:
    with Scratch(root) as scratch:
        trace = scratch.tree / "trace"
        run = scratch.pytest(files, _SECONDS, _FAST, MUTATION_TRACE=str(trace))
        facts = trace.with_suffix(".json")
        if not facts.exists():
            raise MapFailed(run.words[-2000:])
        told = json.loads(facts.read_text())
        broken = set(told["broken"])
        data = coverage.CoverageData(str(trace.with_suffix(".coverage")))
        data.read()
        contexts = {}
        for file in data.measured_files():
            where = Path(file).relative_to(scratch.tree).as_posix()
            lines = data.contexts_by_lineno(file)
            contexts[where] = {line: [one for one in by if one and one not in broken] for line, by in lines.items()}
        return _Share({name: took for name, took in told["seconds"].items() if name not in broken}, contexts)


def _joined(shares: Sequence[_Share]) -> LineMap:
    seconds = {name: round(took, 3) for share in shares for name, took in share.seconds.items()}
    names = sorted(seconds)
    numbers = {name: number for number, name in enumerate(names)}
    lines: dict[str, dict[int, list[int]]] = {}
    for share in shares:
        for path, by_line in share.contexts.items():
            mine = lines.setdefault(path, {})
            for line, tests in by_line.items():
                mine.setdefault(line, []).extend(numbers[test] for test in tests if test in numbers)
    return LineMap(seconds, lines, names)
