"""
A spool with very many queued messages, made as fast as SQLite takes them: the product's own operation that keeps a
message, without its sessions.

    queue_many(state_dir / "spool" / "0001", 1, "old", PEOPLE, 1_000_000)       # nobody may own the spool

The spool looks as if its owner had been killed: the next one takes all of these mailboxes for being in doubt.

Guarantees: rows, accounts and numbers are those of as many accepted messages of about a thousand octets, due now.
On failure: `sqlite3.Error`; what was committed stays. Beside a running worker it waits for its end.
"""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from router.ledger.traffic import compose, message_id
from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient
from router.spool.accepting import Accept, StoredBody
from router.spool.batch import Batch, Numbers, Releases
from router.spool.lock import SpoolLock
from router.spool.schema import DATABASE, open_writer

SENDER = "a@outside.example"
_TOGETHER = 2000
_SIZE = 1000


def queue_many(directory: Path, spool: int, store: str, people: Sequence[str], count: int) -> None:
    """Add `count` messages for one person each, in turn."""
    lock = SpoolLock(directory)
    lock.acquire(blocking=True)  # an owner that was killed leaves a moment after
    try:
        connection = open_writer(directory / DATABASE, spool)
        try:
            _fill(connection, _Maker(spool, store, people), count)
        finally:
            connection.close()
    finally:
        lock.release()


def _fill(connection: sqlite3.Connection, maker: "_Maker", count: int) -> None:
    numbers = Numbers(*_last(connection))
    for start in range(0, count, _TOGETHER):
        connection.execute("BEGIN IMMEDIATE")
        batch = Batch(connection, numbers, Releases())
        for place in range(start, min(count, start + _TOGETHER)):
            maker.message(place).apply(batch)
        batch.flush()
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        numbers = batch.numbers
    connection.execute("UPDATE meta SET value = '0' WHERE name = 'clean'")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _last(connection: sqlite3.Connection) -> tuple[int, int]:
    stored = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    return stored.get("messages", 0), stored.get("journal", 0)


class _Maker:
    def __init__(self, spool: int, store: str, people: Sequence[str]) -> None:
        self._spool = spool
        self._recipients = [NewRecipient(parse_address(one), hint=store, mailbox=one) for one in people]
        self._envelope = Envelope(SENDER, Client("127.0.0.1", helo="load.example.net"))
        self._began = time.time()

    def message(self, place: int) -> Accept:
        one = self._recipients[place % len(self._recipients)]
        tag = f"long-{self._began:.0f}-{place}"
        body = compose(tag, SENDER, [one.address.wire], _SIZE)
        header = HeaderFacts(message_id=message_id(tag))
        return Accept(self._spool, self._envelope, (one,), StoredBody(len(body), body), header, self._began)
