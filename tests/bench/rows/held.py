"""
Mail that waited on hold goes out: from the call that releases all of it to the last arrival.

Sluice holds its mailboxes, and releases them in one call to another store than the one they were at. Postfix has all
its mail in the hold queue by an access table, and its transport table names the new store from the start; its mail is
released by `postsuper -H ALL` and `postqueue -f`. Messages of all mailboxes come in turn.
"""

import os
import time

from bench.processes import cpu
from bench.relays import Plan, Postfix, Sluice, running
from bench.row import Case, Figures, Row
from bench.tools import Sink, numbered, source

HELD = int(os.environ.get("BENCH_HELD", "20000"))
MAILBOXES = int(os.environ.get("BENCH_HELD_MAILBOXES", "200"))
_PATIENCE = 600.0
_HOLD = {"smtpd_recipient_restrictions": "check_recipient_access static:HOLD, permit_mynetworks, reject"}


def run(relay: str) -> Figures:
    """One drain, judged by the ledger."""
    people = numbered(MAILBOXES)
    with Sink() as old, Sink() as new:
        home = "old" if relay == "Sluice" else "new"
        plan = Plan({"old": old.port, "new": new.port}, people, home, postfix=_HOLD)
        with running(relay, plan) as made:
            _hold(made, people)
            fill(made.port)
            _require_held(made)
            used, began = cpu(made.root()), time.monotonic()
            _release(made, people)
            released = time.monotonic()
            ended = new.wait(HELD, _PATIENCE)
            made.settle(120)
            used = cpu(made.root()) - used
            new.judge(HELD)
            old.judge(0)
    took = ended - began
    return {"delivered": HELD / took, "seconds": took, "call": released - began, "cpu": used / HELD * 1000}


def fill(port: int) -> None:
    """Hand the messages in: rounds of one to each mailbox."""
    for _ in range(HELD // MAILBOXES):
        source(port, MAILBOXES, many=True)


def _hold(made: Sluice | Postfix, people: list[str]) -> None:
    if isinstance(made, Sluice):
        office = made.site.office
        assert all(one.quiet for one in office.operations.hold(people, office.act("bench")))


def _require_held(made: Sluice | Postfix) -> None:
    if isinstance(made, Sluice):
        with made.site.books() as books:
            held = books.totals().held
    else:
        held = len(made.instance.aside())
    assert held == HELD, f"{held} messages are on hold, not {HELD}"


def _release(made: Sluice | Postfix, people: list[str]) -> None:
    if isinstance(made, Sluice):
        office = made.site.office
        results = office.operations.release(people, office.act("bench"), "new")
        assert all(one.released and one.applied and one.home == "new" for one in results)
    else:
        made.instance.release()


ROW = Row(
    "held",
    "Draining held mail",
    f"{HELD:,} held messages of {MAILBOXES} mailboxes, 5 KB each, from the call that releases all to the last arrival.",
    {
        "delivered": "delivered, messages/s",
        "seconds": "until the last arrival, s",
        "call": "until the command returned, s",
        "cpu": "processor time of the relay, ms a message",
    },
    [Case(f"{HELD:,} messages of {MAILBOXES} mailboxes", run)],
)
