"""Each of six faults in the product is found by a seed of CI: the simulation can see what it is there to see."""

import pytest
from support.simulation.mutants import FOUND_BY, MUTANTS
from support.simulation.run import simulate
from support.simulation.seams import installed
from support.simulation.seeds import SEEDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found(name: str) -> None:
    with installed(), MUTANTS[name]():
        found = next((result for result in map(simulate, (FOUND_BY[name], *range(SEEDS))) if result.failure), None)
    assert found is not None, f"{name} was not found in {SEEDS} seeds"
    print(f"{name}: found by seed {found.seed}: {found.failure}")
    with installed():
        assert simulate(found.seed).failure == ""
