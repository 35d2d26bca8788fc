"""
What an UPDATE or DELETE must leave alone: for each condition, a row that differs from the right one in it alone.

Without one of the conditions a test here finds the neighbour changed or gone.
"""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, Table, insert, select

from router.control import alarms, barrier, domains, entries, holds, losses, members, requests, schema, staging
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.entries import Reading
from router.control.losses import Loss
from router.control.people import Crew
from router.model.change import Blocking, Ended
from router.model.directory import DomainEntry

ANN, BOB = "ann@example.edu", "bob@example.edu"
FIRST, SECOND, THIRD = (f"2026010100000{number}Z" for number in (1, 2, 3))
DEFAULTS: Mapping[type, Any] = {str: "", int: 0, float: 0.0}


def put(connection: Connection, table: Table, **values: Any) -> None:
    """A row with these values, and something in every other column that must have one."""
    rest = {
        column.name: DEFAULTS[column.type.python_type]
        for column in table.columns
        if column.name not in values
        and not column.nullable
        and not (column.primary_key and column.autoincrement is True)
    }
    connection.execute(insert(table).values(**rest, **values))


def rows(connection: Connection, table: Table, *names: str) -> set[tuple[Any, ...]]:
    return {tuple(row) for row in connection.execute(select(*(table.c[name] for name in names)))}


OTHER_ALARMS = [("same kind", "other"), ("other", "same key")]


@pytest.mark.parametrize("clear_before", [False, True])
def test_an_alarm_is_one_of_kind_and_key(empty: ControlDatabase, clear_before: bool) -> None:
    table = schema.alarms
    with empty.write() as connection:
        for kind, key in [*OTHER_ALARMS, ("same kind", "same key")]:
            alarms.raise_alarm(connection, kind, key, "first", 1.0)
            if clear_before:
                alarms.clear_alarm(connection, kind, key, 2.0)
        names = ("kind", "key", "text", "last", "cleared_at", "count")
        before = rows(connection, table, *names)
        alarms.raise_alarm(connection, "same kind", "same key", "again", 3.0)
        changed = rows(connection, table, *names) - before
        assert [row[:2] for row in changed] == [("same kind", "same key")]


def test_clearing_an_alarm_leaves_others_and_those_that_are_closed(empty: ControlDatabase) -> None:
    with empty.write() as connection:
        for kind, key in [*OTHER_ALARMS, ("same kind", "same key")]:
            alarms.raise_alarm(connection, kind, key, "text", 1.0)
        assert alarms.clear_alarm(connection, "same kind", "same key", 2.0)
        assert not alarms.clear_alarm(connection, "same kind", "same key", 3.0)
        assert {row[1] for row in rows(connection, schema.alarms, "key", "cleared_at")} == {None, 2.0}
        assert ("same key", 2.0) in rows(connection, schema.alarms, "key", "cleared_at")
        assert ("other", None) in rows(connection, schema.alarms, "key", "cleared_at")
        assert ("other", None) in rows(connection, schema.alarms, "kind", "cleared_at")


def test_the_barrier_sets_the_time_of_no_hold_that_has_one_or_is_closed(database: ControlDatabase, act: Act) -> None:
    with database.write() as connection:
        put(connection, schema.holds, number=99, mailbox=ANN, closed_at=1.5)
        holds.open_hold(connection, key=ANN, act=act)
        barrier.evaluate(connection, 2.0)
        holds.open_hold(connection, key=BOB, act=act)
        assert barrier.evaluate(connection, 3.0) == 1
        found = rows(connection, schema.holds, "mailbox", "closed_at", "quiet_at")
    assert found == {(ANN, 1.5, None), (ANN, None, 2.0), (BOB, None, 3.0)}


SUSPECT = {"incarnation": "i", "entry": 1, "mailbox": ANN}
OTHERS = [{**SUSPECT, "incarnation": "j"}, {**SUSPECT, "entry": 2}, {**SUSPECT, "mailbox": BOB}]


