"""
Which next hops could not be reached, how often in a row: their lanes rest, and the operators are told of a store.

Guarantees: several deliveries that were under way together when a next hop went away count as one failure. What is
remembered is bounded. On failure: nothing here fails.
"""

from collections.abc import Sequence

from router.deliver.lanes import Lanes
from router.model.parcel import Verdict
from router.model.route import MX_PREFIX
from router.pipeline.ports import Rules, Trace
from router.report.alarms import AlarmKind

_REMEMBERED = 1000
"""Lanes whose failures are counted; domains that cannot be reached come and go without end."""


class Reachability:
    """Of all next hops of one worker."""

    def __init__(self, lanes: Lanes, trace: Trace) -> None:
        self._lanes = lanes
        self._trace = trace
        self._failures: dict[str, int] = {}

    def note(self, lane: str, verdicts: Sequence[Verdict], rules: Rules) -> None:
        """The verdicts of one transmission."""
        tried = [verdict for verdict in verdicts if not verdict.no_attempt]
        if not [verdict for verdict in tried if verdict.unreachable]:
            if tried and lane in self._failures:
                del self._failures[lane]
                self._trace.clear(AlarmKind.STORE_DOWN, lane)
            return
        if self._lanes.rests(lane):
            return
        if len(self._failures) >= _REMEMBERED and lane not in self._failures:
            self._failures.pop(next(iter(self._failures)))
        failures = self._failures[lane] = self._failures.get(lane, 0) + 1
        self._lanes.rest(lane, rules.rest(failures))
        if not lane.startswith(MX_PREFIX):
            # A domain outside that cannot be reached is nothing for the operators of this site.
            self._trace.alarm(AlarmKind.STORE_DOWN, lane, str(tried[0].reply))
