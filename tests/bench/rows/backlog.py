"""
A long queue: how soon Sluice is there again after its owner was killed, and how fast it takes mail for another store.

The queue is for a store that takes connections and says nothing. `BENCH_FULL=1` goes to a million messages.
"""

import time
from collections.abc import Callable

from support.long_queue import queue_many

from bench.obstacles import Silent
from bench.processes import cpu, memory
from bench.relays import WORKERS, Plan, Sluice, running
from bench.row import OURS, Case, Figures, Row
from bench.rows.growth import DECADES, LONG
from bench.rows.throughput import MESSAGES
from bench.tools import Sink, source

BOB = "bob@example.edu"
PEOPLE = [f"p{number}@example.edu" for number in range(1000)]
_MIB = 1 << 20


def _queued(count: int) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        with Silent() as silent, Sink() as sink:
            plan = Plan({"old": silent.port, "new": sink.port}, PEOPLE, elsewhere={BOB: "new"}, workers=WORKERS)
            with running(relay, plan) as made:
                assert isinstance(made, Sluice)
                return _lengthened(made, sink, count)

    return run


def _lengthened(made: Sluice, sink: Sink, count: int) -> Figures:
    """Killed, and started anew with so many in its spools."""
    made.site.kill()
    for spool in range(1, WORKERS + 1):
        queue_many(made.site.state_dir / "spool" / f"{spool:04d}", spool, "old", PEOPLE, count // WORKERS)
    began = time.monotonic()
    made.site.start(120.0)
    source(made.port, 1, to=BOB)
    start, used, again = time.monotonic() - began, cpu(made.root()), time.monotonic()
    accepted = source(made.port, MESSAGES, to=BOB)
    ended = sink.wait(1 + MESSAGES)
    used = cpu(made.root()) - used
    resident = max(one.resident for one in memory(made.root()))
    sink.judge(1 + MESSAGES)
    with made.site.books() as books:
        left = books.undelivered()
    assert left >= count, f"{count - left} queued messages are gone"
    made.site.balance()
    return {
        "start": start,
        "accepted": MESSAGES / accepted,
        "delivered": MESSAGES / (ended - again),
        "cpu": used / MESSAGES * 1000,
        "memory": resident / _MIB,
    }


ROW = Row(
    "backlog",
    "A long queue",
    "Messages of 1 KB for a thousand people whose store says nothing; the relay was killed, and starts with them. "
    "Then 5 KB messages on kept connections for somebody at another store.",
    {
        "start": "from the start to the first 250, s",
        "accepted": "accepted, messages/s",
        "delivered": "end to end, messages/s",
        "cpu": "processor time of the relay, ms a message",
        "memory": "largest process, MiB",
    },
    [Case(f"queued={count}", _queued(count), OURS, int(count >= LONG), x=count) for count in DECADES],
)