def blocked(connection: Connection) -> set[tuple[Any, ...]]:
    return rows(connection, schema.blocking, "incarnation", "entry", "mailbox")


def test_a_suspect_whose_time_is_over_takes_no_other_along(database: ControlDatabase, act: Act) -> None:
    with database.write() as connection:
        holds.open_hold(connection, key=ANN, act=act)
        put(connection, schema.blocking, **SUSPECT, until=1.0)
        for one in OTHERS:
            put(connection, schema.blocking, **one, until=9.0)
        barrier.evaluate(connection, 5.0)
        assert blocked(connection) == {tuple(one.values()) for one in OTHERS}


def test_a_delivery_that_is_named_again_replaces_its_own_row(database: ControlDatabase) -> None:
    with database.write() as connection:
        for one in [SUSPECT, *OTHERS]:
            put(connection, schema.blocking, **one)
        members._block(connection, "i", [Blocking(1, ANN, 1, "cliff", "Q", "mail", 1.0)])
        assert blocked(connection) == {tuple(one.values()) for one in [SUSPECT, *OTHERS]}


def test_a_delivery_that_ends_frees_every_mailbox_that_it_named_and_no_other_delivery(
    database: ControlDatabase,
) -> None:
    with database.write() as connection:
        for one in [SUSPECT, *OTHERS]:
            put(connection, schema.blocking, **one)
        members.unblock(connection, "i", [Ended(1)], 1.0)
        assert blocked(connection) == {tuple(one.values()) for one in OTHERS[:2]}


def test_a_release_ends_one_hold_and_moves_one_mailbox(database: ControlDatabase, act: Act) -> None:
    with database.write() as connection:
        for key in (ANN, BOB):
            holds.open_hold(connection, key=key, act=act)
        holds.release(connection, ANN, act, "zimbra")
        assert {(key, home) for key, home in rows(connection, schema.holds, "mailbox", "released_to") if home} == {
            (ANN, "zimbra")
        }
        assert {key for key, home in rows(connection, schema.mailboxes, "key", "home") if home == "zimbra"} == {ANN}


def test_a_member_that_goes_leaves_suspects_and_other_members_rows(database: ControlDatabase) -> None:
    with database.write() as connection:
        put(connection, schema.blocking, **SUSPECT)
        put(connection, schema.blocking, **OTHERS[0])
        put(connection, schema.blocking, **OTHERS[1], until=9.0)
        members._remove(connection, ["i"])
        assert blocked(connection) == {tuple(one.values()) for one in OTHERS[:2]}


def test_what_a_loss_says_is_said_of_one_source_and_domain(empty: ControlDatabase, act: Act) -> None:
    def accepted(connection: Connection) -> dict[tuple[str, str], tuple[int, int]]:
        return {(one.source, one.domain): (one.missing, one.accepted) for one in losses.every(connection)}

    others = [("a", "x.edu"), ("b", "example.edu")]
    with empty.write() as connection:
        for source, domain in [*others, ("a", "example.edu")]:
            losses.put(connection, Loss(source, domain, 5, 10, 1.0), 1.0)
        losses.put(connection, Loss("a", "example.edu", 7, 10, 1.0), 2.0)
        assert accepted(connection) == {("a", "example.edu"): (7, 0), **dict.fromkeys(others, (5, 0))}
        losses.accept_loss(connection, "example.edu", act)
        assert accepted(connection) == {
            ("a", "example.edu"): (7, 7), ("b", "example.edu"): (5, 5), ("a", "x.edu"): (5, 0)
        }  # fmt: skip
        losses.end(connection, "a", "example.edu", 3.0)
        assert set(accepted(connection)) == set(others)


