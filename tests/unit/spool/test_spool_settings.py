"""Each connection to a spool's database has its settings, and one that does not take them is refused (PRC1)."""

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.disk_watch import DiskWatch

from router.errors import SpoolUnavailable
from router.spool import schema
from router.spool.writer import Writer

NUMBER = 7
CREATED = {
    "page_size": schema.PAGE_SIZE,
    "auto_vacuum": 2,
    "application_id": schema.APPLICATION_ID,
    "user_version": schema.SCHEMA_VERSION,
}
WRITER = {
    **CREATED,
    "journal_mode": "wal",
    "synchronous": 2,
    "secure_delete": 0,
    "wal_autocheckpoint": 0,
    "journal_size_limit": 64 * 1024 * 1024,
    "cache_size": -32768,
    "temp_store": 2,
    "query_only": 0,
}
READER = {"journal_mode": "wal", "synchronous": 2, "query_only": 1}


class Deaf:
    """A connection that does not take one setting."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def execute(self, statement: str) -> sqlite3.Cursor:
        if statement.startswith(f"PRAGMA {self._name} ="):
            statement = "SELECT 1"
        return self._connection.execute(statement)

    def executemany(self, statement: str, values: Any) -> sqlite3.Cursor:
        return self._connection.executemany(statement, values)


def settings(connection: sqlite3.Connection, wanted: dict[str, Any]) -> dict[str, Any]:
    found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}
    connection.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / schema.DATABASE
    schema.create(made, NUMBER, 1.0)
    return made


def test_the_writing_connection_has_its_settings(path: Path) -> None:
    assert settings(schema.open_writer(path, NUMBER), WRITER) == WRITER


def test_a_reading_connection_has_its_settings_and_cannot_write(path: Path) -> None:
    connection = schema.open_reader(path)
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("UPDATE meta SET value = ''")
    assert settings(connection, READER) == READER


def test_a_new_database_is_whole_in_its_file(path: Path) -> None:
    """Before its name is made: the log that belongs to the former name is not renamed with it."""
    assert not path.with_name(f"tmp-{path.name}-wal").exists()
    assert not path.with_name(f"{path.name}-wal").exists()
    assert schema.version(path) == schema.SCHEMA_VERSION


def test_settings_do_not_rest_on_what_the_library_was_built_with(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db", isolation_level=None)
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("PRAGMA synchronous = NORMAL")
    schema._fill(connection, NUMBER, 1.0)
    assert (tmp_path / "other.db-wal").stat().st_size == 0, "all is in the file before it gets its name"
    wanted = {"page_size": schema.PAGE_SIZE, "synchronous": 2}
    assert settings(connection, wanted) == wanted


def test_the_name_of_a_new_database_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = DiskWatch(tmp_path, monkeypatch)
    schema.create(tmp_path / schema.DATABASE, NUMBER, 1.0)
    assert watch.synced == [tmp_path]


def test_a_checkpoint_gives_the_patience_back(path: Path) -> None:
    connection = schema.open_writer(path, NUMBER)
    writer: Any = SimpleNamespace(_connection=connection, _dirty_pages=1)
    Writer._checkpoint(writer, "PASSIVE")
    assert settings(connection, {"busy_timeout": 0}) == {"busy_timeout": 5000}


@pytest.mark.parametrize(("name", "says"), [("journal_mode", "journal_mode=delete"), ("synchronous", "synchronous=1")])
def test_prc1_a_setting_that_is_not_taken_is_refused(tmp_path: Path, name: str, says: str) -> None:
    connection = sqlite3.connect(tmp_path / "other.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")
    with pytest.raises(SpoolUnavailable, match=says):
        schema.configure(cast("sqlite3.Connection", Deaf(connection, name)))
    connection.close()


def test_a_database_that_will_not_shrink_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db", isolation_level=None)
    with pytest.raises(SpoolUnavailable, match="auto_vacuum"):
        schema._fill(cast("sqlite3.Connection", Deaf(connection, "auto_vacuum")), NUMBER, 1.0)
    connection.close()
