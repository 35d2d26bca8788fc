"""Each connection to the control database has its settings; one that does not take them is refused (PRC1, PRC30)."""

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import update

from router.control import backup, changes, schema, sqlite
from router.control.database import ControlDatabase
from router.control.tail import Tail
from router.errors import ControlUnavailable

SETTINGS = {
    "journal_mode": "truncate",
    "synchronous": 3,
    "foreign_keys": 1,
    "cache_size": -16384,
    "cache_spill": 0,
}


class Deaf:
    """A connection that does not take one setting, and says so when it is asked."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def execute(self, statement: str) -> sqlite3.Cursor:
        if statement.startswith(f"PRAGMA {self._name}="):
            statement = f"PRAGMA {self._name}"
        return self._connection.execute(statement)


def value(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_prc1_prc30_every_connection_has_the_settings(empty: ControlDatabase) -> None:
    assert empty.path is not None
    connection = sqlite.connect(empty.path)
    assert {name: value(connection, name) for name in SETTINGS} == SETTINGS
    connection.close()


@pytest.mark.parametrize("name", ["journal_mode", "synchronous", "foreign_keys", "cache_size"])
def test_prc1_a_setting_that_is_not_taken_is_refused(tmp_path: Path, name: str) -> None:
    connection = sqlite3.connect(tmp_path / "other.db", isolation_level=None)
    with pytest.raises(ControlUnavailable, match=name):
        sqlite._configure(cast("sqlite3.Connection", Deaf(connection, name)))
    connection.close()


def test_a_copy_that_is_damaged_is_no_backup(
    empty: ControlDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = backup._copy_beside_writers

    def damaging(origin: sqlite3.Connection, copy: sqlite3.Connection) -> None:
        original(origin, copy)
        copy.execute("PRAGMA writable_schema = ON")
        copy.execute("UPDATE sqlite_master SET rootpage = 2 WHERE name = 'members'")
        copy.execute("PRAGMA writable_schema = RESET")

    monkeypatch.setattr(backup, "_copy_beside_writers", damaging)
    with pytest.raises(ControlUnavailable, match="the copy is damaged"):
        backup.backup(empty, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_member_keeps_the_list_of_changes_short(empty: ControlDatabase) -> None:
    many = changes.KEEP + 2000
    empty.run_write(lambda connection: connection.execute(update(schema.counter).values(value=many)))
    empty.run_write(
        lambda connection: connection.execute(
            update(schema.counter).where(schema.counter.c.name == schema.FLOOR).values(value=0)
        )
    )
    Tail._keep_house(cast("Tail", SimpleNamespace(_wall=lambda: 1.0, _database=empty)))
    assert empty.run_read(changes.floor) == many - changes.KEEP


def test_what_a_failing_transaction_wrote_is_gone(empty: ControlDatabase) -> None:
    def work(connection: Any) -> None:
        changes.take_epoch(connection)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - ours, raised above
        empty.run_write(work)
    assert empty.run_read(changes.current_epoch) == 0
