"""
Which cases of a row are points of one curve: those with an x whose names have the same words before a `=`.

Pure. Guarantees: every case is in one group, by its x, or in the order in which it was measured; '' is the group of
those without x.
"""

from bench.figures import Cases, Measured
from bench.row import BOTH, Row


def groups(cases: Cases) -> dict[str, dict[str, Measured]]:
    """Name of a curve to its cases."""
    found: dict[str, dict[str, Measured]] = {}
    for name, case in cases.items():
        found.setdefault(name.partition("=")[0] if case.x is not None else "", {})[name] = case
    return {name: dict(sorted(found[name].items(), key=lambda item: item[1].x or 0)) for name in found}


def metrics(row: Row, cases: Cases) -> list[str]:
    """What was measured of any of them, in the order of the row; what the row does not know comes last."""
    seen = {metric for case in cases.values() for metric in case.metrics()}
    return [metric for metric in row.units if metric in seen] + sorted(seen - set(row.units))


def relays(cases: Cases) -> list[str]:
    """Those that have figures."""
    return [relay for relay in BOTH if any(case.rounds.get(relay) for case in cases.values())]
