"""
Tries one mutant: the fast tests that run its lines, then slow tests that can see what fast ones cannot.

Guarantees: tests stop at the first that fails; a mutant that hangs, or cannot even be imported, counts as killed. All
of it is bounded.

On failure: `OSError` of the copy passes through.
"""

import re
import time
from collections.abc import Iterator, Sequence

from mutation.records import KILLED, SURVIVED, Verdict
from mutation.scratch import TOO_LONG, Run, Scratch
from mutation.source import Mutant
from mutation.tests_map import LineMap

_SECONDS = 420.0
_FAST = ("-m", "not slow and not corpus", "--timeout=40")
_SLOW = ("-m", "not corpus", "--timeout=120")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_PASSED, _NO_TESTS = 0, 5

_SECOND = {
    "fsync": ("tests/unit/spool/test_spool_durability.py", "tests/crash/test_power_cut.py"),
    "commit": ("tests/unit/spool/test_spool_durability.py", "tests/crash/test_kill_at_each_call.py"),
    "begin": ("tests/unit/spool/test_spool_durability.py", "tests/crash/test_kill_at_each_call.py"),
    "pragma": ("tests/unit/spool/test_spool_durability.py", "tests/crash/test_power_cut.py"),
    "readback": ("tests/unit/spool/test_spool_durability.py",),
    "linger": ("tests/unit/deliver/test_transaction.py", "tests/scenario/test_barrier_processes.py"),
    "shield": ("tests/unit/pipeline", "tests/scenario/test_barrier_processes.py"),
    "condition": ("tests/unit/control",),
    "rowcount": ("tests/unit/control",),
    "epoch": ("tests/unit/control", "tests/scenario/test_barrier_processes.py"),
    "turn": ("tests/unit/pipeline", "tests/scenario/test_barrier_processes.py"),
}
"""Slow tests for what fast ones do not see: durability only shows at a kill or a cut, or in the order of calls."""


def judge(scratch: Scratch, mutant: Mutant, tests: LineMap, *, first: Sequence[str] = (), slow: bool = True) -> Verdict:
    """Make the mutant and say what becomes of it. `first` are tests to run before those that are chosen."""
    began = time.monotonic()
    with scratch.mutated(mutant):
        for names, options in _stages(mutant, tests, first, slow):
            run = scratch.pytest(names, _SECONDS, options)
            if run.status not in {_PASSED, _NO_TESTS}:
                return Verdict(mutant.name, KILLED, killer(run), round(time.monotonic() - began, 1))
    seen = len(tests.covering(mutant))
    return Verdict(mutant.name, SURVIVED, f"{seen} fast tests run it", round(time.monotonic() - began, 1))


def _stages(
    mutant: Mutant, tests: LineMap, first: Sequence[str], slow: bool
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    if first:
        yield first, _SLOW
    covering = tests.covering(mutant)
    if covering:
        yield covering, _FAST
    if slow:
        yield _SECOND[mutant.kind], _SLOW


def killer(run: Run) -> str:
    """The test that failed, or what happened instead."""
    found = _FAILED.search(run.words)
    if found is not None:
        return found[1]
    return "too long" if run.status == TOO_LONG else f"pytest ended with {run.status}"
