"""`./dev simulate`: one seed with its trace, or many with their sum. Exit 1 when a promise was broken."""

import argparse
import sys
from collections import Counter
from contextlib import nullcontext

from support.simulation.apart import AT_ONCE, processor_time, results_of
from support.simulation.mutants import MUTANTS
from support.simulation.run import simulate
from support.simulation.seams import installed


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev simulate")
    parser.add_argument("--seed", type=int, help="run this seed and print its trace")
    parser.add_argument("--seeds", default="0-999", help="run these (A-B)")
    parser.add_argument("--mutant", choices=tuple(MUTANTS), help="with this fault in the product")
    given = parser.parse_args()
    with MUTANTS[given.mutant]() if given.mutant else nullcontext():
        return _one(given.seed) if given.seed is not None else _many(given.seeds)


def _one(seed: int) -> int:
    with installed():
        result = simulate(seed, trace=True)
    print("\n".join(result.trace))
    print(f"seed {seed}: {result.failure or 'every promise was kept'} (digest {result.digest:012x})")
    return 1 if result.failure else 0


def _many(text: str) -> int:
    first, _, last = text.partition("-")
    began, failed, together = processor_time(), 0, 0
    faults: Counter[str] = Counter()
    seeds = range(int(first), int(last or first) + 1)
    for at in range(0, len(seeds), AT_ONCE):
        for result in results_of(seeds[at : at + AT_ONCE]):
            together += result.hold_and_fault
            faults.update(result.faults)
            if result.failure:
                failed += 1
                print(f"seed {result.seed}: {result.failure}", flush=True)
    spent = processor_time() - began
    print(f"{len(seeds)} seeds, {failed} failed, a hold and a fault at once in {together};", end=" ")
    print(f"{spent:.1f} s, {spent / len(seeds) * 1000:.1f} ms a seed")
    print("faults:", ", ".join(f"{name} {count}" for name, count in sorted(faults.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
