"""Operations that share a transaction: their rows are read and written together, and each finds what came before."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Awaitable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.journal_lines import format_line

from router.model.address import Address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient, QueuedMessage
from router.model.outcome import Disposition, JournalRow
from router.spool import bulk, records
from router.spool.batch import Batch, Numbers, Releases
from router.spool.journal_rows import append_journal, parse_line
from router.spool.operations import DropJournal
from router.spool.schema import create, open_writer
from router.spool.spool import Spool


class _Gate:
    """Keeps the writer's thread busy until told to go on."""

    lazy = essential = False

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def apply(self, _batch: Batch) -> None:
        self.begun.set()
        self.go.wait(60)


async def together(spool: Spool, *calls: Awaitable[Any]) -> list[Any]:
    """What the calls answer when all of them are done in one transaction, in this order."""
    gate = _Gate()
    opened = spool._writer.submit(gate)
    await asyncio.to_thread(gate.begun.wait, 60)
    tasks = [asyncio.ensure_future(call) for call in calls]
    before = spool._writer.commits
    for _ in range(3):
        await asyncio.sleep(0)
    gate.go.set()
    found = await asyncio.gather(*tasks)
    await opened
    assert spool._writer.commits == before + 2
    return found


async def test_recipients_of_one_message_end_in_one_transaction(kit: Any, spool: Spool, directory: Path) -> None:
    work = await kit.put(spool, *(kit.rcpt(f"{name}@example.edu") for name in "abc"))
    numbers = [one.number for one in work.recipients]
    done = [kit.outcome(number, Disposition.DELIVERED) for number in numbers]
    first, second, last = await together(
        spool,
        spool.settle(work.message, done[:1]),
        spool.settle(work.message, done[:2]),
        spool.settle(work.message, done[2:]),
    )
    assert [(one.applied, one.removed) for one in (first, second, last)] == [(1, False), (1, False), (1, True)]
    assert kit.column(directory, "SELECT id FROM messages") == []
    counts = await spool.desk.counts()
    assert (counts.mail.delivered, counts.mail.accepted) == (3, 3)
    assert [row.recipient for row in spool.journal.rows(lambda _row: True, 9)] == [
        "a@example.edu",
        "b@example.edu",
        "c@example.edu",
    ]


async def test_part_of_a_message_does_not_remove_it(kit: Any, spool: Spool, directory: Path) -> None:
    work = await kit.put(spool, *(kit.rcpt(f"{name}@example.edu") for name in "abcd"))
    done = [kit.outcome(one.number, Disposition.DELIVERED) for one in work.recipients]
    other = await kit.put(spool)
    alone = kit.outcome(other.recipients[0].number, Disposition.DELIVERED)
    part, whole = await together(
        spool, spool.settle(work.message, done[1:3]), spool.settle(other.message, [alone, alone])
    )
    assert (part.applied, part.removed, whole.applied, whole.removed) == (2, False, 1, True)
    assert kit.column(directory, "SELECT id FROM messages") == [work.message.number]


@pytest.mark.parametrize("first", [Disposition.DELIVERED, Disposition.DEFERRED])
async def test_second_verdict_finds_what_the_first_did(
    kit: Any, spool: Spool, directory: Path, first: Disposition
) -> None:
    work = await kit.put(spool)
    number = work.recipients[0].number
    second = Disposition.DEFERRED if first is Disposition.DELIVERED else Disposition.DELIVERED
    one, two = await together(
        spool,
        spool.settle(work.message, [kit.outcome(number, first)]),
        spool.settle(work.message, [kit.outcome(number, second)]),
    )
    assert (one.applied, two.applied) == ((1, 0) if first is Disposition.DELIVERED else (1, 1))
    assert kit.column(directory, "SELECT id FROM recipients") == []
    attempts = [row.attempts for row in spool.journal.rows(lambda _row: True, 9)]
    assert attempts == [1 if first is Disposition.DELIVERED else 2]


