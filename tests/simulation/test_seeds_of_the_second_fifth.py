"""Many seeds of a whole site keep promises 2, 3, 4, 5, 6 and 9: every fifth block; the rest is beside this."""

import pytest
from support.simulation.seeds import blocks, keep_promises

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("seeds", blocks(1, 5), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_promises_are_kept(seeds: range) -> None:
    keep_promises(seeds)
