"""
Plots of what was measured, as SVG: a curve for every group of cases with an x, bars where both relays were measured.

Guarantees: the same results give the same files (no date, a fixed salt of identifiers); text stays text; a plot of a
row that is no longer drawn is removed. On failure: without matplotlib there are no plots, the ones that are there stay,
and a line says so.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.curves import groups, metrics, relays
from bench.figures import Cases, Results
from bench.row import BOTH, Row

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
except ImportError:
    INSTALLED = False
else:
    INSTALLED = True

_COLOURS = {"Postfix": "#8a8a8a", "Sluice": "#0b7a75"}
_STYLE = {"svg.hashsalt": "sluice", "svg.fonttype": "none", "font.size": 8, "font.family": "sans-serif"}
_WIDE, _HIGH, _BAR = 3.0, 2.4, 0.38
"""Inches of one plot; the height of a bar, of 1 between cases."""
_TITLE = 36
"""Characters of a line above a plot."""
_STEEP = 30
"""From which ratio of the most to the least on a logarithmic axis is used."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One file. `curve` '': the bars of the cases that are on no curve."""

    curve: str
    file: str
    text: str


def draw(place: Path, results: Results, rows: Sequence[Row]) -> dict[str, list[Picture]]:
    """Plots below `place`, by the names of rows."""
    if not INSTALLED:
        print("no plots: matplotlib is not installed (./dev bench installs it)")
        return {}
    drawn: dict[str, list[Picture]] = {}
    with mpl.rc_context(_STYLE):
        for row in rows:
            for curve, cases in groups(results.rows.get(row.name, {})).items():
                if relays(cases) if curve else relays(cases) == list(BOTH):
                    drawn.setdefault(row.name, []).append(_picture(place, row, curve, cases))
    files = {picture.file for pictures in drawn.values() for picture in pictures}
    for path in place.glob("*.svg"):
        if path.name not in files:
            path.unlink()
    return drawn


def _picture(place: Path, row: Row, curve: str, cases: Cases) -> Picture:
    name = re.sub(r"[^a-z0-9]+", "-", f"{row.name} {curve}".lower()).strip("-") + ".svg"
    names = [metric for metric in metrics(row, cases) if curve or _compared(cases, metric)]
    high = _HIGH if curve else 0.7 + 0.45 * len(cases)
    figure = Figure(figsize=(_WIDE * len(names) + (0 if curve else 1.5), high), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        (_lines if curve else _bars)(axes, cases, metric)
        axes.set_title(textwrap.fill(row.units.get(metric, metric), _TITLE), fontsize=8)
        axes.minorticks_off()
        if not curve and metric != names[0]:
            axes.set_yticklabels([])
        if curve:
            axes.set_xlabel(curve)
    figure.axes[0].legend(frameon=False)
    figure.savefig(place / name, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(curve, name, f"{row.title}{f': {curve}' if curve else ''}")


def _compared(cases: Cases, metric: str) -> bool:
    return all(any(case.spread(relay, metric) for case in cases.values()) for relay in BOTH)


def _lines(axes: Any, cases: Cases, metric: str) -> None:
    tops, lows = [0.0], []
    for relay in relays(cases):
        found = [(case.x, case.spread(relay, metric)) for case in cases.values()]
        points = sorted((x, one.median, one.low, one.high) for x, one in found if one and x is not None)
        if points:
            x, middle, low, high = zip(*points, strict=True)
            axes.plot(x, middle, marker="o", markersize=3, color=_COLOURS[relay], label=relay)
            axes.fill_between(x, low, high, color=_COLOURS[relay], alpha=0.2, linewidth=0)
            tops.append(max(high))
            lows.append(min(low))
    if all((case.x or 0) > 0 for case in cases.values()):
        axes.set_xscale("log")
    if lows and min(lows) > 0 and max(tops) / min(lows) > _STEEP:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, max(tops) * 1.1 or 1)
    axes.grid(visible=True, alpha=0.3)


def _bars(axes: Any, cases: Cases, metric: str) -> None:
    for place, relay in enumerate(BOTH):
        found = [(number, case.spread(relay, metric)) for number, case in enumerate(cases.values())]
        bars = [(number, one.median, one.median - one.low, one.high - one.median) for number, one in found if one]
        numbers, middle, below, above = zip(*bars, strict=True)
        at = [number + (place - 0.5) * _BAR for number in numbers]
        axes.barh(
            at, middle, _BAR, xerr=[below, above], color=_COLOURS[relay], label=relay, error_kw={"linewidth": 0.8}
        )
    axes.set_yticks(range(len(cases)), list(cases))
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x", alpha=0.3)
