"""
The page `docs/benchmarks/README.md`: machine, settings, the table of goals, and a table and plots for each row.

`page` is pure. Guarantees: figures come from `Results` alone; what was not measured is a dash or is left out, and never
a zero; rows of the goals come first. On failure: `OSError` when it cannot be written.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bench import prose
from bench.curves import groups, metrics, relays
from bench.figures import Cases, Measured, Results, Spread
from bench.goals import GOALS, Goal, Kind, Reached, reached
from bench.plots import Picture, draw
from bench.row import Row

NAME = "README.md"
_WIDTH = 118
_NOTHING = "-"
_LONG = 160
"""Characters of a reason."""


def write(place: Path, results: Results, rows: Sequence[Row]) -> Path:
    """Page and plots below `place`; the page's path."""
    place.mkdir(parents=True, exist_ok=True)
    pictures = draw(place, results, rows)
    (place / NAME).write_text(page(results, rows, pictures))
    return place / NAME


def page(results: Results, rows: Sequence[Row], pictures: Mapping[str, Sequence[Picture]] | None = None) -> str:
    """The whole page. `pictures` are by the names of rows."""
    parts = [prose.HEAD, _machine(results), prose.EQUAL, _settings(results), prose.GOALS, _goals(results)]
    for row in ordered(rows):
        if cases := results.rows.get(row.name):
            parts += _row(row, cases, (pictures or {}).get(row.name, ()))
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Those that have goals first, in the order of these."""
    places = {goal.row: number for number, goal in reversed(list(enumerate(GOALS)))}
    return sorted(rows, key=lambda row: (places.get(row.name, len(GOALS)), row.name))


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return _NOTHING
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _machine(results: Results) -> str:
    return f"Measured on {results.machine}." if results.machine else ""


def _settings(results: Results) -> str:
    if not results.version:
        return ""
    lines = "\n".join(results.settings)
    return (
        f"Postfix {results.version}, `postconf -n` (the tables are in LDAP where a case says so):\n\n```\n{lines}\n```"
    )


def _goals(results: Results) -> str:
    head = ["what", "Postfix", "Sluice", "ratio", "floor", "goal", "reached"]
    return _table(head, (_goal(reached(goal, results)) for goal in GOALS))


def _goal(seen: Reached) -> list[str]:
    goal = seen.goal
    postfix = number(seen.other) if goal.kind is Kind.RATIO else ""
    ratio = number(seen.value) if goal.kind is not Kind.ABSOLUTE else ""
    return [
        goal.text,
        postfix,
        number(seen.ours),
        ratio,
        _mark(goal, goal.floor),
        _mark(goal, goal.goal),
        seen.standing,
    ]


def _mark(goal: Goal, value: float) -> str:
    unit = f" {goal.unit}" if goal.kind is Kind.ABSOLUTE else ""
    return f"{goal.better} {value:g}{unit}"


def _row(row: Row, cases: Cases, pictures: Sequence[Picture]) -> Iterator[str]:
    yield f"## {row.title}"
    yield textwrap.fill(row.text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    shown = {picture.curve: picture for picture in pictures}
    for curve, points in groups(cases).items():
        if not relays(points):
            continue
        if curve:
            yield f"### {row.title}: {curve}"
        yield _figures(row, points)
        if picture := shown.get(curve):
            yield f"![{picture.text}]({picture.file})"
    yield _void(cases)


def _figures(row: Row, cases: Cases) -> str:
    names = metrics(row, cases)
    head = ["case", "relay", *(row.units.get(name, name) for name in names)]
    return _table(head, (line for case, one in cases.items() for line in _case(case, one, names)))


def _case(name: str, case: Measured, names: Sequence[str]) -> Iterator[list[str]]:
    found = relays({name: case})
    for place, relay in enumerate(found):
        yield [name if not place else "", relay, *(_spread(case.spread(relay, metric)) for metric in names)]
    if len(found) == 2:
        yield ["", "ratio", *(number(_ratio(case, metric)) for metric in names)]


def _ratio(case: Measured, metric: str) -> float | None:
    ours, other = case.spread("Sluice", metric), case.spread("Postfix", metric)
    return ours.median / other.median if ours and other and other.median else None


def _spread(spread: Spread | None) -> str:
    if spread is None or spread.low == spread.high:
        return number(spread.median if spread else None)
    return f"{number(spread.median)} ({number(spread.low)} to {number(spread.high)})"


def _void(cases: Cases) -> str:
    lines = [
        textwrap.fill(
            f"- **Void**, and in no figure: {name}, {relay}: {textwrap.shorten(reason, _LONG)}",
            _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False,
        )
        for name, case in cases.items() for relay, reasons in case.void.items() for reason in reasons
    ]  # fmt: skip
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
