import asyncio
import itertools
import multiprocessing
import sqlite3
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from router.control import alarms, backup, barrier, changes, edits, holds, members, requests, schema, stores
from router.control.alarm_box import KEPT, AlarmBox
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.lookups import DatabaseLookups
from router.control.members import Member
from router.control.mirror import Mirror
from router.control.tail import Tail
from router.errors import ControlUnavailable, LookupFailed
from router.model.change import ChangeKind, Ended
from router.model.directory import Cookie

ANN, BOB = "ann@example.edu", "bob@example.edu"


def pause(database: ControlDatabase, act: Act, store: str = "cliff") -> int:
    return database.run_write(partial(stores.pause, store=store, act=act))


def hold_in_another_process(url: str) -> None:
    database = ControlDatabase.open(url)
    database.run_write(partial(holds.open_hold, key=ANN, act=Act("other", "process", 1.0)))
    database.close()


@pytest.mark.slow
async def test_a_commit_of_another_process_is_seen(
    worker: Any, url: str, until: Any, database: ControlDatabase
) -> None:
    one = worker()
    await one.join()
    process = multiprocessing.get_context("spawn").Process(target=hold_in_another_process, args=(url,))
    process.start()
    await until(lambda: one.seen, 20)
    await asyncio.to_thread(process.join)
    assert one.seen[0].holds[ANN].actor == "other"
    await until(lambda: database.run_read(partial(members.applied_everywhere, epoch=one.seen[0].epoch)))


async def test_changes_come_in_order_and_once(worker: Any, database: ControlDatabase, act: Act, until: Any) -> None:
    one = worker()
    start = (await one.join()).epoch
    for number in range(5):
        await asyncio.to_thread(pause, database, act, f"s{number}")
    await until(lambda: one.seen and one.seen[-1].epoch == start + 5)
    told = [(change.epoch, change.kind, change.key) for found in one.seen for change in found.changes]
    assert told == [(start + 1 + number, ChangeKind.STORE, f"s{number}") for number in range(5)]
    assert one.seen[-1].paused == {f"s{number}" for number in range(5)}


async def test_a_change_that_the_worker_cannot_apply_is_not_acknowledged(
    worker: Any, database: ControlDatabase, act: Act, until: Any
) -> None:
    one = worker()
    await one.join()
    one.broken = True
    epoch = pause(database, act)
    await until(lambda: one.outages == [True])
    assert not database.run_read(partial(members.applied_everywhere, epoch=epoch))
    one.broken = False
    await until(lambda: one.outages == [True, False])
    assert database.run_read(partial(members.applied_everywhere, epoch=epoch))


async def test_a_locked_database_is_no_outage_prc11(
    worker: Any, database: ControlDatabase, act: Act, until: Any
) -> None:
    one = worker()
    await one.join()
    release = threading.Event()
    locked = threading.Event()

    def hog() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE site SET created_at = 1")
            connection.exec_driver_sql("PRAGMA user_version")
            locked.set()
            release.wait()

    thread = threading.Thread(target=hog)
    thread.start()
    await asyncio.to_thread(locked.wait)
    one.follower.raise_alarm("k", "x", "text")
    await asyncio.sleep(0.3)
    assert one.outages == []
    release.set()
    await asyncio.to_thread(thread.join)
    await until(lambda: database.run_read(alarms.open_alarms))


async def test_an_unreadable_database_is_an_outage_and_ends(
    worker: Any, database: ControlDatabase, act: Act, until: Any, tmp_path: Path
) -> None:
    assert database.path is not None
    one = worker()
    await one.join()
    database.path.rename(tmp_path / "away.db")
    await until(lambda: one.outages == [True])
    (tmp_path / "away.db").rename(database.path)
    await until(lambda: one.outages == [True, False])
    epoch = pause(database, act)
    await until(lambda: one.seen and one.seen[-1].epoch == epoch)


async def test_a_replaced_database_fences_the_member(
    worker: Any, database: ControlDatabase, until: Any, tmp_path: Path
) -> None:
    """Whoever holds a mailbox in the new file gets no acknowledgement from here, so nothing may be delivered."""
    assert database.path is not None
    one = worker()
    await one.join()
    backup.backup(database, tmp_path / "copy.db")
    (tmp_path / "copy.db").rename(database.path)
    await until(lambda: one.outages == [True])
    assert one.follower.fenced
    with pytest.raises(ControlUnavailable):
        await one.follower.reconfigure("g")


@pytest.mark.parametrize("column", [schema.site.c.uuid, schema.counter.c.value])
async def test_another_or_an_older_database_fences_the_member(
    worker: Any, database: ControlDatabase, until: Any, column: Any
) -> None:
    one = worker()
    await one.join()
    with database.write() as connection:
        connection.execute(update(column.table).values({column: 0}))
    await until(lambda: one.outages == [True])
    assert one.follower.fenced


