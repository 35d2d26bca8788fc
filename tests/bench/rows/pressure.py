"""
Back-pressure: a store slower than its clients and a disk that gets full, a store that is stuck beside one that is not,
and a thousand clients that do next to nothing.
"""

import time
from collections.abc import Callable

from bench.choking import DISK, OFFERED, RESERVED, SLOW, choked
from bench.obstacles import Idlers, Silent
from bench.processes import cpu, memory
from bench.relays import LANES, Plan, Postfix, Sluice, running
from bench.row import OURS, Case, Figures, Row
from bench.rows.throughput import MESSAGES, WARM
from bench.tools import Sink, source

BACKLOG = 2000
"""Messages for the other store that are handed in before the clock starts."""
IDLE = 1000
BOB = "bob@example.edu"
_MIB = 1 << 20


def _slow_store(size: int) -> Callable[[str], Figures]:
    return lambda _relay: choked(size)


def _two_stores(*, stuck: bool) -> Callable[[str], Figures]:
    """`stuck`: the other one says nothing. Figures are of the one that works."""

    def run(relay: str) -> Figures:
        with Sink() as sink, Sink() as other, Silent() as silent:
            stores = {"old": sink.port, "new": silent.port if stuck else other.port}
            with running(relay, Plan(stores, elsewhere={BOB: "new"})) as made:
                source(made.port, BACKLOG, to=BOB)
                if not stuck:
                    other.wait(BACKLOG)
                return _measured(made, sink, WARM)

    return run


def _idlers(count: int) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        limits = {"connections": 4000, "connections_per_client": 4000}
        with Sink() as sink, running(relay, Plan({"old": sink.port}, settings={"limits": limits})) as made:
            with Idlers(made.port, count) as idlers:
                figures = _measured(made, sink, WARM)
                there = idlers.there()
            assert there == count, f"{count - there} idle clients were cut off"
            made.settle(60)
        return figures

    return run


def _measured(made: Sluice | Postfix, sink: Sink, warm: int) -> Figures:
    """Throughput to `sink`, judged by the ledger."""
    source(made.port, warm)
    sink.wait(warm)
    used, began = cpu(made.root()), time.monotonic()
    accepted = source(made.port, MESSAGES)
    ended = sink.wait(warm + MESSAGES)
    used = cpu(made.root()) - used
    seen = [one.resident for one in memory(made.root())]
    sink.judge(warm + MESSAGES)
    return {
        "accepted": MESSAGES / accepted,
        "delivered": MESSAGES / (ended - began),
        "cpu": used / MESSAGES * 1000,
        "memory": max(seen) / _MIB,
    }


ROW = Row(
    "pressure",
    "Back-pressure",
    f"A slow store takes {SLOW:g} s for each message on {LANES} connections while clients offer {OFFERED / 1e6:g} "
    f"MB/s, on a disk of {DISK} MiB of which {RESERVED} are to stay free; slower from twice that on; "
    f"before: until the first refusal, after: the last part of the run. Messages of 50 KB are in the database, those "
    f"of 200 KB are files. A stuck store has {BACKLOG:,} messages queued, and figures are of the other "
    f"one. Idle clients say NOOP every 20 s.",
    {
        "accepted": "accepted, messages/s",
        "delivered": "end to end, messages/s",
        "cpu": "processor time of the relay, ms a message",
        "memory": "largest process, MiB",
        "early": "accepted before, messages/s",
        "until": "until the first refusal, s",
        "late": "accepted after, messages/s",
        "out": "delivered after, messages/s",
        "refused": "refused after, messages/s",
        "free": "least free space, MiB",
        "queued": "longest queue, messages",
    },
    [
        Case("a store slower than its clients, 50 KB", _slow_store(50_000), OURS),
        Case("a store slower than its clients, 200 KB", _slow_store(200_000), OURS),
        Case("two stores, both working", _two_stores(stuck=False)),
        Case("two stores, the other one stuck", _two_stores(stuck=True)),
        Case("no idle clients", _idlers(0), OURS),
        Case(f"{IDLE:,} idle clients", _idlers(IDLE), OURS),
    ],
)
