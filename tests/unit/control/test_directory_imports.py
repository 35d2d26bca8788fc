"""Imports and migrations where people come from directories, too."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text
from support.people import People

from router.control import mailboxes, migrate, schema, sqlite
from router.control.database import ControlDatabase
from router.control.importing import ImportResult
from router.control.mirror import Mirror
from router.control.users_csv import ImportRefused
from router.model.mailbox import Found, Mailbox

ANN, EVE = "ann@example.edu", "eve@example.edu"
Load = Callable[[str], ImportResult]


def find(database: ControlDatabase, *keys: str) -> Found:
    return database.run_read(partial(mailboxes.find, keys=keys))


def mirrored(database: ControlDatabase, people: People) -> Mirror:
    one = Mirror(database, "ldap", ("database", "ldap"), wall=lambda: 5000.0, sleep=lambda _: None)
    one.apply(people.items())
    return one


@pytest.mark.parametrize("row", [f"{ANN},zimbra,,", f"{ANN},cliff,other@example.edu,", f"{ANN},cliff,,disabled"])
def test_an_import_does_not_change_what_a_directory_says(empty: ControlDatabase, load: Load, row: str) -> None:
    people = People()
    people.add("ann")
    mirrored(empty, people)
    with pytest.raises(ImportRefused, match="comes from the directory ldap"):
        load(f"address,home,aliases,status\n{row}\n")


def test_an_import_adds_what_a_directory_does_not_know(empty: ControlDatabase, load: Load) -> None:
    people = People()
    ann = people.add("ann")
    people.modify(ann, forwards=("ann@else.where",))
    one = mirrored(empty, people)
    load(f"address,home,target,size_bytes\n{ANN},cliff,zimbra,1234\n")
    found = find(empty, ANN).mailboxes[ANN]
    assert (found.target, found.source, found.forwards) == ("zimbra", "ldap", ("ann@else.where",))
    people.modify(ann, host="sunray.example.edu")
    one.apply(people.items())
    found = find(empty, ANN).mailboxes[ANN]
    assert (found.home, found.target) == ("sunray", "zimbra")


def test_an_address_that_an_import_gives_up_goes_to_the_entry(database: ControlDatabase, load: Load) -> None:
    people = People()
    people.add("eve", "zimbra1.example.edu", "a.ann@example.edu")
    mirrored(database, people)
    assert list(find(database, "a.ann@example.edu").disputed) == ["a.ann@example.edu"]
    load(f"address,home,aliases\n{ANN},cliff,ann@mcs.example.edu\n")
    found = find(database, "a.ann@example.edu")
    assert (found.mailboxes["a.ann@example.edu"].key, found.disputed) == (EVE, {})


def test_an_address_that_an_import_moves_stays_in_dispute(database: ControlDatabase, load: Load) -> None:
    people = People()
    people.add("eve", "zimbra1.example.edu", "a.ann@example.edu")
    mirrored(database, people)
    load(f"address,home,aliases\n{ANN},cliff,ann@mcs.example.edu\nbob@example.edu,cliff,a.ann@example.edu\n")
    assert list(find(database, "a.ann@example.edu").disputed) == ["a.ann@example.edu"]


def test_an_import_cannot_take_an_address_of_a_directory(empty: ControlDatabase, load: Load) -> None:
    people = People()
    people.add("ann", "cliff.example.edu", "a@example.edu")
    mirrored(empty, people)
    with pytest.raises(ImportRefused, match=f"a@example.edu belongs to {ANN}"):
        load("address,home,aliases\nbob@example.edu,cliff,a@example.edu\n")


def test_a_database_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    sqlite.prepare_file(path)
    url = f"sqlite:///{path}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "REVISION", "0001")
        patch.setattr(migrate, "migrate", lambda c: command.upgrade(migrate.configuration(c), "0001"))
        old = ControlDatabase.open(url, create=True)
        with old.write() as connection:
            connection.execute(text("INSERT INTO mailboxes (key, home) VALUES ('ann@example.edu', 'cliff')"))
            connection.execute(
                text("INSERT INTO addresses VALUES ('ann@example.edu', 'ann@example.edu', 'example.edu')")
            )
            connection.execute(text("INSERT INTO site (id, uuid, created_at) VALUES (1, 'u', 1.0)"))
            connection.execute(text("INSERT INTO counter VALUES ('epoch', 7), ('floor', 0)"))
        old.close()
    new = ControlDatabase.open(url, create=True)
    assert find(new, ANN) == Found(7, {ANN: Mailbox(ANN, "cliff")})
    new.close()