async def test_release_in_between_is_seen_on_both_sides(kit: Any, spool: Spool) -> None:
    """It finds mail that came in before it, and not what was delivered before it; the account starts anew after it."""
    gone, late = await kit.put(spool), await kit.put(spool)
    deferred = kit.outcome(late.recipients[0].number, Disposition.DEFERRED, due=900.0)
    await spool.settle(late.message, [deferred])
    _, new, released, delivered = await together(
        spool,
        spool.settle(gone.message, [kit.outcome(gone.recipients[0].number, Disposition.DELIVERED)]),
        kit.put(spool),
        spool.release(["a@example.edu"], 300.0),
        spool.settle(late.message, [kit.outcome(late.recipients[0].number, Disposition.DELIVERED)]),
    )
    assert released == 2
    assert (delivered.applied, delivered.removed) == (1, True)
    assert [row.attempts for row in spool.journal.rows(lambda _row: True, 9)] == [1, 1]
    (left,) = await spool.draining("a@example.edu", 10)
    assert left.message.number == new.message.number


_TYPES = {"keep_until": "REAL", "body_file": "TEXT", "size": "INTEGER"}


async def test_kept_message_stays_until_its_time(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool(options=replace(kit.QUIET, keep=500.0))
    early, late = await kit.put(spool), await kit.put(spool)
    settled = await together(
        spool,
        spool.settle(early.message, [kit.outcome(early.recipients[0].number, Disposition.DELIVERED, at=200.0)]),
        spool.settle(late.message, [kit.outcome(late.recipients[0].number, Disposition.DELIVERED, at=600.0)]),
    )
    assert [one.removed for one in settled] == [True, True]
    assert kit.column(directory, "SELECT id FROM messages") == [early.message.number]
    assert (await spool.desk.stats()).messages == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [("keep_until", 9e999), ("keep_until", -9e999), ("keep_until", None), ("body_file", "\udcff"), ("size", -1)],
)
async def test_a_damaged_value_of_a_message_keeps_no_outcome_from_being_committed(
    kit: Any, open_spool: Any, directory: Path, column: str, value: object
) -> None:
    """It would be delivered again and again: what a store has taken must be written down, whatever the row says."""
    spool = await open_spool(options=replace(kit.QUIET, keep=500.0))
    broken, sound = await kit.put(spool), await kit.put(spool)
    await spool.close()
    told = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    kit.damage(
        directory,
        f"UPDATE messages SET {column} = CAST(? AS {_TYPES[column]}) WHERE id = ?",  # noqa: S608 - names of ours
        told,
        broken.message.number,
    )
    spool = await open_spool(options=kit.QUIET)
    settled = await asyncio.gather(
        *(
            spool.settle(one.message, [kit.outcome(one.recipients[0].number, Disposition.DELIVERED, at=600.0)])
            for one in (broken, sound)
        ),
    )
    assert [one.applied for one in settled] == [1, 1]
    assert kit.column(directory, "SELECT id FROM recipients") == []


async def test_texts_that_leave_are_read_as_they_are(kit: Any, open_spool: Any, directory: Path) -> None:
    """Octets that are no UTF-8, quotes, and characters that JSON escapes."""
    spool = await open_spool(options=kit.QUIET)
    works = [await kit.put(spool) for _ in range(2)]
    await spool.close()
    odd = 'a"b\\c\x01\u2028\udcff'
    kit.damage(
        directory, "UPDATE recipients SET address = CAST(? AS TEXT), facts = '?'",
        odd.encode("utf-8", "surrogateescape"),
    )  # fmt: skip
    numbers = [work.recipients[0].number for work in works]
    connection = open_writer(directory / "queue.db", 1)
    batch = Batch(connection, Numbers(), Releases())
    batch.read_ahead(numbers)
    found = [batch.take(number) for number in numbers]
    assert [row[1] for row in found if row is not None] == [odd, odd]
    assert [float(row[6]) for row in found if row is not None] == [work.recipients[0].clock_start for work in works]
    connection.close()


def test_row_that_was_read_and_cannot_be_deleted_is_damage(tmp_path: Path) -> None:
    create(tmp_path / "queue.db", 1, 0.0)
    connection = open_writer(tmp_path / "queue.db", 1)
    batch = Batch(connection, Numbers(), Releases())
    batch._leaving._rows = {65536: ("[]", "", 0, 0, "", "")}
    assert batch.take(65536) is not None
    with pytest.raises(sqlite3.DatabaseError) as caught:
        batch.flush()
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_CORRUPT
    connection.close()


@pytest.mark.parametrize("count", [0, 1, 3, 63, 64, 65, 200])
def test_bulk_insert_writes_every_row_once_in_order(count: int) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (place INTEGER PRIMARY KEY, a, b, c)")
    bulk.insert(connection, bulk.Insert("INSERT INTO t (a, b, c)", "(?, 7, ?)"), [(n, -n) for n in range(count)])
    rows = connection.execute("SELECT a, b, c FROM t ORDER BY place").fetchall()
    assert rows == [(n, 7, -n) for n in range(count)]
    connection.close()


