"""
The accounts of the spools as `status` and `store list` show them: one read transaction for each spool.

Guarantees: what is counted for one spool is one moment of it, so its balance (promise 9) is exact beside running
workers. Reads indices and counters, never a message body; mailboxes are not gone through one by one.

On failure: `SpoolUnavailable`.
"""

import sqlite3
from dataclasses import dataclass, fields

from router.admin.cli.queue_select import SpoolPlace
from router.spool.accounts import Counts, Stats, Totals, counts, stats
from router.spool.reader import Reader
from router.spool.schema import DATABASE

UNDELIVERED = ("queued", "held", "parked", "quarantined")
_LANES = (
    "SELECT lane, sum(number) FROM ("
    " SELECT lane, count(*) AS number FROM recipients WHERE state = 'queued' AND draining = 0 GROUP BY lane"
    " UNION ALL SELECT lane, count(*) FROM recipients WHERE draining = 1 GROUP BY lane) GROUP BY lane"
)
_DELIVERED = "SELECT lane, sum(count) FROM tally WHERE what = 'delivered' GROUP BY lane"


@dataclass(frozen=True, slots=True)
class SpoolAccount:
    """One spool at one moment. `queued` and `delivered` are recipients by lane, DSNs of ours included."""

    place: SpoolPlace
    counts: Counts
    stats: Stats
    queued: dict[str, int]
    delivered: dict[str, int]

    @property
    def missing(self) -> int:
        """Accepted recipients that are nowhere (negative: too many); 0 when the accounts balance."""
        return missing(self.counts.mail) + missing(self.counts.own)


def account_of(place: SpoolPlace) -> SpoolAccount:
    """Read one spool. Raises `SpoolUnavailable`."""
    reader = Reader(place.directory / DATABASE, place.number, threads=1)
    try:
        return reader.call(_account, place)
    finally:
        reader.close()


def lanes_of(place: SpoolPlace) -> dict[str, int]:
    """Queued recipients by lane. Raises `SpoolUnavailable`."""
    reader = Reader(place.directory / DATABASE, place.number, threads=1)
    try:
        return reader.call(_pairs, _LANES)
    finally:
        reader.close()


def missing(totals: Totals) -> int:
    """Accepted, and opened by forwards, less what is found in some place."""
    return totals.missing


def add(one: Totals, other: Totals) -> Totals:
    """Both together."""
    return Totals(*(getattr(one, each.name) + getattr(other, each.name) for each in fields(Totals)))


def undelivered(totals: Totals) -> int:
    """Recipients that are still in the queue, in whatever state."""
    return sum(getattr(totals, state) for state in UNDELIVERED)


def _account(connection: sqlite3.Connection, place: SpoolPlace) -> SpoolAccount:
    return SpoolAccount(
        place,
        counts(connection, detail=False),
        stats(connection),
        _pairs(connection, _LANES),
        _pairs(connection, _DELIVERED),
    )


def _pairs(connection: sqlite3.Connection, query: str) -> dict[str, int]:
    return {str(name): int(count) for name, count in connection.execute(query)}