def test_a_domain_that_is_still_there_is_one_of_source_and_name(empty: ControlDatabase) -> None:
    table = schema.directory_domains
    with empty.write() as connection:
        for source, dn in (("a", "dc=one"), ("a", "dc=two"), ("b", "dc=one")):
            put(connection, table, source=source, domain=dn, dn=dn, generation=1)
        domains.still_there(connection, "a", 2, ["dc=one"])
        assert rows(connection, table, "source", "dn", "generation") == {
            ("a", "dc=one", 2), ("a", "dc=two", 1), ("b", "dc=one", 1)
        }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "read_in", "sweeping", "news"),
    [
        (SECOND, 5, True, False),
        (SECOND, 6, True, True),
        (FIRST, 5, True, False),
        (FIRST, 6, False, True),
        (FIRST, 6, True, True),
        (THIRD, 5, False, True),
    ],
)
def test_what_a_domain_is_read_to_be_is_news(
    empty: ControlDatabase, version: str, read_in: int, sweeping: bool, news: bool
) -> None:
    """An older version is believed when a sweep brings it and nobody has read the entry since the sweep began."""
    known = DomainEntry("dc=x", "example.edu", SECOND)
    read = DomainEntry("dc=x", "example.edu", version)
    with empty.write() as connection:
        domains.take_in(connection, [known], Reading("a", 5))
        reading = Reading("a", read_in, sweeping=sweeping)
        assert domains.is_news(connection, read, reading) is news
        domains.take_in(connection, [read], reading)
        believed = version == THIRD or (sweeping and read_in == 6)
        assert rows(connection, schema.directory_domains, "version") == {(version if believed else SECOND,)}


def test_an_entry_that_goes_takes_its_own_claims_along(empty: ControlDatabase) -> None:
    table = schema.directory_claims
    with empty.write() as connection:
        for number in (1, 2):
            put(
                connection, schema.directory_entries, number=number, source="a", name=str(number),
                key=ANN, addresses=f'["{ANN}"]', generation=1,
            )  # fmt: skip
            put(connection, table, address=ANN, entry=number)
        put(connection, table, address=BOB, entry=1)
        entries.remove(connection, "a", [1], 2)
        assert rows(connection, table, "address", "entry") == {(ANN, 2), (BOB, 1)}


def test_a_displaced_entry_is_restored_alone(empty: ControlDatabase) -> None:
    table = schema.directory_entries
    with empty.write() as connection:
        for number, (source, key) in enumerate([(schema.DATABASE, ANN), (schema.DATABASE, BOB), ("a", ANN)]):
            put(connection, table, number=number, source=source, name=entries.folded(key), key=key)
        crew: Any = SimpleNamespace(_turn=SimpleNamespace(connection=connection))
        Crew.restore(crew, ANN)
        assert rows(connection, table, "source", "key") == {(schema.DATABASE, BOB), ("a", ANN)}


def test_a_request_is_answered_once(empty: ControlDatabase) -> None:
    with empty.write() as connection:
        for number in (1, 2):
            put(connection, schema.requests, number=number, spool=1, state=requests.NEW)
    assert empty.run_write(partial(requests.answer, number=1, value=1, now=1.0))
    assert not empty.run_write(partial(requests.answer, number=1, value=2, now=2.0))
    with empty.read() as connection:
        states = dict(connection.execute(select(schema.requests.c.number, schema.requests.c.state)).all())
        assert states[2] == requests.NEW
        assert states[1] != requests.NEW


def test_an_import_takes_back_what_itself_has_staged(empty: ControlDatabase) -> None:
    with empty.write() as connection:
        for number, key in ((1, ANN), (1, BOB), (2, ANN)):
            put(connection, schema.staged_mailboxes, import_number=number, key=key)
            put(connection, schema.staged_addresses, import_number=number, address=key, row_key=key)
        staging.forget(connection, 1, [ANN])
        left = {(1, BOB), (2, ANN)}
        assert rows(connection, schema.staged_mailboxes, "import_number", "key") == left
        assert rows(connection, schema.staged_addresses, "import_number", "row_key") == left
