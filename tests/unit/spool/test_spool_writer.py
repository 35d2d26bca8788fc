"""The writer's thread: group commit, faults of one operation, faults of the disk."""

# ruff: noqa: ASYNC110 - what is waited for happens in a thread that knows no event

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from router.errors import SpoolFull, SpoolUnavailable
from router.model.outcome import Disposition
from router.spool.batch import Batch, Numbers
from router.spool.failures import CommitUnknown
from router.spool.spool import Spool


@dataclass(frozen=True)
class Note:
    """An operation that writes one value, or fails by its own fault."""

    name: str
    fault: Callable[[Batch], None] = lambda _batch: None
    lazy: bool = False
    essential: bool = False

    def apply(self, batch: Batch) -> str:
        batch.connection.execute("INSERT INTO meta (name, value) VALUES (?, '')", (self.name,))
        self.fault(batch)
        return self.name


class Faulty(sqlite3.Connection):
    """A connection that fails where told, as SQLite would say it."""

    fail_at = ""
    code = sqlite3.SQLITE_IOERR_FSYNC
    times = 0

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if Faulty.times and sql.startswith(Faulty.fail_at):
            Faulty.times -= 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = Faulty.code
            raise error
        return super().execute(sql, *args)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    real = sqlite3.connect
    Faulty.times = 0
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: real(*args, factory=Faulty, **more))
    return Faulty


async def gathered(spool: Spool, *operations: Note) -> list[Any]:
    """Submit all in one go of the loop, so that they wait together while the writer is busy with the first."""
    futures = [spool._writer.submit(operation) for operation in operations]
    return await asyncio.gather(*futures, return_exceptions=True)


async def occupied(spool: Spool) -> Callable[[], None]:
    """Keep the writer busy until the returned function is called."""
    begun, gate = threading.Event(), threading.Event()

    def wait(_batch: Batch) -> None:
        begun.set()
        gate.wait(60)

    spool._writer.submit(Note("gate", wait))
    await asyncio.to_thread(begun.wait, 60)
    return gate.set


