import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, select, text, update
from support.disk_watch import DiskWatch

from router.control import backup, changes, schema, spools, sqlite
from router.control.audit import Act
from router.control.database import ControlDatabase, DatabaseBusy, DatabaseReplaced, site_uuid
from router.control.spools import Standing
from router.errors import ControlUnavailable
from router.model.change import ChangeKind


def bump(database: ControlDatabase) -> int:
    return database.run_write(changes.take_epoch)


def test_a_new_database_has_a_site_two_keys_and_tight_modes(url: str) -> None:
    empty = ControlDatabase.open(url, create=True)
    assert empty.path is not None
    with empty.read() as connection:
        assert len(site_uuid(connection)) == 36
        keys = connection.execute(select(schema.mark_keys.c.secret)).scalars().all()
        assert len({bytes(key) for key in keys}) == 2
        assert changes.current_epoch(connection) == 0
    assert stat.S_IMODE(empty.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(empty.path.parent.stat().st_mode) == 0o700
    empty.close()


def test_the_migrations_make_exactly_the_tables_of_the_schema(empty: ControlDatabase) -> None:
    with empty.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == schema.REVISION


def test_every_connection_is_durable_prc30(empty: ControlDatabase) -> None:
    with empty.read() as one, empty.read() as other:
        for connection in (one, other):
            found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
            assert found == ["truncate", 3, 1]


def test_settings_that_do_not_take_are_refused(empty: ControlDatabase) -> None:
    assert empty.path is not None
    wal = sqlite3.connect(empty.path)
    wal.execute("PRAGMA journal_mode=WAL")
    wal.execute("BEGIN")
    wal.execute("SELECT * FROM site").fetchall()  # keeps the mode from being changed back
    with pytest.raises((ControlUnavailable, sqlite3.OperationalError)):
        sqlite.connect(empty.path)
    wal.close()


def test_opening_without_create_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(ControlUnavailable, match="there is no control database"):
        ControlDatabase.open(f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_opening_a_database_without_our_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(ControlUnavailable, match="schema none"):
        ControlDatabase.open(f"sqlite:///{path}")


def test_a_newer_schema_is_refused_and_left_alone(empty: ControlDatabase, url: str) -> None:
    with empty.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for create in (False, True):
        with pytest.raises(ControlUnavailable):
            ControlDatabase.open(url, create=create)


def test_no_database_in_memory() -> None:
    with pytest.raises(ControlUnavailable):
        ControlDatabase.open("sqlite://")


def test_a_failed_write_leaves_nothing(empty: ControlDatabase) -> None:
    def half(connection: Connection) -> None:
        changes.take_epoch(connection)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        empty.run_write(half)
    assert empty.run_read(changes.current_epoch) == 0


def test_a_read_is_one_snapshot(empty: ControlDatabase) -> None:
    """The commit of a writer waits for the reader, so it is given up; the reader's picture stays the same."""
    with empty.read() as connection:
        first = changes.current_epoch(connection)
        with pytest.raises(DatabaseBusy):
            empty.run_write(changes.take_epoch, patience=0)
        assert changes.current_epoch(connection) == first
    assert bump(empty) == first + 1


def test_a_write_is_exclusive_from_its_first_statement_prc11(empty: ControlDatabase) -> None:
    with empty.write(), pytest.raises(DatabaseBusy), empty.write():
        pass


def test_a_writer_looks_every_two_milliseconds_whether_it_is_its_turn(
    empty: ControlDatabase, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own way of waiting soon looks every 25 ms."""
    other = ControlDatabase.open(url)
    naps: list[float] = []
    with other.write():
        monkeypatch.setattr("router.control.sqlite.time.sleep", naps.append)
        for _ in range(10):  # it waits for 200 ms, and the machine may pause for as long
            naps.clear()
            with pytest.raises(DatabaseBusy):
                empty.run_write(lambda _: None, 0.0)
            if len(naps) > 10:
                break
    monkeypatch.undo()
    other.close()
    assert len(naps) > 10
    assert set(naps) == {0.002}


def test_a_write_that_waits_too_long_is_busy_and_the_time_out_stays(empty: ControlDatabase, url: str) -> None:
    other = ControlDatabase.open(url)
    for holder in (other, empty):
        with holder.write(), pytest.raises(DatabaseBusy):
            empty.run_write(lambda _: None, 0.0)
    with empty.write() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 200
    other.close()


def test_run_write_repeats_the_whole_transaction(empty: ControlDatabase) -> None:
    entered = threading.Event()

    def hog() -> None:
        with empty.write() as connection:
            changes.take_epoch(connection)
            entered.set()
            time.sleep(0.4)  # longer than one statement waits

    thread = threading.Thread(target=hog)
    thread.start()
    entered.wait()
    assert bump(empty) == 2
    thread.join()


def count_up(url: str, times: int) -> None:
    database = ControlDatabase.open(url)
    for _ in range(times):
        bump(database)
    database.close()


@pytest.mark.slow
def test_writers_of_several_processes_lose_no_epoch(empty: ControlDatabase, url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count_up, args=(url, 20)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert empty.run_read(changes.current_epoch) == 60


@pytest.mark.slow
def test_two_processes_may_create_at_once(url: str) -> None:
    program = f"from router.control.database import *; d = ControlDatabase.open({url!r}, create=True); d.close()"
    started = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    database = ControlDatabase.open(url)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.site)).scalar() == 1
        assert connection.execute(select(func.count()).select_from(schema.mark_keys)).scalar() == 2
    database.close()


def test_data_version_sees_others_only_prc11(empty: ControlDatabase) -> None:
    watch = empty.watch()
    assert watch.changed()
    assert not watch.changed()
    bump(empty)
    assert watch.changed()
    assert not watch.changed()
    watch.close()


def test_a_watch_sees_that_the_file_was_replaced(empty: ControlDatabase, tmp_path: Path) -> None:
    assert empty.path is not None
    watch = empty.watch()
    watch.changed()
    backup.backup(empty, tmp_path / "copy.db")
    (tmp_path / "copy.db").rename(empty.path)
    with pytest.raises(DatabaseReplaced):
        watch.changed()
    watch.close()


def test_a_watch_on_a_missing_file_is_an_outage(empty: ControlDatabase) -> None:
    assert empty.path is not None
    watch = empty.watch()
    watch.changed()
    empty.path.unlink()
    with pytest.raises(ControlUnavailable):
        watch.changed()


def test_garbage_is_an_outage_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "garbage.db"
    path.write_bytes(os.urandom(8192))
    with pytest.raises(ControlUnavailable):
        ControlDatabase.open(f"sqlite:///{path}")


def test_a_backup_is_a_database_of_the_same_site(empty: ControlDatabase, tmp_path: Path) -> None:
    bump(empty)
    target = tmp_path / "copy.db"
    target.write_text("an older copy")
    assert backup.backup(empty, target) == target.stat().st_size
    copy = ControlDatabase.open(f"sqlite:///{target}")
    assert copy.run_read(site_uuid) == empty.run_read(site_uuid)
    assert copy.run_read(changes.current_epoch) == 1
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []
    copy.close()


def test_a_backup_is_durable_when_the_command_returns(
    empty: ControlDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = DiskWatch(tmp_path, monkeypatch)
    backup.backup(empty, tmp_path / "copy")
    watch.durable()
    assert [path.name[:5] for path in watch.synced[-2:]] == [".copy", tmp_path.name[:5]]


def test_the_name_of_a_new_database_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = DiskWatch(tmp_path, monkeypatch)
    sqlite.prepare_file(tmp_path / "control")
    watch.durable("control")


def test_a_backup_that_fails_leaves_no_file(empty: ControlDatabase, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(ControlUnavailable):
        backup.backup(empty, tmp_path / "place")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "state"]


def test_a_restored_database_is_recognised_and_accepted(empty: ControlDatabase, act: Act) -> None:
    for _ in range(3):
        bump(empty)

    def standing(uuid: str, epoch: int) -> Standing:
        return empty.run_read(lambda connection: spools.check_spool(connection, uuid, epoch))

    uuid = empty.run_read(site_uuid)
    assert standing("", 0) is Standing.OK
    assert standing(uuid, 3) is Standing.OK
    assert standing(uuid, 4) is Standing.OLDER
    assert standing("another", 1) is Standing.FOREIGN
    assert empty.run_write(lambda connection: spools.accept_restored(connection, 40, act)) == 41
    assert standing(uuid, 40) is Standing.OK
    found = empty.run_read(lambda connection: changes.since(connection, 3))
    assert [change.kind for change in found.changes] == ["resync"]


def test_spool_numbers_are_never_reused(empty: ControlDatabase) -> None:
    def allocate(path: str) -> int:
        return empty.run_write(lambda connection: spools.allocate(connection, "n", path, 1.0))

    first, second = allocate("/a"), allocate("/b")
    assert allocate("/a") == first
    with empty.write() as connection:
        connection.execute(schema.spools.delete().where(schema.spools.c.number == second))
    assert allocate("/c") > second
    empty.run_write(lambda connection: spools.reserve(connection, 50, "n", "/old", 1.0))
    assert allocate("/d") > 50
    assert [one.path for one in empty.run_read(spools.all_spools)] == ["/a", "/c", "/old", "/d"]


def test_pruning_keeps_a_floor_and_laggards_resynchronise(empty: ControlDatabase) -> None:
    def one(connection: Connection) -> None:
        epoch = changes.take_epoch(connection)
        changes.record(connection, epoch, ChangeKind.DOMAIN, ["example.edu"], 1.0)

    for _ in range(10):
        empty.run_write(one)
    assert empty.run_write(lambda connection: changes.prune(connection, keep=4)) == 6
    assert empty.run_write(lambda connection: changes.prune(connection, keep=4)) == 0
    since: Callable[[int], list[str]] = lambda epoch: [  # noqa: E731 - shorter than a function here
        change.kind.value for change in empty.run_read(lambda connection: changes.since(connection, epoch)).changes
    ]
    assert since(5) == ["resync"]
    assert since(6) == ["domain"] * 4
    assert since(10) == []
    assert since(11) == ["resync"]  # a follower ahead of the database must not think it is up to date


def test_too_many_changes_are_told_as_one(empty: ControlDatabase) -> None:
    with empty.write() as connection:
        epoch = changes.take_epoch(connection)
        changes.record(connection, epoch, ChangeKind.ADDRESS, [f"u{i}" for i in range(8)], 1.0)
    told = empty.run_read(lambda connection: changes.since(connection, 0, limit=7)).changes
    assert [change.kind.value for change in told] == ["resync"]
    assert len(empty.run_read(lambda connection: changes.since(connection, 0, limit=8)).changes) == 8


def test_a_database_without_its_site_row_is_unusable(empty: ControlDatabase) -> None:
    with empty.write() as connection:
        connection.execute(schema.site.delete())
    with pytest.raises(ControlUnavailable):
        empty.run_read(site_uuid)
    with empty.write() as connection:
        connection.execute(update(schema.counter).values(value=0))
