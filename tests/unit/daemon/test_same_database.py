"""A process notices that the control database is another one, and is not led astray by one that cannot be read."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from router.control import changes
from router.control.database import ControlDatabase, DatabaseReplaced
from router.daemon.same_database import SameDatabase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "control.db"
    ControlDatabase.open(f"sqlite:///{found}", create=True).close()
    return found


def take_epoch(path: Path) -> None:
    database = ControlDatabase.open(f"sqlite:///{path}")
    database.run_write(changes.take_epoch)
    database.close()


def another_file(path: Path) -> None:
    copy = path.with_suffix(".new")
    shutil.copy2(path, copy)
    copy.replace(path)


def older_copy_in_place(path: Path) -> None:
    _restore(path, "UPDATE counter SET value = value - 1 WHERE name = 'epoch'")


def another_site_in_place(path: Path) -> None:
    _restore(path, "UPDATE site SET uuid = 'another'")


def _restore(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("how", [another_file, older_copy_in_place, another_site_in_place])
def test_another_database_is_noticed(path: Path, how: Callable[[Path], None]) -> None:
    database = ControlDatabase.open(f"sqlite:///{path}")
    same = SameDatabase(database)
    take_epoch(path)
    same.look()
    take_epoch(path)
    same.look()
    how(path)
    with pytest.raises(DatabaseReplaced):
        same.look()
    database.close()


def test_one_that_is_locked_or_gone_for_a_moment_is_the_same(path: Path) -> None:
    database = ControlDatabase.open(f"sqlite:///{path}")
    same = SameDatabase(database)
    same.look()
    take_epoch(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    same.look()
    other.execute("ROLLBACK")
    other.close()
    path.rename(path.with_suffix(".away"))
    same.look()
    path.with_suffix(".away").rename(path)
    take_epoch(path)
    same.look()
    database.close()