@pytest.mark.parametrize("gone", [(), (1,), (2, 3), (1, 2, 3, 4, 5), (1, 3, 5)])
def test_moved_journal_rows_go_and_others_stay(tmp_path: Path, gone: tuple[int, ...]) -> None:
    create(tmp_path / "queue.db", 1, 0.0)
    connection = open_writer(tmp_path / "queue.db", 1)
    connection.executemany("INSERT INTO journal VALUES (?, 0, '')", [(number,) for number in range(1, 6)])
    DropJournal(gone).apply(Batch(connection, Numbers(), Releases()))
    left = [number for (number,) in connection.execute("SELECT id FROM journal ORDER BY id")]
    assert left == sorted({1, 2, 3, 4, 5} - set(gone))
    connection.close()


# With undecodable bytes as they are kept (surrogateescape), and with control characters.
TEXT = st.text(max_size=20) | st.text('\udc80\udcff\x00\x1f"\\\u2028é', max_size=6)
TIME = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 1 << 40)


class _Collected(Batch):
    """A batch without a database."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def next_journal(self) -> int:
        return 7

    def insert(self, _what: bulk.Insert, rows: Any) -> None:
        self.rows.extend(rows)


@given(
    st.builds(
        JournalRow, st.just(7), TIME, *([TEXT] * 6), st.integers(0), TIME, st.integers(0), *([TEXT] * 5), st.booleans()
    )
)
def test_journal_line_as_spelled_is_that_of_its_row(row: JournalRow) -> None:
    envelope, header = Envelope(row.sender, Client("")), HeaderFacts(row.message_id)
    batch = _Collected()
    append_journal(
        batch,
        QueuedMessage(1, row.queue_id, row.received_at, envelope, row.size, header),
        at=row.at,
        recipient=row.recipient,
        disposition=row.disposition,
        lane=row.lane,
        mailbox=row.mailbox,
        attempts=row.attempts,
        reply=row.reply,
        remote=row.remote,
        note=row.note,
        of_batch=row.batch,
        in_doubt=row.in_doubt,
    )
    assert batch.rows == [(7, row.at, format_line(row))]
    assert parse_line(batch.rows[0][2]) == row


@pytest.mark.parametrize("at", [float("inf"), float("nan")])
def test_impossible_time_has_no_journal_line(at: float) -> None:
    message = QueuedMessage(1, "", 0.0, Envelope("", Client("")), 0, HeaderFacts())
    with pytest.raises(ValueError, match="JSON"):
        append_journal(_Collected(), message, at=at, recipient="", disposition="", lane="", mailbox="", attempts=0)


CLIENT = st.builds(Client, TEXT, st.integers(0, 65535), TEXT, TEXT, TEXT, st.booleans(), TEXT)
ENVELOPES = st.builds(Envelope, TEXT, CLIENT, TEXT, st.booleans(), TEXT, TEXT)
HEADERS = st.builds(HeaderFacts, TEXT, st.integers(0, 99), st.booleans(), st.lists(TEXT, max_size=3).map(tuple))


@given(ENVELOPES, HEADERS)
def test_message_facts_are_ascii_json_and_come_back(envelope: Envelope, header: HeaderFacts) -> None:
    facts = records.encode_message(envelope, header)
    assert facts == json.dumps(json.loads(facts), separators=(",", ":"))
    crc = records.message_crc(1, 2.0, 3, 0, facts, "", b"")
    message = records.decode_message(1, 0, (1, 2.0, 3, 0, facts, "", b"", crc))
    assert (message.envelope, message.header) == (envelope, header)


@given(st.builds(Address, TEXT, TEXT, TEXT), TEXT, TEXT)
def test_recipient_facts_are_ascii_json_and_come_back(address: Address, notify: str, orcpt: str) -> None:
    facts = records.encode_recipient(NewRecipient(address, notify, orcpt))
    assert json.loads(facts) == [*astuple(address), notify, orcpt]
    assert facts == json.dumps(json.loads(facts), separators=(",", ":"))
    assert records.decode_wire(facts) == address.wire


@pytest.mark.parametrize("facts", ["", "[", "[]", "{}", '["', "nul", "[" * 100_000])
def test_unreadable_recipient_has_no_address(facts: str) -> None:
    assert records.decode_wire(facts) == ""
