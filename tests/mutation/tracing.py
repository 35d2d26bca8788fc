"""
A pytest plugin that notes which test runs which line of `router/`, and how long each test takes.

Guarantees: lines run by threads count for the test that runs then; lines run by child processes do not count. Written
when the run ends, to the files that MUTATION_TRACE names (`.coverage`, `.json`).

On failure: nothing is written, and who asked for the map says so.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

_TRACE = Path(os.environ["MUTATION_TRACE"])
_coverage = coverage.Coverage(
    data_file=str(_TRACE.with_suffix(".coverage")), source=["router"], branch=False, config_file=False, messages=False
)
_coverage.start()
_seconds: dict[str, float] = {}
_broken: set[str] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _coverage.switch_context(item.nodeid)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration
    if report.outcome != "passed":
        _broken.add(report.nodeid)


def pytest_unconfigure() -> None:
    _coverage.stop()
    _coverage.save()
    facts = {"seconds": _seconds, "broken": sorted(_broken)}
    _TRACE.with_suffix(".json").write_text(json.dumps(facts))
