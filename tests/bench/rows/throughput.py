"""
Messages per second from smtp-source through a relay into smtp-sink, and the processor seconds that each one costs.

5 KB messages, 20 connections, both cores shared with the load generator and the store.
"""

import os
import time
from collections.abc import Callable

from support.people_ldif import sun_domain, sun_person
from support.slapd import Slapd

from bench.processes import cpu
from bench.relays import Plan, running
from bench.row import Case, Figures, Row
from bench.tools import Sink, numbered, source

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "5000"))
COLD = int(os.environ.get("BENCH_COLD", "1000"))
"""Messages to people unknown before."""
WARM = 200
"""Messages before the clock starts: daemons are started, caches filled, for every relay alike."""


UNSWEPT = {"follow": "30m", "sweep": "1h", "stale_delivery": "1h", "stale": "4h", "deadline": "9s"}
"""Keys of a directory whose changes are not followed: who came later is unknown until asked for."""


def through(
    relay: str,
    plan: Plan,
    sink: Sink,
    *,
    kept: bool,
    many: bool = False,
    messages: int = MESSAGES,
    sessions: int = 20,
    length: int = 5120,
    prepare: Callable[[], None] = lambda: None,
) -> Figures:
    """One run, judged by the ledger. `prepare` is called when the relay is warm, before the clock starts."""
    with running(relay, plan) as made:
        source(made.port, WARM, kept=kept)
        sink.wait(WARM)
        made.settle(60)
        prepare()
        used, began = cpu(made.root()), time.monotonic()
        accepted = source(made.port, messages, kept=kept, many=many, sessions=sessions, length=length)
        ended = sink.wait(WARM + messages)
        made.settle(120)
        used = cpu(made.root()) - used
        sink.judge(WARM + messages)
    return {
        "accepted": messages / accepted,
        "delivered": messages / (ended - began),
        "cpu": used / messages * 1000,
    }


def _database(*, kept: bool, many: bool = False) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        people = ["p0@example.edu", *(numbered(MESSAGES) if many else [])]
        with Sink() as sink:
            return through(relay, Plan({"old": sink.port}, people), sink, kept=kept, many=many)

    return run


def _ldap(*, kept: bool, many: bool = False) -> Callable[[str], Figures]:
    def run(relay: str) -> Figures:
        people = ["p0", *(f"user{number}" for number in range(1000)), *(names(MESSAGES) if many else [])]
        with Slapd([sun_domain("example.edu"), *map(sun_person, people)]) as server, Sink() as sink:
            plan = Plan({"old": sink.port, "new": sink.port}, ldap=server)
            return through(relay, plan, sink, kept=kept, many=many)

    return run


def _cold(relay: str) -> Figures:
    """Everybody who gets mail has come into the directory after the relay's only sweep."""
    with Slapd([sun_domain("example.edu"), sun_person("p0")]) as server, Sink() as sink:
        plan = Plan({"old": sink.port, "new": sink.port}, ldap=server, source=UNSWEPT)
        entries, mark = "\n".join(map(sun_person, names(COLD))), server.mark()
        figures = through(
            relay, plan, sink, kept=True, many=True, messages=COLD, prepare=lambda: server.modify(entries)
        )
        asked = "".join(server.searches(mark))
        assert all(f"={name}@" in asked for name in names(COLD)), "the directory was not asked for everybody"
    return figures


def names(count: int) -> list[str]:
    """Of those whom so many messages go to, one each."""
    return [address.partition("@")[0] for address in numbered(count)]


ROW = Row(
    "throughput",
    "Throughput",
    "smtp-source → relay → smtp-sink: 5 KB, 20 connections, every message durable before its 250.",
    {
        "accepted": "accepted, messages/s",
        "delivered": "end to end, messages/s",
        "cpu": "processor time of the relay, ms a message",
    },
    [
        Case("kept connections", _database(kept=True)),
        Case("a connection per message", _database(kept=False)),
        Case("kept connections, each to another person", _database(kept=True, many=True)),
        Case("LDAP, known people, kept connections", _ldap(kept=True)),
        Case("LDAP, known people, a connection per message", _ldap(kept=False)),
        Case("LDAP, known people, kept connections, each to another person", _ldap(kept=True, many=True)),
        Case("LDAP, unknown before, kept connections, each to another person", _cold),
    ],
)
