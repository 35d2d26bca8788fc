"""
`./dev bench`: the rows of the benchmark, each case for both relays in turn, round by round.

Guarantees: every round's figures are in `var/bench/results.json` as soon as it is over, so that an interrupt keeps
them; a run of some rows, or some cases of them, replaces only these. The page and its plots are written to
`docs/benchmarks/` once every row has been measured here, and with `--page`; to `var/bench/part/` until then. Exit 0
when every round counts, 1 when one is void (a fast run that lost mail is a failed run), 64 for a wrong command line,
130 when interrupted.

On failure: a round that raises is printed as void with its reason, and the others go on.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from support.command import allow_files, interruptible, say
from support.machine import machine
from support.words import Words

from bench import peer
from bench.discovery import discovered
from bench.figures import Measured, Results
from bench.page import write
from bench.row import Case, Row

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "var" / "bench" / "results.json"
PAGE = ROOT / "docs" / "benchmarks"
ROUNDS = 3
FILES = 16384
INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    rows = discovered()
    wanted = _parse(arguments, rows)
    allow_files(FILES)
    run = Run(Results.read(RESULTS), wanted.rounds, RESULTS)
    status = 0
    try:
        if not wanted.page:
            run.measure([rows[name] for name in wanted.only], wanted.cases)
    except KeyboardInterrupt:
        status = INTERRUPTED
    whole = all(run.results.rows.get(name) for name in rows)
    place = PAGE if wanted.page or whole else RESULTS.parent / "part"
    say(f"written: {write(place, run.results, list(rows.values())).relative_to(ROOT)}")
    return status or int(run.void > 0)


class Run:
    """One run of some rows. `results` grows with every round, and so does the file."""

    def __init__(self, results: Results, rounds: int, path: Path) -> None:
        self.results = results
        self.void = 0
        self._rounds = rounds
        self._path = path

    def measure(self, rows: list[Row], pattern: str = "*") -> None:
        """All rounds of all cases whose names match."""
        version, settings = peer.told()
        told = machine(Path(tempfile.gettempdir()))
        self.results = replace(self.results, machine=told, version=version, settings=settings)
        for row in rows:
            if pattern == "*":
                self.results = self.results.without(row.name)
            for case in (one for one in row.cases if fnmatchcase(one.name, pattern)):
                self._case(row, case)

    def _case(self, row: Row, case: Case) -> None:
        measured = Measured(x=case.x)
        for number in range(1, (case.rounds or self._rounds) + 1):
            for relay in case.relays:
                began = time.monotonic()
                measured, line = self._round(measured, case, relay)
                self._keep(row, case, measured)
                say(f"{row.name}: {case.name}: {relay} {number}: {line} ({time.monotonic() - began:.0f} s)")
        for line in medians(case, measured):
            say(f"{row.name}: {case.name}: {line}")

    def _round(self, measured: Measured, case: Case, relay: str) -> tuple[Measured, str]:
        try:
            figures = case.run(relay)
        except Exception as error:  # noqa: BLE001 - whatever it was, this round does not count and the next one is run
            self.void += 1
            reason = f"{type(error).__name__}: {error}".strip()
            return measured.with_void(relay, reason), f"VOID: {reason}"
        return measured.with_round(relay, figures), _shown(figures)

    def _keep(self, row: Row, case: Case, measured: Measured) -> None:
        self.results = self.results.with_case(row.name, case.name, measured)
        self.results.write(self._path)


def medians(case: Case, measured: Measured) -> Iterator[str]:
    """A line for each relay that has figures."""
    for relay in case.relays:
        if rounds := measured.rounds.get(relay):
            spreads = {metric: measured.spread(relay, metric) for metric in rounds[0]}
            yield f"{relay} median: {_shown({name: one.median for name, one in spreads.items() if one})}"


def _shown(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _parse(arguments: list[str], rows: Mapping[str, Row]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.split("\n\n")[0], exit_on_error=False)
    parser.add_argument("--only", type=Words(rows), default=list(rows), metavar="A,B", help=",".join(rows))
    parser.add_argument(
        "--cases", default="*", metavar="PATTERN", help="only cases whose names match, e.g. 'mailboxes=*'"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"of each case and relay ({ROUNDS})")
    parser.add_argument("--page", action="store_true", help="only write the page, from what was measured before")
    try:
        return parser.parse_args(arguments)
    except argparse.ArgumentError as error:
        print(f"./dev bench: {error}", file=sys.stderr)
        raise SystemExit(64) from None


if __name__ == "__main__":
    interruptible()
    sys.exit(main(sys.argv[1:]))
