"""Many mailboxes held and released by one command: every one as if it were alone, in few statements."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, update

from router.control import alarms, audit, changes, hold_records, holds, mailboxes, members, schema
from router.control.audit import Act
from router.control.awaiting import Awaiting, Clocks, Dead, unknown_suspects
from router.control.database import ControlDatabase
from router.control.directory_steps import close_all, open_hold
from router.control.hold_records import InDoubt
from router.control.holds import Terms
from router.control.importing import ImportResult
from router.control.members import Member
from router.control.operations import Operations
from router.control.results import HoldResult
from router.model.change import ChangeKind
from router.model.mailbox import LIST

STORES = ("cliff", "sunray", "zimbra")

MANY = 1100
"""More than two slices, and more than two transactions."""
ACT = Act("op", "move", 50.0)


def people(count: int) -> list[str]:
    return [f"u{number}@example.edu" for number in range(count)]


@pytest.fixture
def crowd(load: Callable[[str], ImportResult], empty: ControlDatabase) -> ControlDatabase:
    load("address,home,aliases\n" + "".join(f"{key},cliff,\n" for key in people(MANY)))
    return empty


@contextmanager
def counted() -> Iterator[list[str]]:
    """Statements executed meanwhile; one for many rows counts once."""
    seen: list[str] = []

    def saw(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", saw)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", saw)


def test_a_thousand_are_held_and_released_in_few_statements(crowd: ControlDatabase) -> None:
    operations, keys = Operations(crowd, STORES), people(MANY)
    with counted() as hold:
        held = operations.hold(keys, ACT)
    with counted() as release:
        released = operations.release(keys, ACT, "zimbra")
    assert [one.key for one in held] == keys
    assert all(one.quiet and not one.error for one in held)
    assert [(one.key, one.home_before, one.home) for one in released] == [(key, "cliff", "zimbra") for key in keys]
    assert all(one.released and one.applied for one in released)
    assert max(len(hold), len(release)) < MANY / 5


def test_each_of_many_has_its_own_rows(crowd: ControlDatabase) -> None:
    operations, keys = Operations(crowd, STORES), people(MANY)
    numbers = [one.hold for one in operations.hold(keys, ACT, Terms("wave", 99.0, "zimbra"))]
    operations.release(keys, ACT)
    with crowd.read() as connection:
        records = hold_records.get_all(connection, numbers)
        rows = audit.rows(connection, limit=3 * MANY)[::-1]
        told = connection.execute(select(schema.changes.c.key).where(schema.changes.c.kind == ChangeKind.MAILBOX))
        assert sorted(told.scalars()) == sorted(2 * keys)
    assert numbers == sorted(set(numbers))
    for key, number in zip(keys, numbers, strict=True):
        one = records[number]
        assert (one.mailbox, one.home_before, one.status_before) == (key, "cliff", "active")
        assert (one.hold.batch, one.hold.deadline, one.hold.target) == ("wave", 99.0, "zimbra")
        assert (one.closed_at, one.closed_by, one.released_to) == (50.0, "op", "cliff")
    facts: dict[str, object] = {"home": "cliff", "status": "active", "hold": None}
    wanted = [("hold", key, facts, {**facts, "hold": n}) for key, n in zip(keys, numbers, strict=True)]
    wanted += [("release", key, {**facts, "hold": n}, facts) for key, n in zip(keys, numbers, strict=True)]
    assert [(row.verb, row.key, row.before, row.after) for row in rows if row.verb != "import"] == wanted


def test_holds_opened_together_share_an_epoch_that_members_can_follow(crowd: ControlDatabase) -> None:
    keys = people(5)
    with crowd.write() as connection:
        before = changes.current_epoch(connection)
        opened = open_hold(connection, keys, ACT, None, ())
        found = changes.since(connection, before)
    assert found.epoch == before + 1
    assert found.holds == opened
    assert {change.epoch for change in found.changes} == {before + 1}
    with crowd.write() as connection:
        results, epoch = close_all(connection, keys, ACT, "zimbra", None, ())
        found = changes.since(connection, before + 1)
    assert epoch == found.epoch == before + 2
    assert found.holds == dict.fromkeys(keys)
    assert [one.home for one in results] == 5 * ["zimbra"]


def mark(connection: Connection, key: str, **values: object) -> None:
    connection.execute(update(schema.mailboxes).where(schema.mailboxes.c.key == key).values(**values))


def test_what_refuses_one_of_many_leaves_it_alone_and_no_other(crowd: ControlDatabase) -> None:
    postmaster, listed, leaving, moving, held, free = keys = people(6)
    with crowd.write() as connection:
        mark(connection, listed, kind=LIST)
        mark(connection, leaving, status="deleted")
        joined = holds.open_hold(connection, held, ACT).number
        holds.open_hold(connection, moving, ACT, Terms(target="sunray"))
        epoch = changes.current_epoch(connection)
        terms = Terms(target="zimbra")
        found = open_hold(connection, ["nobody@example.edu", *keys], ACT, terms, [postmaster])
        assert changes.since(connection, epoch).holds.keys() == {free}
        assert mailboxes.all_open_holds(connection).keys() == {moving, held, free}
    said = {key: one.private for key, one in found.items() if isinstance(one, Exception)}
    assert list(found) == ["nobody@example.edu", *keys]
    assert said == {
        "nobody@example.edu": "there is no mailbox nobody@example.edu",
        postmaster: f"{postmaster} is the postmaster's mailbox and is never held",
        listed: f"{listed} is a list and cannot be held; pause its store instead",
        leaving: f"{leaving}: it is deleted",
        moving: f"{moving} is on hold for a move to sunray",
    }
    assert getattr(found[held], "number", 0) == joined


def test_of_many_only_those_that_are_held_are_released(crowd: ControlDatabase) -> None:
    ended, elsewhere, held, other = keys = people(4)
    with crowd.write() as connection:
        holds.open_hold(connection, ended, ACT)
        last = holds.release(connection, ended, ACT, "zimbra").epoch
        for key in (held, other):
            holds.open_hold(connection, key, ACT)
        opened = mailboxes.all_open_holds(connection)
        hold_records.add_in_doubt(connection, opened[held].number, [InDoubt("Q1", "<m@x>", "cliff", 7.0)])
        results, epoch = close_all(connection, [*keys[:3], "nobody@example.edu"], ACT, "zimbra", None, ())
        assert mailboxes.all_open_holds(connection).keys() == {other}
        again, seen = close_all(connection, [ended, held], ACT, "zimbra", None, ())
    assert epoch > last
    assert [(one.released, one.error) for one in results] == [
        (False, ""),
        (False, f"{elsewhere}: it is not on hold"),
        (True, ""),
        (False, "there is no mailbox nobody@example.edu"),
    ]
    assert [one.in_doubt for one in results[:3]] == [(), (), (InDoubt("Q1", "<m@x>", "cliff", 7.0),)]
    assert seen == epoch  # who repeats the command waits for what the first one did
    assert [(one.released, one.home) for one in again] == 2 * [(False, "zimbra")]


def test_a_hold_that_another_number_was_expected_for_stays(crowd: ControlDatabase) -> None:
    first, second = keys = people(2)
    with crowd.write() as connection:
        found = open_hold(connection, keys, ACT, None, ())
        number = getattr(found[first], "number", 0)
        results, _ = close_all(connection, keys, ACT, "zimbra", number, ())
        assert mailboxes.all_open_holds(connection).keys() == {second}
    assert [one.error for one in results] == ["", f"hold {number} of {second} was ended meanwhile by somebody else"]


def test_of_many_only_their_own_overdue_alarms_are_cleared(crowd: ControlDatabase) -> None:
    keys = people(3)
    with crowd.write() as connection:
        open_hold(connection, keys, ACT, Terms(deadline=10.0), ())
        assert holds.alarm_overdue(connection, 60.0) == 3
        close_all(connection, keys[:2], ACT, None, None, ())
        assert alarms.is_open(connection, holds.OVERDUE, keys) == {keys[2]}


def waiting(opened: Sequence[HoldResult], database: ControlDatabase, sleep: Callable[[float], None]) -> None:
    clock = iter(range(10_000))
    clocks = Clocks(lambda: 60.0, lambda: next(clock) / 10, sleep)
    Awaiting(database, Dead(None, unknown_suspects, 1.0), clocks).quiet(opened, 900.0)


@pytest.mark.parametrize("others", [[], [0], [600], [0, 600, 700]])
def test_the_last_of_many_is_waited_for_whatever_is_over_before(crowd: ControlDatabase, others: list[int]) -> None:
    keys = people(MANY)
    crowd.run_write(partial(members.register, member=Member("i", "", 0, 1, 1)))
    opened = Operations(crowd, STORES).hold(keys, ACT, timeout=0)
    assert not any(one.quiet for one in opened)
    pending = [keys[place] for place in [*others, MANY - 1]]
    elsewhere = schema.holds.c.mailbox.not_in(pending)
    crowd.run_write(partial(Connection.execute, statement=update(schema.holds).where(elsewhere).values(quiet_at=1.0)))
    left: list[int] = []

    def sleep(_: float) -> None:
        left.append(len(pending))
        if pending and len(left) % 20 == 0:
            crowd.run_write(partial(holds.release, key=pending.pop(0), act=ACT))

    waiting(opened, crowd, sleep)
    assert set(left) >= set(range(1, len(others) + 2))


class Following:
    """A member that follows while the command sleeps, unless it is stuck. Time passes only then."""

    def __init__(self, database: ControlDatabase, *, stuck: bool = False) -> None:
        self._database = database
        self._stuck = stuck
        self.now = 0.0
        self.behind: list[int] = []
        database.run_write(partial(members.register, member=Member("i", "", 0, 1, 1)))
        self._follow()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if not self._stuck:
            self._follow()

    def _follow(self) -> None:
        with self._database.write() as connection:
            newest, (one,) = changes.current_epoch(connection), members.all_members(connection)
            self.behind.append(newest - one.applied)
            members.acknowledge(connection, "i", newest, (), 60.0)

    def operations(self) -> Operations:
        return Operations(self._database, STORES, sleep=self.sleep, monotonic=lambda: self.now)


def test_members_follow_while_many_are_held_and_released(crowd: ControlDatabase) -> None:
    keys, member = people(MANY), Following(crowd)
    member.behind.clear()
    held = member.operations().hold(keys, ACT, timeout=9.0)
    released = member.operations().release(keys, ACT, "zimbra", timeout=9.0)
    assert all(one.quiet for one in held)
    assert all(one.applied for one in released)
    assert max(member.behind) == 1
    assert sum(member.behind) == 6


def test_a_member_that_does_not_follow_delays_the_others_once(crowd: ControlDatabase) -> None:
    keys, member = people(MANY), Following(crowd, stuck=True)
    held = member.operations().hold(keys, ACT, timeout=0)
    assert all(one.hold and [why.cause for why in one.waiting_for] == ["epoch"] for one in held)
    assert 0.5 <= member.now < 0.6
