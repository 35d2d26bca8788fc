"""What a statement of the spool must leave alone: for each condition, a row that differs in it alone."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from router.model.outcome import Disposition
from router.spool import schema
from router.spool.batch import Batch, Numbers, Releases
from router.spool.leaving import Leaving
from router.spool.operations import Release
from router.spool.owner import Flush, SetAside
from router.spool.writer import Writer

_JOURNAL = count(1000, 100)


@pytest.fixture
async def filled(kit: Any, open_spool: Any, directory: Path) -> list[int]:
    """Numbers of a queued and a held recipient of two messages, in a spool that is closed again."""
    spool = await open_spool()
    works = [await kit.put(spool), await kit.put(spool, kit.rcpt("b@example.edu", held=True))]
    await spool.close()
    return [work.recipients[0].number for work in works]


def work(directory: Path, apply: Callable[[Batch], object], *, careful: bool = False) -> object:
    """Do it in a transaction of its own; what it returns."""
    connection = schema.open_writer(directory / schema.DATABASE, 1)
    try:
        connection.execute("BEGIN IMMEDIATE")
        batch = Batch(connection, Numbers(1000, next(_JOURNAL)), Releases(), careful=careful)
        result = apply(batch)
        batch.flush()
        connection.execute("COMMIT")
        return result
    finally:
        connection.close()


async def test_an_open_spool_says_in_its_file_that_its_end_was_not_clean(
    kit: Any, open_spool: Any, directory: Path
) -> None:
    """A kill from now on makes the mailboxes in it doubtful (barrier rule 8)."""
    spool = await open_spool()
    assert kit.column(directory, "SELECT value FROM meta WHERE name = 'clean'") == ["0"]
    await spool.close()
    assert kit.column(directory, "SELECT value FROM meta WHERE name = 'clean'") == ["1"]


async def test_a_clean_end_copies_the_log_back_also_beside_a_reader(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    await kit.put(spool)
    reader = schema.open_reader(directory / schema.DATABASE)
    await asyncio.gather(spool.close(), spool.close())
    assert (directory / f"{schema.DATABASE}-wal").stat().st_size == 0
    reader.close()


async def test_a_checkpoint_does_not_wait_for_readers(kit: Any, filled: list[int], directory: Path) -> None:
    """The one connection that commits must not stand still behind somebody who looks."""
    writer = schema.open_writer(directory / schema.DATABASE, 1)
    reader = schema.open_reader(directory / schema.DATABASE)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM recipients").fetchone()
    writer.execute("UPDATE recipients SET due = 1")
    writer.execute("PRAGMA busy_timeout = 60000")  # so long it would wait
    began = time.monotonic()
    Writer._checkpoint(cast("Writer", SimpleNamespace(_connection=writer, _dirty_pages=1)), "TRUNCATE")
    assert time.monotonic() - began < 30
    reader.close()
    writer.close()


async def test_stats_measure_the_file(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    for _ in range(30):
        await kit.put(spool, body=b"x" * 20_000)
    stats = await spool.desk.stats()
    assert stats.database_octets > 600_000
    assert stats.database_octets % schema.PAGE_SIZE == stats.free_octets % schema.PAGE_SIZE == 0
    assert stats.free_octets < stats.database_octets


async def test_dropping_a_message_leaves_others_and_what_is_to_be_kept(
    kit: Any, filled: list[int], directory: Path
) -> None:
    first, second = kit.column(directory, "SELECT id FROM messages ORDER BY id")
    kit.damage(directory, "DELETE FROM recipients")
    kit.damage(directory, "UPDATE messages SET keep_until = 50 WHERE id = ?", first)
    assert work(directory, lambda batch: batch.drop(first, 40.0), careful=True) == (True, None)
    assert kit.column(directory, "SELECT id FROM messages ORDER BY id") == [first, second]
    found: Any = work(directory, lambda batch: batch.drop(first, 60.0), careful=True)
    assert found[0] is True
    assert found[1] is not None
    assert kit.column(directory, "SELECT id FROM messages") == [second]


async def test_a_release_that_is_done_again_changes_nothing(filled: list[int], directory: Path) -> None:
    release = Release(("a@example.edu", "b@example.edu"), 500.0)
    assert [work(directory, lambda batch: release.apply(batch)[0]) for _ in range(2)] == [2, 0]


async def test_a_flush_is_for_queued_mail_that_waits(kit: Any, filled: list[int], directory: Path) -> None:
    kit.damage(directory, "UPDATE recipients SET due = 900")
    assert work(directory, Flush(filled, 500.0).apply) == 1
    assert work(directory, Flush(filled, 700.0).apply) == 0
    assert sorted(map(float, kit.column(directory, "SELECT due FROM recipients"))) == [500.0, 900.0]


async def test_setting_aside_is_done_once_and_to_that_one(kit: Any, filled: list[int], directory: Path) -> None:
    aside = SetAside(1, filled[:1], Disposition.PARKED, 5.0, "odd")
    assert [work(directory, aside.apply) for _ in range(2)] == [1, 0]
    assert sorted(map(str, kit.column(directory, "SELECT state FROM recipients"))) == ["held", "parked"]
    kit.damage(directory, "UPDATE recipients SET due = 7 WHERE state = 'parked'")
    assert work(directory, aside.apply) == 1, "parked for a time before, for good now"


def test_rows_that_were_read_must_be_there_to_be_deleted(directory: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE recipients (id INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO recipients VALUES (1)")
    with pytest.raises(sqlite3.DatabaseError, match="not there"):
        Leaving(connection)._delete("recipients", [1, 2])
    connection.close()
