"""Set aside is only what contradicts itself, only by who has its lock, and never before the barrier knows of it."""

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.control import alarms, barrier, members
from router.control.database import ControlDatabase
from router.control.members import Member
from router.daemon.damaged import DamagedSpools
from router.errors import ControlUnavailable, SpoolUnavailable
from router.spool import setting_aside
from router.spool.lock import SpoolLock, SpoolLocked
from router.spool.options import SpoolOptions
from router.spool.setting_aside import aside, name_aside, parse
from router.spool.spool import Spool
from router.spool.upkeep import Pace

NOW = 1_800_000_000.0
OPTIONS = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0, pace=Pace(period=3600))


class Broken(sqlite3.OperationalError):
    """An error as SQLite raises it for a disk that cannot be read now."""

    def __init__(self, code: int) -> None:
        super().__init__("disk I/O error")
        self.sqlite_errorcode = code


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    place = tmp_path / "spool"
    spool = await Spool.open(place / "0003", 3, create=True, options=OPTIONS)
    await spool.close()
    return place


@pytest.fixture
def database(tmp_path: Path) -> Any:
    opened = ControlDatabase.open(f"sqlite:///{tmp_path}/control.db", create=True)
    member = Member("dead", "here", 0, 4_000_000, 3, 7, "f", NOW)
    opened.run_write(partial(members.register, member=member))
    yield opened
    opened.close()


def spools(database: ControlDatabase, root: Path) -> DamagedSpools:
    return DamagedSpools(database, root, "here", lambda: NOW)


def destroy(root: Path) -> None:
    (root / "0003" / "queue.db").write_bytes(b"nothing that SQLite knows" * 1000)


def blocks_everybody(database: ControlDatabase) -> bool:
    """Whether a barrier evaluated now waits for the dead member's deliveries."""
    rows = database.run_read(lambda connection: connection.execute(members._B.select()).all())
    return [(row.mailbox, row.until) for row in rows] == [(barrier.EVERYBODY, NOW + 60.0)]


def test_a_damaged_spool_is_set_aside_with_alarm_and_doubt(database: Any, root: Path) -> None:
    destroy(root)
    place = spools(database, root).set_aside(3, 60.0)
    assert place == root / name_aside("0003", NOW)
    assert not (root / "0003").exists()
    assert [(one.number, one.at, one.recovered) for one in aside(root)] == [(3, NOW, False)]
    assert blocks_everybody(database)
    assert database.run_read(members.all_members) == []
    (alarm,) = database.run_read(alarms.open_alarms)
    assert (alarm.kind, alarm.key) == ("spool-damaged", place.name)


def test_a_sound_spool_stays(database: Any, root: Path) -> None:
    assert spools(database, root).set_aside(3, 60.0) is None
    assert (root / "0003").is_dir()
    assert database.run_read(alarms.open_alarms) == []
    assert len(database.run_read(members.all_members)) == 1


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM])
def test_an_io_error_is_no_damage(database: Any, root: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    class Failing:
        def set_progress_handler(self, *_: object) -> None: ...
        def close(self) -> None: ...
        def execute(self, _statement: str) -> None:
            raise Broken(code)

    monkeypatch.setattr(setting_aside, "open_reader", lambda _path: Failing())
    with pytest.raises(SpoolUnavailable):
        spools(database, root).set_aside(3, 60.0)
    assert (root / "0003").is_dir()
    assert database.run_read(alarms.open_alarms) == []


def test_what_sqlite_calls_damage_is_damage(database: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counterpart of the test above: only the code differs."""

    class Failing:
        def set_progress_handler(self, *_: object) -> None: ...
        def close(self) -> None: ...
        def execute(self, _statement: str) -> None:
            raise Broken(sqlite3.SQLITE_CORRUPT)

    monkeypatch.setattr(setting_aside, "open_reader", lambda _path: Failing())
    assert spools(database, root).set_aside(3, 60.0) is not None


def test_a_log_that_cannot_be_read_is_no_damage(database: Any, root: Path) -> None:
    (root / "0003" / "queue.db-wal").unlink(missing_ok=True)
    (root / "0003" / "queue.db-wal").symlink_to(root / "0003")  # a directory: read(2) fails with EISDIR
    with pytest.raises(SpoolUnavailable):
        spools(database, root).set_aside(3, 60.0)
    assert (root / "0003").is_dir()


def test_a_spool_with_an_owner_is_not_touched(database: Any, root: Path) -> None:
    destroy(root)
    owner = SpoolLock(root / "0003")
    owner.acquire()
    with pytest.raises(SpoolLocked):
        spools(database, root).set_aside(3, 60.0)
    owner.release()
    assert (root / "0003").is_dir()
    assert database.run_read(alarms.open_alarms) == []


def test_nothing_is_renamed_while_the_barrier_cannot_be_told(
    database: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destroy(root)

    def fails(*_: object) -> None:
        raise ControlUnavailable("it is gone")

    monkeypatch.setattr(database, "run_write", fails)
    with pytest.raises(ControlUnavailable):
        spools(database, root).set_aside(3, 60.0)
    assert (root / "0003").is_dir()


def test_a_stop_ends_the_look(database: Any, root: Path) -> None:
    connection = sqlite3.connect(root / "0003" / "queue.db")
    connection.execute("CREATE TABLE many (a)")
    connection.executemany("INSERT INTO many VALUES (?)", [(one,) for one in range(20_000)])
    connection.commit()
    connection.close()
    with pytest.raises(SpoolUnavailable):
        spools(database, root).set_aside(3, 60.0, stopped=lambda: True)
    assert (root / "0003").is_dir()


@pytest.mark.parametrize(
    "name", ["0003", "0003.damaged", "0003.damaged-20261399T000000Z", "x.damaged-20260101T000000Z"]
)
def test_other_names_are_no_spools_set_aside(tmp_path: Path, name: str) -> None:
    assert parse(tmp_path / name) is None