async def test_a_member_that_was_removed_is_fenced(
    worker: Any, database: ControlDatabase, act: Act, until: Any
) -> None:
    one = worker()
    await one.join()
    take = partial(members.take_over, incarnation="inc-0", suspects=(), until=0.0, now=0.0)
    assert await asyncio.to_thread(database.run_write, take)
    pause(database, act)
    await until(lambda: one.follower.fenced)


async def test_requests_are_done_and_answered(worker: Any, database: ControlDatabase, until: Any) -> None:
    def ask(spool: int, kind: str) -> int:
        return database.run_write(lambda c: requests.create(c, spool, kind, {}, "op", 1.0))

    earlier = ask(1, "flush")
    one = worker()
    await one.join()
    numbers = [earlier, ask(1, "delete"), ask(1, "explode")]
    foreign = ask(2, "flush")

    def answered() -> list[requests.Request]:
        found = database.run_read(lambda c: requests.get(c, [*numbers, foreign]))
        return [request for request in found if request.answered_at is not None]

    await until(lambda: len(answered()) == 3)
    assert [(one.state, one.answer) for one in answered()] == [
        ("done", {"did": "flush", "spool": 1}),
        ("done", {"did": "delete", "spool": 1}),
        ("failed", {"error": "ValueError"}),
    ]
    assert len(one.requests) == 3


async def test_requests_are_done_in_their_order_though_the_first_takes_longest(
    worker: Any, database: ControlDatabase, until: Any
) -> None:
    numbers = [database.run_write(lambda c: requests.create(c, 1, "flush", {}, "op", 1.0)) for _ in range(3)]
    done: list[int] = []

    async def slow(request: requests.Request) -> object:
        await asyncio.sleep(0.05 if request.number == numbers[0] else 0)
        done.append(request.number)
        return {}

    one = worker()
    one.follower._on_request = slow
    await one.join()
    await until(lambda: len(done) == 3)
    assert done == numbers


async def test_answers_that_nobody_waits_for_any_more_go_with_a_later_question(database: ControlDatabase) -> None:
    old, fresh, open_still = (
        database.run_write(lambda c: requests.create(c, 1, "flush", {}, "me", 0.0)) for _ in range(3)
    )
    database.run_write(lambda c: requests.answer(c, old, 1, 0.0))
    database.run_write(lambda c: requests.answer(c, fresh, 1, 100.0))
    drafted = database.run_write(lambda c: requests.create(c, 1, "flush", {}, "me", 0.0, state=requests.DRAFT))
    later = requests.ANSWERS_KEPT + 50.0
    database.run_write(lambda c: requests.ask(c, [drafted], later))
    left = database.run_read(lambda c: requests.get(c, [old, fresh, open_still]))
    assert [one.number for one in left] == [fresh, open_still], "what is not answered stays, however old"


async def test_drafts_are_seen_by_nobody_until_they_are_asked_for_together(database: ControlDatabase) -> None:
    def draft(now: float) -> int:
        return database.run_write(lambda c: requests.create(c, 1, "park", {}, "op", now, state=requests.DRAFT))

    old, numbers = draft(1.0), [draft(500_000.0), draft(500_000.0)]
    assert not database.run_read(lambda c: requests.waiting(c, [1]))
    database.run_write(lambda c: requests.ask(c, numbers, 500_001.0))
    assert [one.number for one in database.run_read(lambda c: requests.waiting(c, [1]))] == numbers
    assert not database.run_read(lambda c: requests.get(c, [old])), "of a command that was killed"


async def test_asking_leaves_the_requests_of_others_alone(database: ControlDatabase) -> None:
    """A worker that was down for days still finds what it was asked for; a draft of somebody else stays one."""

    def made(state: str, now: float) -> int:
        return database.run_write(lambda c: requests.create(c, 1, "park", {}, "op", now, state=state))

    waiting, answered = made(requests.NEW, 1.0), made(requests.NEW, 1.0)
    database.run_write(lambda c: requests.answer(c, answered, {"count": 1}, 2.0))
    theirs, mine = made(requests.DRAFT, 500_000.0), made(requests.DRAFT, 500_000.0)
    database.run_write(lambda c: requests.ask(c, [mine, answered], 500_001.0))
    found = database.run_read(lambda c: requests.get(c, [waiting, answered, theirs, mine]))
    assert {one.number: one.state for one in found} == {
        waiting: requests.NEW,
        answered: requests.DONE,
        theirs: requests.DRAFT,
        mine: requests.NEW,
    }


