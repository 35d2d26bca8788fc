"""
The seeds of the test suite, in blocks that several processes share: ten thousand, each block in a process of its own.

On failure: the assertion names each seed that broke a promise, and how to see its story.
"""

from collections import Counter

from support.simulation.apart import results_of
from support.simulation.run import Result

SEEDS = 10_000
BLOCK = 500


def blocks(part: int, parts: int) -> list[range]:
    """Every `parts`-th block."""
    return [range(first, first + BLOCK) for first in range(part * BLOCK, SEEDS, parts * BLOCK)]


def keep_promises(seeds: range) -> None:
    """Run them all; what they were is printed."""
    results = results_of(seeds)
    print(summary(results))
    failed = [f"seed {one.seed}: {one.failure}" for one in results if one.failure]
    assert not failed, "\n".join([*failed, "see its story: ./dev simulate --seed N"])
    # What nobody did proves nothing.
    assert sum(one.hold_and_fault for one in results) > len(results) // 10
    assert sum(one.arrivals for one in results) > len(results)


def summary(results: list[Result]) -> str:
    """One line for a block."""
    faults: Counter[str] = Counter()
    for one in results:
        faults.update(one.faults)
    together = sum(one.hold_and_fault for one in results)
    told = ", ".join(f"{name} {count}" for name, count in sorted(faults.items()))
    return (
        f"seeds {results[0].seed}-{results[-1].seed}: a hold and a fault at once in {together};"
        f" {sum(one.messages for one in results)} messages; faults: {told}"
    )
