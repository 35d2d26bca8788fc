"""Goals: ratios and floors, and that every goal is of something that is measured."""

import pytest
from bench.discovery import discovered
from bench.figures import Measured, Results
from bench.goals import GOALS, Better, Goal, Kind, Standing, reached, standing

FASTER = Goal("rate", "throughput", "kept", "delivered", 3.5, 5)
DEARER = Goal("cost", "throughput", "kept", "cpu", 0.8, 0.4, better=Better.LOWER)
FLIP = Goal("flip", "flips", "many", "one", 1.25, 1.25, Kind.GROWTH, Better.LOWER, against="few")
QUIET = Goal("quiet", "barrier", "idle", "quiet", 100, 30, Kind.ABSOLUTE, Better.LOWER, unit="ms")


def results(row: str, case: str, **relays: list[dict[str, float]]) -> Results:
    return Results().with_case(row, case, Measured(None, {name: tuple(rounds) for name, rounds in relays.items()}))


def test_a_ratio_is_ours_through_theirs_of_the_medians() -> None:
    ours = [{"delivered": 1.0}, {"delivered": 2000.0}, {"delivered": 1800.0}]
    seen = reached(FASTER, results("throughput", "kept", Sluice=ours, Postfix=[{"delivered": 450.0}]))
    assert (seen.ours, seen.other, seen.value) == (1800.0, 450.0, 4.0)
    assert seen.standing is Standing.FLOOR


@pytest.mark.parametrize(
    ("goal", "value", "found"),
    [
        (FASTER, 5.0, Standing.GOAL),
        (FASTER, 4.99, Standing.FLOOR),
        (FASTER, 3.5, Standing.FLOOR),
        (FASTER, 3.49, Standing.MISSED),
        (DEARER, 0.4, Standing.GOAL),
        (DEARER, 0.41, Standing.FLOOR),
        (DEARER, 0.8, Standing.FLOOR),
        (DEARER, 0.81, Standing.MISSED),
        (DEARER, None, Standing.OPEN),
    ],
)
def test_on_the_mark_is_enough(goal: Goal, value: float | None, found: Standing) -> None:
    assert standing(goal, value) is found


def test_a_figure_as_it_is_needs_no_other_relay() -> None:
    seen = reached(QUIET, results("barrier", "idle", Sluice=[{"quiet": 31.0}]))
    assert (seen.value, seen.other, seen.standing) == (31.0, None, Standing.FLOOR)


def test_growth_is_against_another_case_of_ours() -> None:
    both = results("flips", "few", Sluice=[{"one": 4.0}], Postfix=[{"one": 1.0}])
    both = both.with_case("flips", "many", Measured(None, {"Sluice": ({"one": 6.0},)}))
    seen = reached(FLIP, both)
    assert (seen.value, seen.standing) == (1.5, Standing.MISSED)


@pytest.mark.parametrize(
    "found",
    [
        Results(),
        results("throughput", "kept", Sluice=[{"delivered": 9.0}]),
        results("throughput", "kept", Postfix=[{"delivered": 9.0}]),
        results("throughput", "kept", Sluice=[{"delivered": 9.0}], Postfix=[{"delivered": 0.0}]),
        results("throughput", "kept", Sluice=[{"cpu": 9.0}], Postfix=[{"delivered": 3.0}]),
        results("throughput", "other", Sluice=[{"delivered": 9.0}], Postfix=[{"delivered": 1.0}]),
    ],
)
def test_what_was_not_measured_is_open(found: Results) -> None:
    assert reached(FASTER, found).standing is Standing.OPEN


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.text)
def test_every_goal_is_of_something_that_is_measured(goal: Goal) -> None:
    row = discovered()[goal.row]
    cases = {case.name: case for case in row.cases}
    assert goal.metric in row.units
    assert "Sluice" in cases[goal.case].relays
    assert goal.kind is not Kind.RATIO or "Postfix" in cases[goal.case].relays
    assert goal.kind is not Kind.GROWTH or goal.against in cases


def test_no_goal_is_easier_than_its_floor() -> None:
    ways = {Better.HIGHER: 1, Better.LOWER: -1}
    assert [goal.text for goal in GOALS if ways[goal.better] * goal.goal < ways[goal.better] * goal.floor] == []
