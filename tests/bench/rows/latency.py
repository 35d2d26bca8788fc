"""
How long one message takes through an idle relay: from the client's final dot, and from its connecting, to the arrival.

One message at a time from a plain client, each on a connection of its own, with a pause in between in which the relay
has nothing to do. The same client and the same store for both. The arrival is the final dot at the store.
"""

import os
import statistics
import time
from collections.abc import Sequence

from bench.relays import Plan, running
from bench.row import Case, Figures, Row
from bench.stamps import arrivals, hand_in, stamping_store

SAMPLES = int(os.environ.get("BENCH_SAMPLES", "200"))
WARM = 20
_PAUSE = 0.05
_TO = "p0@example.edu"


def run(relay: str) -> Figures:
    """Medians and 95th percentiles, in ms."""
    tags = [f"latency-{number}" for number in range(WARM + SAMPLES)]
    with stamping_store("old") as store, running(relay, Plan({"old": store.port}, [_TO])) as made:
        handed = {}
        for tag in tags:
            handed[tag] = hand_in(made.port, tag, _TO)
            time.sleep(_PAUSE)
        arrived = arrivals(store, tags)
        made.settle(30)
    counted = tags[WARM:]
    dot = [arrived[tag].at - handed[tag].written for tag in counted]
    whole = [arrived[tag].at - handed[tag].began for tag in counted]
    answer = [handed[tag].answered - handed[tag].written for tag in counted]
    return {
        "dot": ms(statistics.median(dot)),
        "dot95": ms(high(dot)),
        "whole": ms(statistics.median(whole)),
        "whole95": ms(high(whole)),
        "answer": ms(statistics.median(answer)),
    }


def ms(seconds: float) -> float:
    return seconds * 1000


def high(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]


ROW = Row(
    "latency",
    "Latency at idle",
    f"One message of 5 KB at a time from a plain client to a store that stamps arrivals; {SAMPLES} of them.",
    {
        "dot": "final dot → arrival, median, ms",
        "dot95": "final dot → arrival, 95 %, ms",
        "whole": "connecting → arrival, median, ms",
        "whole95": "connecting → arrival, 95 %, ms",
        "answer": "final dot → 250, median, ms",
    },
    [Case("one message at a time", run)],
)
