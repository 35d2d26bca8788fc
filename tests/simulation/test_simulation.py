"""The simulation itself: a few seeds, the same run for the same seed, and a failure that can be seen again."""

import asyncio
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.simulation import apart
from support.simulation.apart import results_of
from support.simulation.mutants import MUTANTS
from support.simulation.run import Result, Site, simulate
from support.simulation.seams import installed
from support.simulation.seeds import summary

pytestmark = pytest.mark.timeout(600)

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_few_seeds_keep_every_promise() -> None:
    with installed():
        results = [simulate(seed) for seed in range(60)]
    print(summary(results))
    assert [one.failure for one in results if one.failure] == []
    assert sum(one.hold_and_fault for one in results) > 6


def _digests(hash_seed: str) -> str:
    code = (
        "from support.simulation.run import simulate\n"
        "from support.simulation.seams import installed\n"
        "with installed():\n    print([simulate(seed).digest for seed in (7, 3, 159, 541)])\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
def test_a_seed_is_the_same_run_in_every_process() -> None:
    with installed():
        here = [simulate(seed).digest for seed in (7, 3, 159, 541)]
    assert _digests("1") == _digests("2") == f"{here}\n"


def test_a_failure_can_be_seen_again_by_its_seed() -> None:
    with installed(), MUTANTS["a delivery ended at the reply instead of the commit"]():
        first = next(result for result in map(simulate, range(1000)) if result.failure)
        again = simulate(first.seed, trace=True)
    assert (again.failure, again.digest) == (first.failure, first.digest)
    assert any("BROKEN" in line for line in again.trace)
    with installed():
        assert simulate(first.seed).failure == ""


def _sites_and_loops() -> int:
    gc.collect()
    return sum(isinstance(one, Site | asyncio.SelectorEventLoop) for one in gc.get_objects())


@pytest.mark.slow
def test_runs_leave_nothing_for_the_next_test() -> None:
    before = _sites_and_loops()
    with installed():
        for seed in range(9):
            simulate(seed)
    assert _sites_and_loops() == before


def test_a_process_of_its_own_has_the_same_runs() -> None:
    with installed():
        here = [simulate(seed) for seed in range(8)]
    assert [one.digest for one in results_of(range(8))] == [one.digest for one in here]


def test_a_fault_of_the_simulation_comes_out_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def simulated(seed: int) -> Result:
        raise ZeroDivisionError(f"seed {seed}")

    monkeypatch.setattr(apart, "simulate", simulated)
    with pytest.raises(ZeroDivisionError, match="seed 3"):
        results_of(range(3, 5))


def test_a_process_that_dies_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "simulate", lambda _seed: os._exit(0))
    with pytest.raises(RuntimeError, match="died"):
        results_of(range(2))
