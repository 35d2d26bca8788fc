"""Lookups that must not be forgotten, files that are swapped under a follower, backups among writers."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.control import barrier, hold_records, holds, members
from router.control.audit import Act
from router.control.backup import backup
from router.control.database import ControlDatabase, DatabaseReplaced
from router.control.lookups import DatabaseLookups
from router.control.members import Member, Suspect
from router.errors import ControlUnavailable
from router.model.mailbox import Found

ANN = "ann@example.edu"


class ByHand:
    """A pool whose reads end when the test says so."""

    def __init__(self) -> None:
        self.reads: list[Future[Any]] = []

    def submit(self, _work: Callable[..., Any], *_args: object) -> Future[Any]:
        self.reads.append(Future())
        return self.reads[-1]

    def shutdown(self, **_options: object) -> None:
        return None


async def test_lookup_asked_for_when_all_readers_have_just_ended_is_served(database: ControlDatabase) -> None:
    """Two reads end in one turn of the loop, and who waited for the first asks again at once."""
    lookups = DatabaseLookups(database, threads=2)
    lookups._pool.shutdown()
    pool = ByHand()
    lookups._pool = pool  # type: ignore[assignment]

    async def twice() -> None:
        await lookups.find(["x"])
        await lookups.find(["y"])

    asking: list[asyncio.Future[Any]] = [asyncio.ensure_future(twice())]
    for _ in range(5):
        await asyncio.sleep(0)  # its read is under way: the next question gets one of its own
    asking.append(asyncio.ensure_future(lookups.find(["z"])))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(pool.reads) == 2
    for read in pool.reads[:2]:
        read.set_result(Found(1, {}))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(pool.reads) == 3, "the last question was never asked"
    pool.reads[2].set_result(Found(1, {}))
    await asyncio.gather(*asking)


def test_watch_notices_a_replacement_though_the_file_was_away_for_a_while(
    empty: ControlDatabase, tmp_path: Path
) -> None:
    assert empty.path is not None
    watch = empty.watch()
    watch.changed()
    copy = tmp_path / "copy.db"
    shutil.copy(empty.path, copy)
    empty.path.rename(tmp_path / "away.db")
    with pytest.raises(ControlUnavailable):
        watch.changed()
    copy.rename(empty.path)
    with pytest.raises(DatabaseReplaced):
        watch.changed()
    watch.close()


async def test_member_of_a_database_that_was_taken_away_and_replaced_is_fenced(
    worker: Any, database: ControlDatabase, tmp_path: Path, until: Any
) -> None:
    """Its idle connections still have the former file: it would follow, and answer to, a file nobody sees."""
    one = worker()
    await one.join()
    assert database.path is not None
    copy = tmp_path / "copy.db"
    shutil.copy(database.path, copy)
    database.path.rename(tmp_path / "away.db")
    await until(lambda: one.outages == [True])
    copy.rename(database.path)
    await until(lambda: one.follower.fenced)


def test_backup_ends_though_somebody_writes_all_the_time(
    database: ControlDatabase, tmp_path: Path, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change of another process makes SQLite begin the copy again."""
    monkeypatch.setattr("router.control.backup._PAGES", 1)
    monkeypatch.setattr("router.control.backup._PATIENCE", 0.3)
    stop = threading.Event()

    def write() -> None:
        other = ControlDatabase.open(f"sqlite:///{database.path}")
        while not stop.is_set():
            other.run_write(partial(holds.open_hold, key=ANN, act=act))
            other.run_write(partial(holds.release, key=ANN, act=act))
        other.close()

    writer = threading.Thread(target=write)
    writer.start()
    target = tmp_path / "copy.db"
    done = threading.Thread(target=backup, args=(database, target), daemon=True)
    done.start()
    done.join(60)
    stop.set()
    writer.join()
    assert not done.is_alive(), "the backup never ends"
    done.join()
    ControlDatabase.open(f"sqlite:///{target}").close()
    assert target.stat().st_mode & 0o777 == 0o600


def test_rule_7_unknown_suspects_of_a_dead_member_enter_the_record_of_every_hold_they_blocked(
    database: ControlDatabase, act: Act
) -> None:
    """Nobody knows what it had sent: that is what the operator must read, not an empty list."""
    with database.write() as connection:
        members.register(connection, Member("dead", "", 0, 1, 1))
        hold = holds.open_hold(connection, ANN, act)
        members.take_over(connection, "dead", [Suspect(barrier.EVERYBODY, "")], 1060.0, 1000.0)
    with database.write() as connection:
        assert barrier.evaluate(connection, 1059.0) == 0
        later = holds.open_hold(connection, "bob@example.edu", Act("a", "r", 1059.5))
        assert barrier.evaluate(connection, 1061.0) == 2
        assert [doubt.queue_id for doubt in hold_records.get(connection, hold.number).in_doubt] == [""]
        assert [doubt.queue_id for doubt in hold_records.get(connection, later.number).in_doubt] == [""]
