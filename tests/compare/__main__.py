"""
`./dev compare`: the same kills, power cuts, full disks, hostile clients and smuggling for Sluice and for other relays.

Guarantees: what was seen is kept in `var/compare/results.json`, and `docs/reliability-comparison.md` is written from
all of it; a run of some relays or some faults replaces their rows only. While some have never been run here, what there
is goes to `var/compare/part.md`, and the page stays as it is. Exit 0 when Sluice lost nothing, 1 when it
did, 64 for a wrong command line.

On failure: a relay that cannot be had is named with its reason, in the page too, and the others go on. One that cannot
be run to the end raises, with the end of its log.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from support.command import allow_files, interruptible, say
from support.machine import machine
from support.words import Words

from compare import crashes, full, hostile, page, smuggling
from compare.bout import Make
from compare.figures import Results
from compare.private_view import Unavailable
from compare.relay import Place
from compare.roster import roster

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "var" / "compare" / "results.json"
PAGE = ROOT / "docs" / "reliability-comparison.md"
KINDS = ("kill", "cut", "full", "hostile", "smuggling")
FILES = 16384


def main(arguments: list[str]) -> int:
    known = roster(RESULTS.parent / "packages")
    wanted = _parse(arguments, list(known))
    allow_files(FILES)
    results = Results.read(RESULTS)
    results.machine = machine(Path(tempfile.gettempdir()))
    for name in [] if wanted.page else wanted.relays:
        try:
            results.versions[name] = _version(known[name])
        except Unavailable as error:
            results.missing[name] = str(error)
            say(f"{name}: {error}")
            continue
        results.missing.pop(name, None)
        for kind in wanted.only:
            _one(results, kind, name, known[name], wanted)
            results.write(RESULTS)
    place = PAGE if wanted.page or whole(results, known) else RESULTS.with_name("part.md")
    place.write_text(page.page(results))
    say(f"written: {place.relative_to(ROOT)}")
    mine = [row.tally.lost for kind in ("kill", "cut", "full") for row in results.of(kind).get("sluice", {}).values()]
    return 1 if any(mine) else 0


def whole(results: Results, relays: Collection[str]) -> bool:
    """Whether every run of every relay that can be had was seen."""
    return all(name in results.of(kind) for kind in KINDS for name in relays if name not in results.missing)


def _parse(arguments: list[str], relays: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev compare", description=__doc__.split("\n\n")[0], exit_on_error=False)
    parser.add_argument("--rounds", type=int, default=24, metavar="N", help="kills, and cuts, of each relay (24)")
    parser.add_argument("--relays", type=Words(relays), default=relays, metavar="A,B", help=",".join(relays))
    parser.add_argument("--only", type=Words(KINDS), default=list(KINDS), metavar="A,B", help=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="of the moments of kills and cuts")
    parser.add_argument(
        "--page", action="store_true", help="only write the page, from what was seen before, whole or not"
    )
    try:
        return parser.parse_args(arguments)
    except argparse.ArgumentError as error:
        print(f"./dev compare: {error}", file=sys.stderr)
        raise SystemExit(64) from None


def _one(results: Results, kind: str, name: str, make: Make, wanted: argparse.Namespace) -> None:
    began = time.monotonic()
    say(f"{name}: {kind}, seed {wanted.seed}")
    if kind in {"kill", "cut"}:
        row = crashes.killed if kind == "kill" else crashes.cut
        results.put(kind, name, asyncio.run(row(make, wanted.rounds, wanted.seed)))
    elif kind == "full":
        results.put(kind, name, asyncio.run(full.full(make, wanted.seed)))
    elif kind == "hostile":
        for attack in hostile.ATTACKS:
            results.put(kind, name, asyncio.run(hostile.attacked(make, attack)), attack.__name__)
            say(f"{name}: {attack.__name__} {results.of(kind)[name][attack.__name__]}")
    else:
        for setting, keys in smuggling.SETTINGS.get(name, {"": {}}).items():
            results.put(kind, name, asyncio.run(smuggling.smuggled(make, keys)), setting)
    for case, value in results.of(kind)[name].items():
        say(f"{name}: {kind} {case} {value}")
    say(f"{name}: {kind} took {time.monotonic() - began:.0f} s")


def _version(make: Make) -> str:
    with tempfile.TemporaryDirectory(prefix="sluice-compare-") as directory:
        relay = make(Place(Path(directory), {"old": 1, "new": 2}, {"a@example.edu": "old"}))
        try:
            return relay.version()
        finally:
            relay.close()


if __name__ == "__main__":
    interruptible()
    sys.exit(main(sys.argv[1:]))