async def test_more_requests_than_fit_at_once_are_all_answered(
    worker: Any, database: ControlDatabase, until: Any
) -> None:
    with database.write() as connection:
        for _ in range(120):
            requests.create(connection, 1, "flush", {}, "op", 1.0)
    one = worker()
    await one.join()
    await until(lambda: not database.run_read(lambda c: requests.waiting(c, [1])), 60)
    assert len(one.requests) == 120


async def test_alarms_are_counted_and_written_together(worker: Any, database: ControlDatabase, until: Any) -> None:
    one = worker()
    await one.join()
    for _ in range(100):
        one.follower.raise_alarm("loop", "m", "text")
    one.follower.raise_alarm("disk", "", "text")
    one.follower.clear_alarm("disk", "")
    await until(lambda: database.run_read(alarms.open_alarms))
    (found,) = database.run_read(alarms.open_alarms)
    assert (found.kind, found.count) == ("loop", 100)


def test_the_alarm_box_is_bounded_and_gives_back() -> None:
    box = AlarmBox()
    for number in range(KEPT + 5):
        box.put("kind", str(number), "text")
    taken = box.take()
    assert len(taken) == KEPT + 1
    assert taken[-1].key == "*"
    assert taken[-1].count == 5
    assert not box
    box.put("kind", "0", "newer")
    box.give_back(taken[:1])
    assert [(one.text, one.count) for one in box.take()] == [("newer", 2)]


async def test_ended_entries_that_never_blocked_cost_nothing(worker: Any, database: ControlDatabase) -> None:
    one = worker()
    await one.join()
    before = database.watch()
    await asyncio.sleep(0.02)
    while before.changed():  # noqa: ASYNC110 - what joining writes may come late, and from another thread
        await asyncio.sleep(0.1)
    one.follower.ended([Ended(number) for number in range(1000)])
    await asyncio.sleep(0.05)
    assert not before.changed()
    before.close()


async def test_joining_an_unusable_database_fails(worker: Any, database: ControlDatabase) -> None:
    one = worker()
    with database.write() as connection:
        connection.execute(schema.site.delete())
    with pytest.raises(ControlUnavailable):
        await one.join()
    await one.follower.stop()


