"""A small tree with a guard, a test that sees it and one that does not: what the check says of it."""

from pathlib import Path

import pytest
from mutation import report
from mutation.finder import mutants, of_modules
from mutation.records import KILLED, SURVIVED, Records, Verdict
from mutation.scratch import TOO_LONG, Run, Scratch
from mutation.source import Module, Mutant
from mutation.tests_map import LineMap
from mutation.trying import judge, killer

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = "import os\n\n\ndef keep(descriptor):\n    os.fsync(descriptor)\n    return 1\n"
SEES = """
import os
from router.keeping import keep

def test_sees(monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", seen.append)
    keep(1)
    assert seen
"""
BLIND = "from router.keeping import keep\n\ndef test_blind(monkeypatch):\n    pass\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "__init__.py").touch()
    (tmp_path / "router" / "keeping.py").write_text(PRODUCT)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_sees.py").write_text(SEES)
    (tmp_path / "tests" / "test_blind.py").write_text(BLIND)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nmarkers = ["slow: x", "corpus: x"]\ntimeout = 10\n'
    )
    return tmp_path


def covered_by(*names: str) -> LineMap:
    return LineMap(dict.fromkeys(names, 0.1), {"router/keeping.py": {5: list(range(len(names)))}}, list(names))


@pytest.mark.slow
def test_a_mutant_is_killed_by_the_test_that_sees_it_and_the_tree_stays_as_it_is(root: Path) -> None:
    [mutant] = mutants(root)
    with Scratch(root) as scratch:
        both = judge(
            scratch, mutant, covered_by("tests/test_blind.py::test_blind", "tests/test_sees.py::test_sees"), slow=False
        )
        blind = judge(scratch, mutant, covered_by("tests/test_blind.py::test_blind"), slow=False)
        assert scratch.pytest(["tests"], 60).status == 0, "the guard is back"
        place = scratch.tree
    assert (both.outcome, both.by) == (KILLED, "tests/test_sees.py::test_sees")
    assert (blind.outcome, blind.by) == (SURVIVED, "1 fast tests run it")
    assert (root / "router" / "keeping.py").read_text() == PRODUCT
    assert not place.exists()


@pytest.mark.slow
def test_a_run_that_takes_too_long_is_ended(root: Path) -> None:
    (root / "tests" / "test_hangs.py").write_text("import time\n\ndef test_hangs():\n    time.sleep(100)\n")
    with Scratch(root) as scratch:
        run = scratch.pytest(["tests/test_hangs.py"], 2)
    assert run.status == TOO_LONG
    assert killer(run) == "too long"


def test_who_killed_is_read_from_what_pytest_says() -> None:
    assert killer(Run(1, "..F\nFAILED tests/a.py::test_b[c] - AssertionError\n")) == "tests/a.py::test_b[c]"
    assert killer(Run(2, "no tests ran")) == "pytest ended with 2"


def test_verdicts_hold_until_the_module_or_the_killing_test_changes(root: Path) -> None:
    [mutant] = mutants(root)
    killed = Verdict(mutant.name, KILLED, "tests/test_sees.py::test_sees", 1.0)
    records = Records(root, root / "var")
    records.add(Verdict("fsync:router/keeping.py:other:1", SURVIVED, "none", 1.0))
    records.add(killed)
    with (root / "var" / "verdicts.jsonl").open("a") as file:
        file.write("{half a line")
    assert list(Records(root, root / "var").known()) == [mutant.name]
    (root / "tests" / "test_blind.py").write_text("# changed")
    assert list(Records(root, root / "var").known()) == [mutant.name]
    (root / "tests" / "test_sees.py").write_text(SEES + "# changed")
    assert Records(root, root / "var").known() == {}
    (root / "tests" / "test_sees.py").write_text(SEES)
    (root / "router" / "keeping.py").write_text(PRODUCT + "# changed")
    assert Records(root, root / "var").known() == {}


def one(number: int, kind: str = "fsync") -> Mutant:
    return Mutant(kind, "router/x.py", "f", number, (number, number), f"guard {number}", ())


def test_the_table_counts_by_kind_names_survivors_and_gives_reasons() -> None:
    verdicts = {
        one(1).name: Verdict(one(1).name, KILLED, "t", 2.0),
        one(2).name: Verdict(one(2).name, SURVIVED, "3 fast tests run it", 3.0),
    }
    lines = report.table([one(1), one(2), one(3), one(4)], verdicts, {one(3).name: "it is only a copy"}).splitlines()
    assert lines[-1] == "1/3"
    assert lines[1].split()[:4] == ["fsync", "1", "3", "1"]
    assert "equivalent  fsync:router/x.py:f:3: it is only a copy" in lines
    assert sum(line.startswith("survived") for line in lines) == 2
    assert any("not tried" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("turn:router/pipeline/dispatch.py:Dispatcher._decide:2", "tests/unit/pipeline/test_review_guards.py"),
        ("fsync:router/spool/bodies.py:_GrowingFile._commit:1", "tests/unit/spool/test_spool_syncs.py"),
    ],
)
@pytest.mark.slow
def test_some_mutants_of_the_product_are_killed(name: str, test: str) -> None:
    """A handful for every run; `./dev mutants` tries them all."""
    module = Module.read(ROOT, name.split(":")[1])
    [mutant] = [one for one in of_modules([module]) if one.name == name]
    with Scratch(ROOT) as scratch:
        verdict = judge(scratch, mutant, LineMap({}, {}, []), first=[test], slow=False)
    assert verdict.outcome == KILLED
    assert verdict.by.startswith(test)