async def test_those_who_wait_share_one_commit(kit: Any, spool: Spool) -> None:
    before = spool._writer.commits
    go = await occupied(spool)
    tasks = [asyncio.ensure_future(kit.put(spool)) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go()
    works = await asyncio.gather(*tasks)
    assert len({work.message.number for work in works}) == 50
    assert spool._writer.commits - before == 2


async def test_lone_urgent_operation_takes_lazy_ones_along(
    kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.spool.writer.LINGER", 30.0)
    before = spool._writer.commits
    lazy = spool._writer.submit(Note("lazy", lazy=True))
    await spool._writer.submit(Note("urgent"))
    assert await lazy == "lazy"
    assert spool._writer.commits - before == 1


async def test_lazy_operation_alone_is_committed_soon(spool: Spool) -> None:
    assert await asyncio.wait_for(spool._writer.submit(Note("lazy", lazy=True)), 60) == "lazy"


async def test_close_commits_what_waits(
    spool: Spool, directory: Path, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.spool.writer.LINGER", 30.0)
    lazy = spool._writer.submit(Note("lazy", lazy=True))
    await spool.close()
    assert await lazy == "lazy"
    assert kit.column(directory, "SELECT name FROM meta WHERE name = 'lazy'") == ["lazy"]
    with pytest.raises(SpoolUnavailable, match="closing"):
        spool._writer.submit(Note("late"))


def own_error(_batch: Batch) -> None:
    raise KeyError("mine")


def constraint(batch: Batch) -> None:
    batch.connection.execute("INSERT INTO meta (name, value) VALUES (NULL, NULL)")


def misuse(batch: Batch) -> None:
    batch.connection.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (object(), ""))


@pytest.mark.parametrize("fault", [own_error, constraint, misuse])
async def test_faulty_operation_fails_alone(spool: Spool, directory: Path, kit: Any, fault: Any) -> None:
    go = await occupied(spool)
    pending = asyncio.ensure_future(gathered(spool, Note("one"), Note("bad", fault), Note("two")))
    await asyncio.sleep(0)
    go()
    one, bad, two = await pending
    assert (one, two) == ("one", "two")
    assert isinstance(bad, KeyError | sqlite3.Error)
    assert kit.column(directory, "SELECT name FROM meta WHERE name IN ('one', 'bad', 'two') ORDER BY 1") == [
        "one",
        "two",
    ]
    assert spool.unhealthy() is None


async def test_numbers_of_a_rolled_back_transaction_leave_no_account(kit: Any, spool: Spool) -> None:
    """The accounts in memory are those of the transaction, not of an attempt at it."""
    go = await occupied(spool)
    tasks = [asyncio.ensure_future(kit.put(spool)) for _ in range(3)]
    bad = spool._writer.submit(Note("bad", own_error))
    go()
    await asyncio.gather(*tasks)
    with pytest.raises(KeyError):
        await bad
    counts = await spool.desk.counts()
    assert (counts.mail.accepted, counts.mail.queued) == (3, 3)
    assert (await spool.desk.stats()).messages == 3


async def test_prc4_failed_commit_is_unknown_and_the_connection_is_replaced(
    kit: Any, faulty: type[Faulty], open_spool: Any
) -> None:
    spool = await open_spool()
    first = spool._writer._connection
    faulty.fail_at, faulty.times = "COMMIT", 1
    with pytest.raises(CommitUnknown) as caught:
        await kit.put(spool)
    assert caught.value.reply.code == 451
    refused = spool.unhealthy()
    assert refused is not None
    assert refused.code == 451
    work = await kit.put(spool)
    assert spool._writer._connection is not first
    assert spool.unhealthy() is None
    assert work.message.number == 2, "the number of the unknown commit is not handed out again"


async def test_prc5_io_error_is_not_retried_and_heals_by_a_probe(
    kit: Any, faulty: type[Faulty], open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.spool.writer._IDLE", 0.02)
    monkeypatch.setattr("router.spool.writer._PROBE_PAUSE", 0.05)
    spool = await open_spool()
    faulty.fail_at, faulty.times = "BEGIN IMMEDIATE", 10**9
    with pytest.raises(SpoolUnavailable):
        await kit.put(spool)
    assert spool.unhealthy() is not None
    faulty.times = 2
    async with asyncio.timeout(60):
        while spool.unhealthy() is not None:
            await asyncio.sleep(0.01)
    assert faulty.times == 0
    await kit.put(spool)


async def test_prc6_full_disk_refuses_mail_but_records_deliveries(
    kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database may not grow; giving the reserve up is what lets outcomes through."""
    spool = await open_spool(options=replace(kit.QUIET, reserve=1 << 20))
    work = await kit.put(spool)
    connect: Callable[[], sqlite3.Connection] = spool._hooks.connect

    def limited() -> sqlite3.Connection:
        connection = connect()
        if (directory / "reserve").exists():
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(spool._hooks, "connect", limited)
    monkeypatch.setattr(spool._health, "_lay_out_reserve", lambda: None)
    await gathered(spool, Note("reconnect", lambda _batch: spool._writer._disconnect()))
    go = await occupied(spool)
    big = asyncio.ensure_future(kit.put(spool, body=b"x" * 60000))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    settled = asyncio.ensure_future(
        spool.settle(work.message, [kit.outcome(work.recipients[0].number, Disposition.DELIVERED)])
    )
    await asyncio.sleep(0)
    go()
    with pytest.raises(SpoolFull) as caught:
        await big
    assert caught.value.reply.code == 452
    await settled
    assert not (directory / "reserve").exists()
    counts = await spool.desk.counts()
    assert (counts.mail.delivered, counts.mail.accepted) == (1, 1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_prc6_disk_too_full_to_reserve_numbers_is_full_and_records_deliveries(
    kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The file that keeps the numbers is the first one to be written on a new spool."""
    spool = await open_spool(options=replace(kit.QUIET, reserve=1 << 20))
    work = await kit.put(spool)
    reserve = spool._hooks.reserve_numbers

    def full(numbers: Numbers) -> None:
        if (directory / "reserve").exists():
            raise OSError(code, os.strerror(code))
        reserve(numbers)

    monkeypatch.setattr(spool._hooks, "reserve_numbers", full)
    monkeypatch.setattr(spool._health, "_lay_out_reserve", lambda: None)
    refused = asyncio.ensure_future(kit.put(spool))
    outcomes = [kit.outcome(work.recipients[0].number, Disposition.DELIVERED)]
    settled = await spool.settle(work.message, outcomes)
    with pytest.raises(SpoolFull) as caught:
        await refused
    assert caught.value.reply.code == 452
    assert settled.applied == 1
    assert not (directory / "reserve").exists()


async def test_too_many_waiting_operations_are_refused(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.spool.writer.CAPACITY", 2)
    go = await occupied(spool)
    await asyncio.sleep(0)
    refused = 0
    for number in range(5):
        try:
            spool._writer.submit(Note(f"n{number}"))
        except SpoolUnavailable:
            refused += 1
    go()
    assert refused >= 2


async def test_results_of_a_batch_arrive_in_one_call(kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    real = spool._writer._loop.call_soon_threadsafe

    class Loop:
        def call_soon_threadsafe(self, *args: Any) -> Any:
            calls.append(args)
            return real(*args)

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio.get_running_loop(), name)

    monkeypatch.setattr(spool._writer, "_loop", Loop())
    go = await occupied(spool)
    pending = asyncio.ensure_future(gathered(spool, *(Note(f"n{number}") for number in range(20))))
    await asyncio.sleep(0)
    go()
    await pending
    assert len(calls) == 2


async def test_checkpoint_shortens_a_large_log_when_idle(
    kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.spool.writer._IDLE", 0.02)
    spool = await open_spool()
    await asyncio.gather(*(kit.put(spool, body=os.urandom(60000)) for _ in range(100)))
    async with asyncio.timeout(60):
        while (directory / "queue.db-wal").stat().st_size:
            await asyncio.sleep(0.01)
    assert len(kit.column(directory, "SELECT id FROM messages")) == 100
