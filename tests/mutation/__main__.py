"""
`./dev mutants`: find every guard, take each out in turn, and see that a test turns red.

Guarantees: exit 0 when every mutant was killed, 1 when one survived, 64 for a wrong command line. The checkout is not
written to but for `var/mutants`, where the verdicts and the map of tests are kept; a second run goes on where the
first was stopped.

On failure: exit 1 with what the tests said.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from queue import SimpleQueue

from support.command import interruptible, say

from mutation import report, tests_map
from mutation.equivalent import EQUIVALENT
from mutation.finder import mutants
from mutation.records import Records, Verdict, digest
from mutation.scratch import Scratch
from mutation.source import Mutant
from mutation.trying import judge

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    wanted = _parse(arguments)
    chosen = [one for one in mutants(ROOT) if not wanted.only or _matches(one, wanted.only)]
    if wanted.list:
        for one in chosen:
            print(f"{one.name}  {one.path}:{one.lines[0]}  {one.what}")
        return 0
    directory = ROOT / "var" / "mutants"
    records = Records(ROOT, directory)
    verdicts = {} if wanted.anew else records.known()
    todo = [one for one in chosen if one.name not in verdicts and one.name not in EQUIVALENT]
    say(f"{len(chosen)} mutants, {len(chosen) - len(todo)} known or equivalent, {len(todo)} to try")
    if todo:
        tests = _map(directory, wanted.jobs, keep=wanted.keep_map)
        _try_all(todo, tests, records, verdicts, wanted)
    print(report.table(chosen, verdicts, EQUIVALENT))
    return 0 if all(one.name in EQUIVALENT or verdicts[one.name].outcome == "killed" for one in chosen) else 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev mutants", description=__doc__.split("\n\n")[0], exit_on_error=False)
    parser.add_argument("--list", action="store_true", help="name the mutants and run nothing")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="a part of the name, or a glob")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutants tried at a time (2)")
    parser.add_argument("--anew", action="store_true", help="forget the verdicts of former runs")
    parser.add_argument("--fast", action="store_true", help="leave out the slow tests: what survives may yet be killed")
    parser.add_argument("--tests", action="append", default=[], metavar="PATH", help="run these before all others")
    parser.add_argument("--keep-map", action="store_true", help="use the map of tests there is, whatever changed")
    try:
        return parser.parse_args(arguments)
    except argparse.ArgumentError as error:
        print(f"./dev mutants: {error}", file=sys.stderr)
        raise SystemExit(64) from None


def _matches(mutant: Mutant, patterns: list[str]) -> bool:
    return any(part in mutant.name or fnmatch(mutant.name, part) for part in patterns)


def _map(directory: Path, jobs: int, *, keep: bool) -> tests_map.LineMap:
    current = digest(ROOT, "router", "tests")
    stamp, file = directory / "map.digest", directory / "map.json"
    if file.exists() and (keep or (stamp.exists() and stamp.read_text() == current)):
        return tests_map.LineMap.from_json(file.read_text())
    say("running every fast test once to see which lines it runs")
    began = time.monotonic()
    made = tests_map.make(ROOT, jobs)
    file.write_text(made.as_json())
    stamp.write_text(current)
    say(f"{len(made.names)} tests in {time.monotonic() - began:.0f} s")
    return made


def _try_all(
    todo: list[Mutant],
    tests: tests_map.LineMap,
    records: Records,
    verdicts: dict[str, Verdict],
    wanted: argparse.Namespace,
) -> None:
    waiting: SimpleQueue[Mutant | None] = SimpleQueue()
    for one in [*todo, *[None] * wanted.jobs]:
        waiting.put(one)

    def work(scratch: Scratch) -> None:
        while (mutant := waiting.get()) is not None:
            verdict = judge(scratch, mutant, tests, first=wanted.tests, slow=not wanted.fast)
            if scratch.stopped:
                return  # not a verdict: the run was ended
            records.add(verdict)
            verdicts[mutant.name] = verdict
            say(f"{verdict.outcome:8} {verdict.seconds:6.1f} s  {mutant.name}  {verdict.by}")

    with ExitStack() as stack:
        scratches = [stack.enter_context(Scratch(ROOT)) for _ in range(wanted.jobs)]
        pool = stack.enter_context(ThreadPoolExecutor(wanted.jobs))
        try:
            for done in [pool.submit(work, scratch) for scratch in scratches]:
                done.result()
        except BaseException:
            for scratch in scratches:
                scratch.stop()
            raise


if __name__ == "__main__":
    interruptible()
    sys.exit(main(sys.argv[1:]))
