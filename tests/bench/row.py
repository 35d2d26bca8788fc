"""
What a row of the benchmark is: cases, who is measured, and how one round of one case is run.

A round is measured for each relay in turn, so that what else the machine does hits all of them alike; a case's figure
is the median of its rounds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Figures = Mapping[str, float]
"""Name of a metric to its value in one round."""

BOTH = ("Postfix", "Sluice")
OURS = ("Sluice",)


@dataclass(frozen=True, slots=True)
class Case:
    """`run` measures one round for the relay of that name; an assertion in it makes the round void, loudly."""

    name: str
    run: Callable[[str], Figures]
    relays: Sequence[str] = BOTH
    rounds: int = 0
    """0: as many as the command line says."""
    x: float | None = None
    """Where it stands on the curve of all cases whose names have the same words before a `=`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A group of cases that are told in one table. `units` says what each metric is, in the order of columns."""

    name: str
    title: str
    text: str
    units: Mapping[str, str]
    cases: Sequence[Case]
