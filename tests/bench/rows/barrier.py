"""
From a hold to quiet: how long until every worker has applied it and has nothing under way for the mailbox.

At idle, and with mail for all these mailboxes under way. The commit of the hold shows by itself nowhere: `quiet` is
from the moment before its transaction to the moment that the last worker's transaction wrote down, `call` from the
call of the operation to its return, which also sees that.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

from support.site import Site

from bench.relays import Plan, Sluice, running
from bench.row import OURS, Case, Figures, Row
from bench.rows.latency import high, ms
from bench.steady import Steady
from bench.tools import Sink
from router.control import hold_records

HOLDS = int(os.environ.get("BENCH_HOLDS", "60"))
RATE = float(os.environ.get("BENCH_RATE", "500"))
PEOPLE = [f"p{number}@example.edu" for number in range(200)]
_PAUSE = 0.05
_BEFORE = 2.0
"""Seconds of load before the first hold."""


def _run(rate: float) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        with Sink() as sink, running(relay, Plan({"old": sink.port}, PEOPLE)) as made:
            assert isinstance(made, Sluice)
            stream = Steady(made.port, rate, PEOPLE) if rate else None
            with stream or contextlib.nullcontext():
                time.sleep(_BEFORE if rate else 0)
                took = [hold(made.site, PEOPLE[number % len(PEOPLE)]) for number in range(HOLDS)]
            made.settle(60)
            sink.judge(stream.acknowledged if stream else 0)
        quiet, call = zip(*took, strict=True)
        figures = {"quiet": statistics.median(quiet), "quiet95": high(quiet), "call": statistics.median(call)}
        return {name: ms(value) for name, value in figures.items()} | {"rate": stream.rate if stream else 0.0}

    return run


def hold(site: Site, key: str) -> tuple[float, float]:
    """One hold and its release; seconds until quiet, and until the operation returned."""
    office = site.office
    act, began = office.act("bench"), time.monotonic()
    (done,) = office.operations.hold([key], act)
    call = time.monotonic() - began
    assert done.quiet, done
    record = office.database.run_read(partial(hold_records.get, number=done.hold))
    assert record.hold.quiet_at is not None
    (released,) = office.operations.release([key], office.act("bench"))
    assert released.applied, released
    time.sleep(_PAUSE)
    return record.hold.quiet_at - act.at, call


ROW = Row(
    "barrier",
    "From a hold to quiet",
    f"{HOLDS} holds one after the other, each released again; two workers, 200 mailboxes.",
    {
        "quiet": "hold → quiet, median, ms",
        "quiet95": "hold → quiet, 95 %, ms",
        "call": "call → return, median, ms",
        "rate": "messages/s under way",
    },
    [Case("at idle", _run(0), OURS), Case(f"with {RATE:.0f} messages/s under way", _run(RATE), OURS)],
)
