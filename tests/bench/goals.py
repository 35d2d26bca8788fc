"""
What is to be reached: the goals as data, and the arithmetic that says which of them are.

Pure. A goal is of the medians of one metric of one case. Guarantees: what was not measured is `OPEN`, never reached and
never missed; a ratio is Sluice's figure through the other one, so that "twice as fast" is 2 and "half as dear" is 0.5.
"""

from dataclasses import dataclass
from enum import StrEnum

from bench.figures import Results

_THROUGHPUT, _MEMORY = "throughput", "memory"


class Kind(StrEnum):
    """What the figure is set against."""

    RATIO = "against Postfix"
    ABSOLUTE = "as it is"
    GROWTH = "against another case of ours"


class Better(StrEnum):
    """Which way is good."""

    HIGHER = "at least"
    LOWER = "at most"


class Standing(StrEnum):
    """How far it got."""

    GOAL = "goal"
    FLOOR = "floor"
    MISSED = "no"
    OPEN = "-"


@dataclass(frozen=True, slots=True)
class Goal:
    """`floor` is what must be, `goal` what is aimed at."""

    text: str
    row: str
    case: str
    metric: str
    floor: float
    goal: float
    kind: Kind = Kind.RATIO
    better: Better = Better.HIGHER
    against: str = ""
    """The other case of `Kind.GROWTH`."""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Reached:
    """A goal and what was seen: `value` is the ratio, or the figure itself where nothing is compared."""

    goal: Goal
    ours: float | None
    other: float | None
    value: float | None
    standing: Standing


def reached(goal: Goal, results: Results) -> Reached:
    """How the medians stand."""
    ours = _median(goal, results, goal.case, "Sluice")
    other = None
    if goal.kind is Kind.RATIO:
        other = _median(goal, results, goal.case, "Postfix")
    elif goal.kind is Kind.GROWTH:
        other = _median(goal, results, goal.against, "Sluice")
    value = ours if goal.kind is Kind.ABSOLUTE else _through(ours, other)
    return Reached(goal, ours, other, value, standing(goal, value))


def standing(goal: Goal, value: float | None) -> Standing:
    """Where a value stands; on the mark is enough."""
    if value is None:
        return Standing.OPEN
    sign = 1 if goal.better is Better.HIGHER else -1
    if sign * value >= sign * goal.goal:
        return Standing.GOAL
    return Standing.FLOOR if sign * value >= sign * goal.floor else Standing.MISSED


def _median(goal: Goal, results: Results, case: str, relay: str) -> float | None:
    found = results.spread(goal.row, case, relay, goal.metric)
    return found.median if found else None


def _through(ours: float | None, other: float | None) -> float | None:
    return ours / other if ours is not None and other else None


def _lower(
    text: str, row: str, case: str, metric: str, floor: float, goal: float, kind: Kind = Kind.RATIO, unit: str = ""
) -> Goal:
    return Goal(text, row, case, metric, floor, goal, kind, Better.LOWER, unit=unit)


_AS_IT_IS = Kind.ABSOLUTE
GOALS = (
    Goal("end to end, kept connections, messages/s", _THROUGHPUT, "kept connections", "delivered", 3.5, 5),
    Goal("end to end, one connection per message", _THROUGHPUT, "a connection per message", "delivered", 2.5, 3.5),
    Goal(
        "the same with LDAP, people known, kept connections",
        _THROUGHPUT, "LDAP, known people, kept connections", "delivered", 3, 4.5,
    ),
    Goal(
        "the same with LDAP, people known, one connection per message",
        _THROUGHPUT, "LDAP, known people, a connection per message", "delivered", 3, 4.5,
    ),
    Goal(
        "the same with LDAP, each to another person, unknown before",
        _THROUGHPUT, "LDAP, unknown before, kept connections, each to another person", "delivered", 1, 1.5,
    ),
    Goal(
        "draining 20,000 held messages after the release, messages/s",
        "held", "20,000 messages of 200 mailboxes", "delivered", 2, 4,
    ),
    _lower("processor time per message, kept connections, ms", _THROUGHPUT, "kept connections", "cpu", 0.8, 0.4),
    _lower("latency of one message at idle, dot to arrival, ms", "latency", "one message at a time", "dot", 1.5, 1),
    _lower("hold committed → quiet, at idle, ms", "barrier", "at idle", "quiet", 100, 30, _AS_IT_IS, "ms"),
    _lower(
        "hold committed → quiet, at 500 messages/s, ms",
        "barrier", "with 500 messages/s under way", "quiet", 300, 100, _AS_IT_IS, "ms",
    ),
    Goal(
        "one flip among 1,000,000 mailboxes, against one among 1,000, ms",
        "flips", "one among 1,000,000 mailboxes", "move", 1.25, 1.25,
        Kind.GROWTH, Better.LOWER, "one among 1,000 mailboxes",
    ),
    _lower("a flip of 10,000 mailboxes at once, s", "flips", "10,000 at once", "batch", 5, 1.5, _AS_IT_IS, "s"),
    _lower(
        "resident memory of a worker at load, MB",
        _MEMORY, "5,000 messages on kept connections", "rss", 200, 120, _AS_IT_IS, "MB",
    ),
    _lower(
        "… with 1,000,000 queued, MB",
        _MEMORY, "1,000,000 queued, other mail goes through", "rss", 200, 120, _AS_IT_IS, "MB",
    ),
    _lower(
        "… with 1,000,000 queued that go out, MB",
        _MEMORY, "1,000,000 queued, draining", "rss", 200, 120, _AS_IT_IS, "MB",
    ),
    _lower(
        "… with 1,000,000 mailboxes, MB",
        _MEMORY, "1,000,000 mailboxes, 5,000 get mail", "rss", 200, 120, _AS_IT_IS, "MB",
    ),
    _lower("a message of 100 MiB, more memory, MB", "large", "100 MiB", "memory", 32, 8, _AS_IT_IS, "MB"),
    _lower("a message of 100 MiB, time until it is through, s", "large", "100 MiB", "seconds", 1.5, 1),
)  # fmt: skip
"""
As the project set them. A flip among many is to cost what it costs among few; a quarter more may be noise.

A case of another size has another name, so that a short run reaches no goal by being short.
"""
