"""
What was measured, as values: every round of every case, kept as JSON so that a page can be written from several runs.

Pure but for `read` and `write`. Guarantees: `Results.read` of what `write` wrote is the same value; a case that is
begun anew loses its former rounds and no other's; a void round is remembered with its reason and has no figures.

On failure: `ValueError`, `KeyError` or `OSError` for a file that is something else.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Self

from bench.row import Figures


@dataclass(frozen=True, slots=True)
class Spread:
    """One metric of one relay over its rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One case: the rounds of each relay, in the order they were run, and the reasons of those that are void."""

    x: float | None = None
    """Where it stands on a curve."""
    rounds: Mapping[str, tuple[Figures, ...]] = field(default_factory=dict)
    void: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def spread(self, relay: str, metric: str) -> Spread | None:
        """None when that relay never showed that metric."""
        seen = [figures[metric] for figures in self.rounds.get(relay, ()) if metric in figures]
        return Spread(median(seen), min(seen), max(seen)) if seen else None

    def metrics(self) -> set[str]:
        """Names of all that was measured."""
        return {name for rounds in self.rounds.values() for figures in rounds for name in figures}

    def with_round(self, relay: str, figures: Figures) -> "Measured":
        return replace(self, rounds={**self.rounds, relay: (*self.rounds.get(relay, ()), dict(figures))})

    def with_void(self, relay: str, reason: str) -> "Measured":
        return replace(self, void={**self.void, relay: (*self.void.get(relay, ()), reason)})


Cases = Mapping[str, Measured]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured. `rows`: name of a row to its cases, in the order of the row."""

    machine: str = ""
    version: str = ""
    """Of Postfix."""
    settings: tuple[str, ...] = ()
    """What `postconf -n` says of it."""
    rows: Mapping[str, Cases] = field(default_factory=dict)

    def with_case(self, row: str, case: str, measured: Measured) -> Self:
        """The same with that case as it is now."""
        return replace(self, rows={**self.rows, row: {**self.rows.get(row, {}), case: measured}})

    def without(self, row: str) -> Self:
        """The same with nothing of that row."""
        return replace(self, rows={name: cases for name, cases in self.rows.items() if name != row})

    def spread(self, row: str, case: str, relay: str, metric: str) -> Spread | None:
        """None for what was not measured."""
        found = self.rows.get(row, {}).get(case)
        return found.spread(relay, metric) if found else None

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self), indent=1) + "\n")
        fresh.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What was written before; nothing when there is no file."""
        if not path.exists():
            return cls()
        whole = json.loads(path.read_text())
        rows = {row: {case: _measured(one) for case, one in cases.items()} for row, cases in whole["rows"].items()}
        return cls(whole["machine"], whole["version"], tuple(whole["settings"]), rows)


def _measured(found: Mapping[str, Any]) -> Measured:
    rounds, void = found["rounds"], found["void"]
    return Measured(
        found["x"],
        {relay: tuple(dict(one) for one in figures) for relay, figures in rounds.items()},
        {relay: tuple(reasons) for relay, reasons in void.items()},
    )
