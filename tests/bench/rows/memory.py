"""
Resident memory of Sluice: each worker's, the largest seen while mail goes through, and the whole tree's share.

At load on an empty queue; with a queue that waits for a store which is down (kept messages of a thousand octets, made
with the product's own operation, half in each worker's spool), first while other mail goes through and then while
the queue drains; and with very many mailboxes of which a few get mail.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.long_queue import queue_many

from bench.many import database
from bench.processes import memory
from bench.relays import WORKERS, Plan, Sluice, running
from bench.row import OURS, Case, Figures, Row
from bench.tools import Sink, free_port, numbered, source

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "5000"))
QUEUED = int(os.environ.get("BENCH_QUEUED", "1000000"))
PEOPLE = int(os.environ.get("BENCH_PEOPLE", "1000000"))
_WAITING = [f"w{number}@example.edu" for number in range(5000)]
_DRAINED = 10.0
"""Seconds of the queue's draining that are looked at."""
_PERIOD = 0.25
_MB = 1e6


class Peak:
    """The most that was seen of each figure, in MB."""

    def __init__(self, made: Sluice) -> None:
        self._root, self._workers = made.root(), made.site.worker_pids()
        self.resident = self.proportional = self.whole = 0.0

    def look(self) -> None:
        workers = [memory(pid)[0] for pid in self._workers]
        self.resident = max(self.resident, *(one.resident / _MB for one in workers))
        self.proportional = max(self.proportional, *(one.proportional / _MB for one in workers))
        self.whole = max(self.whole, sum(one.proportional for one in memory(self._root)) / _MB)

    def figures(self) -> Figures:
        return {"rss": self.resident, "pss": self.proportional, "whole": self.whole}


@contextmanager
def watched(made: Sluice) -> Iterator[Peak]:
    """Look all the time, and once more in the end."""
    peak, over = Peak(made), threading.Event()

    def watch() -> None:
        while not over.wait(_PERIOD):
            peak.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
    peak.look()


def _load(relay: str) -> Figures:
    with Sink() as sink, running(relay, Plan({"old": sink.port})) as made:
        assert isinstance(made, Sluice)
        with watched(made) as peak:
            source(made.port, MESSAGES)
            sink.wait(MESSAGES)
        made.settle(60)
        sink.judge(MESSAGES)
    return peak.figures()


def _mailboxes(relay: str) -> Figures:
    with Sink() as sink:
        plan = Plan({"old": sink.port, "new": sink.port}, numbered(MESSAGES), database=database(PEOPLE))
        with running(relay, plan) as made:
            assert isinstance(made, Sluice)
            with watched(made) as peak:
                source(made.port, MESSAGES, many=True)
                sink.wait(MESSAGES)
            made.settle(60)
            sink.judge(MESSAGES)
    return peak.figures()


def _queued(*, drain: bool) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        port = free_port()  # nobody listens there yet
        with Sink() as sink, running(relay, Plan({"old": port, "new": sink.port}, home="new")) as made:
            assert isinstance(made, Sluice)
            _lengthen(made)
            with watched(made) as peak:
                source(made.port, MESSAGES)
                sink.wait(MESSAGES)
                if drain:
                    _drain(port)
            sink.judge(MESSAGES)
            _balance(made)
        return peak.figures()

    return run


def _lengthen(made: Sluice) -> None:
    site = made.site
    site.import_users(dict.fromkeys(_WAITING, "old"))
    site.stop()
    for slot in range(WORKERS):
        number = slot + 1
        queue_many(site.state_dir / "spool" / f"{number:04d}", number, "old", _WAITING, QUEUED // WORKERS)
    site.start()


def _drain(port: int) -> None:
    with Sink(port=port) as store:
        store.wait(1)
        time.sleep(_DRAINED)
        assert store.arrived > 1000, f"{store.arrived} messages of the queue arrived"


def _balance(made: Sluice) -> None:
    made.site.balance()
    with made.site.books() as books:
        assert books.totals().accepted == MESSAGES + QUEUED // WORKERS * WORKERS


ROW = Row(
    "memory",
    "Resident memory",
    "The largest worker of two at its highest, and the proportional share of all processes together.",
    {
        "rss": "worker, resident, MB",
        "pss": "worker, proportional, MB",
        "whole": "all processes, proportional, MB",
    },
    [
        Case(f"{MESSAGES:,} messages on kept connections", _load, OURS),
        Case(f"{QUEUED:,} queued, other mail goes through", _queued(drain=False), OURS, rounds=1),
        Case(f"{QUEUED:,} queued, draining", _queued(drain=True), OURS, rounds=1),
        Case(f"{PEOPLE:,} mailboxes, {MESSAGES:,} get mail", _mailboxes, OURS, rounds=1),
    ],
)