async def test_unanswered_acknowledgements_survive_an_outage(
    worker: Any, database: ControlDatabase, act: Act, flight: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocking rows that a worker named once are not asked for again: they must not get lost."""
    one = worker()
    await one.join()
    one.flying = [flight(ANN, 5)]
    real, failed = members.acknowledge, threading.Event()

    def broken(*_: Any, **__: Any) -> int:
        failed.set()
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(members, "acknowledge", broken)
    database.run_write(partial(holds.open_hold, key=ANN, act=act))
    await asyncio.to_thread(failed.wait)
    one.flying = []
    monkeypatch.setattr(members, "acknowledge", real)
    await until(lambda: one.outages == [True, False])
    with database.read() as connection:
        assert connection.execute(select(schema.blocking.c.mailbox)).scalars().all() == [ANN]
    assert len(one.seen) == 1
    one.follower.ended([Ended(5)])
    await until(lambda: not database.run_read(barrier.pending))


async def test_only_what_nobody_waits_for_is_acknowledged_later_where_many_write(
    worker: Any, database: ControlDatabase, act: Act, until: Any
) -> None:
    one = worker()
    await one.join()
    one.follower._tail._rest_until = time.monotonic() + 60
    wanted = partial(edits.edit, key=BOB, wanted=edits.Edit(home="zimbra"), act=act)
    database.run_write(wanted)
    moved = database.run_read(changes.current_epoch)
    await until(lambda: one.seen and one.seen[-1].epoch == moved)
    await asyncio.sleep(0.1)
    assert not database.run_read(partial(members.applied_everywhere, epoch=moved))
    database.run_write(partial(holds.open_hold, key=ANN, act=act))
    await until(lambda: not database.run_read(barrier.pending))
    paused = pause(database, act)
    await until(lambda: database.run_read(partial(members.applied_everywhere, epoch=paused)))


def test_an_acknowledgement_that_had_to_wait_leaves_the_database_to_others_for_a_while(
    database: ControlDatabase,
) -> None:
    port: Any = None
    member = Member("inc", "", 0, 1, 1)
    database.run_write(partial(members.register, member=member))
    tail = Tail(database, member, port, poll=0.01, wall=time.time)
    locked, release = threading.Event(), threading.Event()

    def hog() -> None:
        with database.write():
            locked.set()
            release.wait(60)

    def applied() -> int:
        return int(database.run_read(members.all_members)[0].applied)

    for _ in range(10):  # the machine may pause before it begins to wait, or for longer than it waits
        locked.clear()
        release.clear()
        thread = threading.Thread(target=hog)
        thread.start()
        locked.wait(60)
        threading.Timer(0.1, release.set).start()
        tail._unsent = (1, ())
        began = time.monotonic()
        with suppress(ControlUnavailable):
            tail._acknowledge()
        release.set()
        thread.join()
        if tail._rest_until > began:
            break
    assert began < tail._rest_until <= time.monotonic() + 0.1
    assert applied() == 1
    tail._rest_until += 60  # as if that while were long
    tail._unsent = (2, ())
    tail._acknowledge()
    assert applied() == 1
    tail._acknowledge(at_once=True)
    assert applied() == 2


async def test_find_and_populated_through_the_follower(worker: Any) -> None:
    one = worker()
    found = await one.follower.find(["a.ann@example.edu", "nobody@example.edu"])
    assert {key: mailbox.key for key, mailbox in found.mailboxes.items()} == {"a.ann@example.edu": ANN}
    assert await one.follower.populated("example.edu")
    assert not await one.follower.populated("example.org")


async def test_lookups_are_gathered_and_each_gets_its_own(database: ControlDatabase) -> None:
    lookups = DatabaseLookups(database, threads=1)
    answers = await asyncio.gather(*(lookups.find([key]) for key in (ANN, BOB, "x@example.edu") * 50))
    assert [list(found.mailboxes) for found in answers] == [[ANN], [BOB], []] * 50
    cancelled = asyncio.create_task(lookups.find([ANN]))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert (await lookups.find([BOB])).mailboxes[BOB].home == "cliff"
    lookups.close()


async def test_a_lookup_that_fails_is_temporary(database: ControlDatabase) -> None:
    lookups = DatabaseLookups(database)
    with database.write() as connection:
        connection.execute(schema.counter.delete())
        connection.exec_driver_sql("DROP TABLE addresses")
    with pytest.raises(LookupFailed):
        await lookups.find([ANN])
    with pytest.raises(LookupFailed):
        await lookups.populated("example.edu")
    lookups.close()


async def test_following_does_not_stall_the_loop(worker: Any, database: ControlDatabase, act: Act) -> None:
    one = worker()
    await one.join()
    names = map(str, itertools.count())

    def many() -> None:
        for _ in range(20):
            pause(database, act, f"s{next(names)}")

    for _ in range(10):  # the machine may pause in some of them
        work = asyncio.create_task(asyncio.to_thread(many))
        worst = 0.0
        while not work.done():
            begun = time.monotonic()
            await asyncio.sleep(0.001)
            worst = max(worst, time.monotonic() - begun)
        if worst < 0.5:
            break
    assert worst < 0.5
    assert changes.LIMIT > 0


async def test_an_unknown_error_is_an_outage_and_the_thread_lives_on(
    worker: Any, database: ControlDatabase, act: Act, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = worker()
    await one.join()
    with monkeypatch.context() as patched:
        patched.setattr(changes, "since", lambda *_: 1 / 0)
        epoch = pause(database, act)
        await until(lambda: one.outages == [True])
    await until(lambda: one.outages == [True, False])
    assert database.run_read(partial(members.applied_everywhere, epoch=epoch))


def test_a_loop_that_ends_without_a_stop_leaves_the_row_of_the_member(database: ControlDatabase, act: Act) -> None:
    """As after a crash: the successor takes over."""
    from router.control.follower import Follower  # noqa: PLC0415 - the other tests use the fixture

    follower = Follower(database, on_changes=lambda _: (), on_outage=lambda _: None, poll=0.005)
    asyncio.run(follower.join(0, "i", 1, 1, "f"))
    pause(database, act)
    thread = follower._thread
    assert thread is not None
    thread.join(60)
    assert not thread.is_alive()
    assert [one.incarnation for one in database.run_read(members.all_members)] == ["i"]


async def test_the_state_of_directories_is_told_when_it_moves(
    database: ControlDatabase, worker: Any, until: Any, act: Act
) -> None:
    """Without an epoch, and without an acknowledgement: nothing of a route has changed."""
    mirror = Mirror(database, "ldap", ("database", "ldap"), wall=lambda: 5000.0)
    one: Any = worker()
    snapshot = await one.join()
    assert [(state.source, state.followed_at) for state in snapshot.directories] == [("ldap", None)]
    await asyncio.to_thread(mirror.followed, Cookie("a", "1"))
    await until(lambda: one.seen)
    (found,) = one.seen
    assert (found.epoch, found.changes) == (snapshot.epoch, ())
    assert [(state.followed_at, state.fault) for state in found.directories] == [(5000.0, "")]
    await asyncio.to_thread(pause, database, act)
    await until(lambda: len(one.seen) > 1)
    assert one.seen[-1].directories is None
    await asyncio.to_thread(mirror.fault, "no answer")
    await until(lambda: one.seen[-1].directories is not None)
    last: Any = one.seen[-1]
    assert [found.fault for found in last.directories] == ["no answer"]
