"""
Curves: what a message costs as mailboxes, connections, its size or workers grow; `backlog` is about the queue.

`BENCH_FULL=1` goes to a million; without it the largest is a hundred thousand.
"""

import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bench.processes import cpu, memory
from bench.relays import Plan, running
from bench.row import OURS, Case, Figures, Row
from bench.rows.throughput import MESSAGES, WARM, through
from bench.tools import SENDER, Sink, source, tool
from router.demo.config import LOOPBACK

FULL = os.environ.get("BENCH_FULL") == "1"
DECADES = [10**power for power in range(2, 7 if FULL else 6)]
CONNECTIONS = (1, 2, 5, 20, 100, 500, 1000)
SIZES = {"1 KB": 1 << 10, "5 KB": 5 << 10, "50 KB": 50 << 10, "500 KB": 500 << 10, "5 MB": 5 << 20, "100 MB": 100 << 20}
VOLUME = 96 << 20
"""Octets of one round, and no more messages than `MESSAGES`, nor fewer than three."""
HEADER = 4096
"""What a relay writes above a message, at most."""
LONG = 100_000
"""From here on one round is enough: laying the ground takes longer than the measurement."""
EACH = 100
"""Messages of one smtp-source that goes through a hundred people; the mailboxes are multiples of it."""
SIDE_BY_SIDE = 20
_MIB = 1 << 20


def _mailboxes(count: int) -> Callable[[str], Figures]:
    """A hundred people of each of `count` / 100 names, and the mail spread over all names."""

    def run(relay: str) -> Figures:
        names = [f"p{number}@example.edu" for number in range(count // EACH)]
        people = ["warm@example.edu", *(f"{place}{name}" for name in names for place in range(1, EACH + 1))]
        runs = max(MESSAGES // EACH, 1)
        wanted = [names[number * len(names) // runs] for number in range(runs)]
        with Sink() as sink, running(relay, Plan({"old": sink.port}, people)) as made:
            source(made.port, WARM, to="warm@example.edu")
            sink.wait(WARM)
            made.settle(60)
            used, began = cpu(made.root()), time.monotonic()
            accepted = _each_to_another(made.port, wanted)
            ended = sink.wait(WARM + runs * EACH)
            made.settle(120)
            used = cpu(made.root()) - used
            resident = max(one.resident for one in memory(made.root()))
            sink.judge(WARM + runs * EACH)
        return {
            "accepted": runs * EACH / accepted,
            "delivered": runs * EACH / (ended - began),
            "cpu": used / (runs * EACH) * 1000,
            "memory": resident / _MIB,
        }

    return run


def _each_to_another(port: int, names: list[str]) -> float:
    """A hundred people of each name, twenty names at a time; seconds until all is acknowledged."""

    def one(name: str) -> None:
        command = [tool("smtp-source"), "-d", "-N", "-s", "1", "-l", "5120", "-m", str(EACH), "-f", SENDER, "-t", name]
        subprocess.run([*command, f"{LOOPBACK}:{port}"], check=True, timeout=120)

    began = time.monotonic()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(one, names))
    return time.monotonic() - began


def _connections(count: int) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        settings = {"limits": {"connections": 4000, "connections_per_client": 4000}}
        with Sink() as sink:
            plan = Plan({"old": sink.port}, settings=settings)
            return through(relay, plan, sink, kept=True, sessions=count, messages=max(MESSAGES, 2 * count))

    return run


def _size(octets: int) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        count = max(min(MESSAGES, VOLUME // octets), 3)
        with Sink() as sink:
            plan = Plan({"old": sink.port}, size_limit=max(20 << 20, octets + HEADER))
            figures = through(relay, plan, sink, kept=True, messages=count, length=octets)
        return {**figures, "volume": figures["delivered"] * octets / _MIB}

    return run


def _workers(count: int) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        with Sink() as sink:
            return through(relay, Plan({"old": sink.port}, workers=count), sink, kept=True)

    return run


ROW = Row(
    "growth",
    "Growth",
    "5 KB messages on kept connections unless the curve is of one of these. Mailboxes: each message to another person "
    "of those that exist (of a hundred, each gets several), which no cache has seen before; memory is that of the "
    "largest process. Connections: Postfix has its hundred processes, so that more clients wait for their turn.",
    {
        "accepted": "accepted, messages/s",
        "delivered": "end to end, messages/s",
        "volume": "end to end, MiB/s",
        "cpu": "processor time of the relay, ms a message",
        "memory": "largest process, MiB",
    },
    [
        *(Case(f"mailboxes={count}", _mailboxes(count), OURS, int(count >= LONG), count) for count in DECADES),
        *(Case(f"connections={count}", _connections(count), x=count) for count in CONNECTIONS),
        *(Case(f"octets of a message={name}", _size(size), x=size) for name, size in SIZES.items()),
        *(Case(f"workers={count}", _workers(count), OURS, x=count) for count in (1, 2)),
    ],
)
