"""
The accounts of a spool: where every accepted recipient is, counted in one read transaction (promise 9).

What is still in the spool is counted row by row; what has left it comes from the table `tally`, whose counters
change in the transaction that changes the rows. Recipients of messages of our own (DSNs) are counted apart.
"""

import sqlite3
from dataclasses import dataclass, fields

from router.model.envelope import RecipientState
from router.model.outcome import Disposition
from router.spool.batch import ACCEPTED, BYTES, MESSAGES, OPENED
from router.spool.numbering import message_of

_CLOSING = tuple(disposition.value for disposition in Disposition if disposition.closing)


@dataclass(frozen=True, slots=True)
class Totals:
    """
    Recipients by where they are. `accepted` and `opened` (by forwards, in place of one that is counted as forwarded)
    are counted on their own, so the balance can fail.
    """

    accepted: int = 0
    opened: int = 0
    queued: int = 0
    held: int = 0
    parked: int = 0
    quarantined: int = 0
    delivered: int = 0
    returned: int = 0
    removed: int = 0
    merged: int = 0
    forwarded: int = 0

    @property
    def missing(self) -> int:
        """Recipients accepted or opened that are nowhere (negative: too many)."""
        places = (int(getattr(self, one.name)) for one in fields(self) if one.name not in {ACCEPTED, OPENED})
        return self.accepted + self.opened - sum(places)

    @property
    def balanced(self) -> bool:
        """Every accepted or opened recipient is in exactly one place."""
        return self.missing == 0


@dataclass(frozen=True, slots=True)
class Share:
    """`count` recipients with one name (a lane, mailbox or batch) in one state or disposition."""

    name: str
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class Counts:
    """All accounts at one moment. `mail` is what clients handed in, `own` our DSNs."""

    mail: Totals
    own: Totals
    by_lane: tuple[Share, ...] = ()
    by_mailbox: tuple[Share, ...] = ()
    by_batch: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True)
class Stats:
    """Size and age of a spool. Times are wall-clock seconds of reception, None when there is nothing such."""

    messages: int
    octets: int
    oldest_queued: float | None
    oldest_held: float | None
    journal_rows: int
    database_octets: int
    free_octets: int
    """Of the database file: pages that will be used again."""


def counts(connection: sqlite3.Connection, *, detail: bool = True) -> Counts:
    """The accounts, with shares by lane, mailbox and batch if `detail`. For `Reader.call`: one read transaction."""
    tally: dict[tuple[str, int], int] = {
        (what, own): count
        for what, own, count in connection.execute("SELECT what, own, sum(count) FROM tally GROUP BY what, own")
    }
    everything = dict(connection.execute("SELECT state, count(*) FROM recipients GROUP BY state").fetchall())
    ours = dict(
        connection.execute(
            "SELECT state, count(*) FROM recipients INDEXED BY recipients_own WHERE own = 1 GROUP BY state"
        ).fetchall()
    )
    mail = {state: everything.get(state, 0) - ours.get(state, 0) for state in everything}
    found = Counts(_totals(mail, tally, 0), _totals(ours, tally, 1))
    if not detail:
        return found
    return Counts(found.mail, found.own, _by_lane(connection), _by_mailbox(connection), _by_batch(connection))


def stats(connection: sqlite3.Connection) -> Stats:
    """Size and age; touches no message body."""
    tally = dict(
        connection.execute("SELECT what, sum(count) FROM tally WHERE what IN (?, ?) GROUP BY what", (MESSAGES, BYTES))
    )
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return Stats(
        messages=tally.get(MESSAGES, 0),
        octets=tally.get(BYTES, 0),
        oldest_queued=_oldest(connection, RecipientState.QUEUED),
        oldest_held=_oldest(connection, RecipientState.HELD),
        journal_rows=connection.execute("SELECT count(*) FROM journal").fetchone()[0],
        database_octets=pages * size,
        free_octets=free * size,
    )


def _totals(rows: dict[str, int], tally: dict[tuple[str, int], int], own: int) -> Totals:
    states = {state.value: rows.get(state.value, 0) for state in RecipientState}
    closed = {what: tally.get((what, own), 0) for what in (ACCEPTED, OPENED, *_CLOSING)}
    return Totals(**states, **closed)


def _by_lane(connection: sqlite3.Connection) -> tuple[Share, ...]:
    queued = connection.execute(
        "SELECT lane, 'queued', sum(number) FROM ("
        " SELECT lane, count(*) AS number FROM recipients INDEXED BY recipients_due"
        " WHERE state = 'queued' AND draining = 0 GROUP BY lane"
        " UNION ALL SELECT lane, count(*) FROM recipients INDEXED BY recipients_draining"
        " WHERE draining = 1 GROUP BY lane) GROUP BY lane"
    )
    return tuple(Share(*row) for row in queued) + _closed(connection, "lane")


def _by_mailbox(connection: sqlite3.Connection) -> tuple[Share, ...]:
    rows = connection.execute(
        "SELECT mailbox, state, count(*) FROM recipients WHERE mailbox <> '' GROUP BY state, mailbox"
    )
    return tuple(Share(*row) for row in rows) + _closed(connection, "mailbox")


def _by_batch(connection: sqlite3.Connection) -> tuple[Share, ...]:
    return _closed(connection, "batch")


def _closed(connection: sqlite3.Connection, column: str) -> tuple[Share, ...]:
    marks = ",".join("?" * len(_CLOSING))
    query = (
        f"SELECT {column}, what, sum(count) FROM tally WHERE what IN ({marks}) AND {column} <> ''"  # noqa: S608 - ours
        f" GROUP BY {column}, what"
    )
    return tuple(Share(*row) for row in connection.execute(query, _CLOSING))


def _oldest(connection: sqlite3.Connection, state: RecipientState) -> float | None:
    number = connection.execute("SELECT min(id) FROM recipients WHERE state = ?", (state.value,)).fetchone()[0]
    if number is None:
        return None
    row = connection.execute("SELECT received_at FROM messages WHERE id = ?", (message_of(number),)).fetchone()
    return None if row is None else row[0]
