"""The rules of the barrier at the level of the control database, with workers that are only callbacks."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from router.control import configuration, edits, hold_records, holds, mailboxes, members
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.edits import Edit
from router.control.holds import Terms
from router.control.members import Fenced, Member, Suspect
from router.control.operations import HoldResult, Operations
from router.errors import Conflict, NotFound
from router.model.change import ChangeKind, Ended
from router.model.mailbox import Mailbox

ANN, BOB = "ann@example.edu", "bob@example.edu"
STORES = ("cliff", "sunray", "zimbra")


def get(database: ControlDatabase, key: str = ANN) -> Mailbox:
    return database.run_read(partial(mailboxes.by_key, keys=[key]))[key]


async def hold(operations: Operations, act: Act, key: str = ANN, timeout: float = 60.0) -> HoldResult:  # noqa: ASYNC109 - the command's own
    return (await asyncio.to_thread(operations.hold, [key], act, timeout=timeout))[0]


def by_delivery(found: HoldResult) -> bool:
    return {one.cause for one in found.waiting_for} == {"delivery"}


async def blocked(
    operations: Operations,
    act: Act,
    says: Callable[[HoldResult], object] = by_delivery,
    key: str = ANN,
) -> HoldResult:
    """The hold, once its members have told what keeps it: a slow machine tells it later than that it is not quiet."""
    async with asyncio.timeout(60):
        while True:
            result = await hold(operations, act, key, timeout=0.1)
            if not result.quiet and says(result):
                return result


async def test_without_members_a_hold_is_quiet_at_once(operations: Operations, act: Act) -> None:
    result = await hold(operations, act, timeout=0)
    assert (result.quiet, result.waiting_for) == (True, ())


async def test_a_hold_is_quiet_when_every_member_has_applied_it(worker: Any, operations: Operations, act: Act) -> None:
    one, other = worker(), worker()
    await one.join(0)
    await other.join(1)
    result = await hold(operations, act)
    assert result.quiet
    for seen in (one.seen[-1], other.seen[-1]):
        assert [(change.kind, change.key) for change in seen.changes] == [(ChangeKind.MAILBOX, ANN)]
        assert seen.holds[ANN].number == result.hold


async def test_rule_9_a_silent_member_is_named_and_never_counted_out(
    database: ControlDatabase, operations: Operations, act: Act
) -> None:
    database.run_write(partial(members.register, member=Member("i", "", 3, 4711, 1)))
    result = await hold(operations, act, timeout=0.1)
    assert not result.quiet
    assert [(one.cause, one.slot, one.pid) for one in result.waiting_for] == [("epoch", 3, 4711)]
    assert "4711" in str(result.waiting_for[0])
    assert get(database).hold is not None  # durable


async def test_a_slow_acknowledgement_is_waited_for(worker: Any, operations: Operations, act: Act) -> None:
    one = worker()
    await one.join()
    one.broken = True
    pending = asyncio.create_task(hold(operations, act, timeout=60))
    await one.came.wait()
    assert not pending.done()
    one.broken = False
    assert (await pending).quiet
    assert one.outages == [True, False]


async def test_rule_2_a_delivery_in_flight_blocks_until_it_ends(
    worker: Any, operations: Operations, act: Act, flight: Any, database: ControlDatabase
) -> None:
    one = worker()
    await one.join(2)
    one.flying = [flight(ANN, 7, "sunray"), flight(BOB, 8)]
    result = await blocked(operations, act)
    (waiting,) = result.waiting_for
    assert (waiting.cause, waiting.slot, waiting.pid, waiting.queue_id) == ("delivery", 2, 4002, "Q7")
    assert (waiting.store, waiting.stage, waiting.since) == ("sunray", "dot", 990.0)
    one.follower.ended([Ended(8), Ended(99)])  # others do not matter
    assert not (await hold(operations, act, timeout=0.1)).quiet
    one.follower.ended([Ended(7)])
    result = await hold(operations, act)
    assert (result.quiet, result.in_doubt) == (True, ())


async def test_rule_7_a_delivery_in_doubt_is_recorded_and_listed(
    worker: Any, operations: Operations, act: Act, flight: Any
) -> None:
    one = worker()
    await one.join()
    one.flying = [flight(ANN, 7)]
    await blocked(operations, act)
    one.follower.ended([Ended(7, in_doubt=True, message_id="<m@x>")])
    result = await hold(operations, act)
    assert result.quiet
    (doubt,) = result.in_doubt
    assert (doubt.queue_id, doubt.message_id, doubt.store, doubt.time) == ("Q7", "<m@x>", "cliff", 990.0)
    released = await asyncio.to_thread(operations.release, [ANN], act, "zimbra")
    assert released[0].in_doubt == (doubt,)


async def test_a_delivery_of_one_entry_may_name_several_mailboxes(
    worker: Any, operations: Operations, act: Act, flight: Any
) -> None:
    one = worker()
    await one.join()
    one.flying = [flight(ANN, 7), flight(BOB, 7)]
    await blocked(operations, act)
    await blocked(operations, act, key=BOB)
    one.follower.ended([Ended(7)])
    assert (await hold(operations, act)).quiet
    assert (await hold(operations, act, BOB)).quiet


async def test_rule_3_another_configuration_blocks(
    worker: Any, operations: Operations, act: Act, database: ControlDatabase
) -> None:
    one = worker()
    await one.join(fingerprint="old")
    database.run_write(partial(configuration.publish, fingerprint="new", act=act))
    result = await blocked(operations, act, lambda found: [one.cause for one in found.waiting_for] == ["configuration"])
    assert "another configuration" in str(result.waiting_for[0])
    await one.follower.reconfigure("new")
    assert (await hold(operations, act)).quiet


async def test_members_must_agree_while_no_configuration_was_published(
    worker: Any, operations: Operations, act: Act
) -> None:
    one, other = worker(), worker()
    await one.join(0, fingerprint="a")
    await other.join(1, fingerprint="b")
    assert not (await hold(operations, act, timeout=0.2)).quiet
    await other.follower.reconfigure("a")
    assert (await hold(operations, act)).quiet


async def test_rule_5_a_member_that_registered_blocks_before_it_has_read(
    database: ControlDatabase, operations: Operations, act: Act, worker: Any
) -> None:
    reading = asyncio.Event()
    go = asyncio.Event()
    one = worker()
    join = one.on_join

    async def slow(snapshot: Any) -> Any:
        reading.set()
        await go.wait()
        return await join(snapshot)

    one.on_join = slow
    joining = asyncio.create_task(one.join())
    await reading.wait()
    assert not (await hold(operations, act, timeout=0.2)).quiet  # its snapshot is older than this hold
    go.set()
    snapshot = await joining
    assert ANN not in snapshot.held
    assert (await hold(operations, act)).quiet
    assert one.seen[0].holds[ANN] is not None


async def test_a_member_that_joins_during_a_hold_knows_it(worker: Any, operations: Operations, act: Act) -> None:
    await hold(operations, act)
    snapshot = await worker().join()
    assert snapshot.held == {ANN}
    assert len(snapshot.mark_keys) == 2
    assert not snapshot.takeover
    assert (await hold(operations, act, BOB)).quiet


async def test_no_change_comes_before_the_snapshot_was_applied(
    worker: Any, database: ControlDatabase, act: Act
) -> None:
    """What the caller does right after `join`, before its next await, precedes the first change."""
    for slot in range(5):
        one = worker()
        opened = asyncio.create_task(asyncio.to_thread(database.run_write, partial(holds.open_hold, key=ANN, act=act)))
        await one.join(slot)
        assert one.seen == []
        await opened
        await asyncio.to_thread(database.run_write, partial(holds.release, key=ANN, act=act))


async def test_rule_8_a_successor_is_told_of_an_unclean_end(
    worker: Any, operations: Operations, act: Act, flight: Any, database: ControlDatabase
) -> None:
    dead = worker()
    await dead.join(0, "first")
    dead.flying = [flight(ANN, 7)]
    await blocked(operations, act)
    await dead.follower.stop(clean=False)
    successor = worker()
    successor.doubtful = [flight(ANN, 1, stage="taken over")]
    snapshot = await successor.join(0, "second")
    assert snapshot.takeover
    found = database.run_read(members.all_members)
    assert [one.incarnation for one in found] == ["second"]
    await blocked(operations, act, lambda found: [one.stage for one in found.waiting_for] == ["taken over"])
    successor.follower.ended([Ended(1, in_doubt=True)])
    assert (await hold(operations, act)).quiet


async def test_a_clean_end_leaves_no_member(worker: Any, database: ControlDatabase) -> None:
    one = worker()
    await one.join()
    await one.follower.stop()
    assert database.run_read(members.all_members) == []
    assert not (await worker().join(0, "next")).takeover


async def test_an_orphaned_spool_is_adopted_with_its_doubts(
    worker: Any, operations: Operations, act: Act, flight: Any, database: ControlDatabase
) -> None:
    database.run_write(partial(members.register, member=Member("dead", "", 9, 1, 9, 0, "f")))
    one = worker()
    await one.join()
    assert not (await hold(operations, act, timeout=0.1)).quiet
    assert await one.follower.adopt(9, [flight(ANN, 50)])
    await blocked(operations, act, lambda found: [waiting.queue_id for waiting in found.waiting_for] == ["Q50"])
    one.follower.ended([Ended(50, in_doubt=True)])
    assert (await hold(operations, act)).quiet


@pytest.mark.slow
async def test_a_command_counts_a_dead_member_out_and_waits_for_settle(database: ControlDatabase, act: Act) -> None:
    wall = [1000.0]
    suspects = [Suspect(ANN, "Q1", "<m@x>", "cliff")]
    operations = Operations(
        database, STORES, lock_probe=lambda _: True, suspects=lambda _: suspects, settle=60, wall=lambda: wall[0]
    )  # fmt: skip
    database.run_write(partial(members.register, member=Member("dead", "", 0, 1, 1)))
    for _ in range(10):  # in a pause of the machine it is over before the dead one is looked at
        both = await asyncio.to_thread(operations.hold, [ANN, BOB], act, timeout=1.5)
        if both[1].quiet:
            break
    assert [one.quiet for one in both] == [False, True]  # nothing of Bob's was queued there
    assert [(one.stage, one.until, one.pid) for one in both[0].waiting_for] == [("dead", 1060.0, None)]
    assert "dead worker" in str(both[0].waiting_for[0])
    wall[0] = 1061.0
    result = await hold(operations, act)
    assert result.quiet
    assert [(one.queue_id, one.message_id) for one in result.in_doubt] == [("Q1", "<m@x>")]


@pytest.mark.slow
async def test_a_dead_member_without_a_list_of_suspects_blocks_every_hold(database: ControlDatabase, act: Act) -> None:
    operations = Operations(database, STORES, lock_probe=lambda _: True, settle=3600)
    database.run_write(partial(members.register, member=Member("dead", "", 0, 1, 1)))
    assert not (await hold(operations, act, timeout=0.8)).quiet
    assert not (await hold(operations, act, BOB, timeout=0.1)).quiet


def test_too_many_suspects_block_every_hold(database: ControlDatabase, act: Act) -> None:
    database.run_write(partial(members.register, member=Member("dead", "", 0, 1, 1)))
    many = [Suspect(f"u{number}@example.edu", "Q") for number in range(members.SUSPECTS + 1)]
    take = partial(members.take_over, incarnation="dead", suspects=many, until=2e9, now=1.0)
    assert database.run_write(take)
    assert not database.run_write(take)
    assert not Operations(database, STORES).hold([ANN], act, timeout=0)[0].quiet


async def test_the_barrier_of_anybody_is_evaluated_without_a_waiting_command(
    worker: Any, database: ControlDatabase, act: Act, until: Any
) -> None:
    one = worker()
    await one.join()
    database.run_write(partial(holds.open_hold, key=ANN, act=act, terms=Terms(origin="directory")))
    await until(lambda: get(database).hold.quiet_at is not None)  # type: ignore[union-attr]


async def test_rule_11_the_barrier_runs_again_after_a_forced_move_of_an_address(
    worker: Any, operations: Operations, act: Act, flight: Any, database: ControlDatabase
) -> None:
    one = worker()
    await one.join()
    assert (await hold(operations, act)).quiet
    one.flying = [flight(ANN, 9)]  # the address it is for has become Ann's
    wanted = Edit(aliases=frozenset({"b.bob@example.edu", "a.ann@example.edu", "ann@mcs.example.edu"}))
    database.run_write(partial(edits.edit, key=ANN, wanted=wanted, act=act, force=True))
    await blocked(operations, act)
    one.follower.ended([Ended(9)])
    assert (await hold(operations, act)).quiet


async def test_release_returns_when_it_is_applied(
    worker: Any, operations: Operations, act: Act, database: ControlDatabase
) -> None:
    one = worker()
    await one.join()
    held = await hold(operations, act)
    (result,) = await asyncio.to_thread(operations.release, [ANN], act, "zimbra")
    assert (result.home_before, result.home, result.released, result.applied) == ("cliff", "zimbra", True, True)
    assert one.seen[-1].holds == {ANN: None}
    record = database.run_read(partial(hold_records.get, number=held.hold))
    assert (record.released_to, record.closed_by, record.home_before) == ("zimbra", "tester", "cliff")


async def test_release_names_members_that_have_not_applied_it(
    database: ControlDatabase, operations: Operations, act: Act
) -> None:
    await hold(operations, act)
    database.run_write(partial(members.register, member=Member("i", "", 0, 4711, 1)))
    (result,) = await asyncio.to_thread(operations.release, [ANN], act, timeout=0.1)
    assert (result.released, result.applied, [one.pid for one in result.waiting_for]) == (True, False, [4711])
    assert get(database).hold is None


def test_release_is_idempotent_and_its_opposite_a_conflict(
    operations: Operations, act: Act, database: ControlDatabase
) -> None:
    operations.hold([ANN], act)
    assert operations.release([ANN], act, "zimbra")[0].released
    moved = get(database).moved_at
    assert moved == act.at
    again = operations.release([ANN], act, "zimbra")[0]
    assert (again.released, again.applied, again.error) == (False, True, "")
    assert "not on hold" in operations.release([ANN], act, "cliff")[0].error
    assert operations.release([BOB], act)[0].error == ""


def test_the_postmaster_is_never_held(database: ControlDatabase, act: Act) -> None:
    operations = Operations(database, STORES, never_held=[ANN])
    refused, held = operations.hold(["a.ann@example.edu", BOB], act)
    assert "postmaster" in refused.error
    assert held.quiet


def test_unknown_addresses_and_stores_change_nothing(
    operations: Operations, database: ControlDatabase, act: Act
) -> None:
    with pytest.raises(NotFound):
        operations.hold([ANN, "nobody@example.edu"], act)
    assert get(database).hold is None
    with pytest.raises(NotFound, match="mars"):
        operations.release([ANN], act, "mars")
    with pytest.raises(NotFound, match="mars"):
        operations.move(ANN, "mars", act)


def test_a_move_flips_only_after_the_copy(operations: Operations, database: ControlDatabase, act: Act) -> None:
    during: list[Mailbox] = []

    def copy(result: HoldResult) -> int:
        assert result.quiet
        during.append(get(database))
        return 0

    moved = operations.move(ANN, "zimbra", act, run=copy)
    assert during[0].home == "cliff"
    assert during[0].hold is not None
    assert moved.release is not None
    assert moved.release.home == get(database).home == "zimbra"


def test_a_failing_copy_leaves_the_hold(operations: Operations, database: ControlDatabase, act: Act) -> None:
    result = operations.move(ANN, "zimbra", act, run=lambda _: 3)
    assert (result.status, result.release) == (3, None)
    assert get(database).hold is not None
    assert get(database).home == "cliff"
    with pytest.raises(Conflict, match="move to zimbra"):
        operations.move(ANN, "sunray", act)


def test_inv_28_a_hold_ended_by_somebody_else_stops_the_move(
    operations: Operations, database: ControlDatabase, act: Act
) -> None:
    def copy(_: HoldResult) -> int:
        operations.release([ANN], act)
        operations.hold([ANN], act)
        return 0

    with pytest.raises(Conflict, match="ended meanwhile"):
        operations.move(ANN, "zimbra", act, run=copy)
    assert get(database).home == "cliff"


def test_a_barrier_opened_again_during_the_copy_stops_the_move(
    operations: Operations, database: ControlDatabase, act: Act
) -> None:
    def copy(_: HoldResult) -> int:
        database.run_write(partial(members.register, member=Member("i", "", 0, 1, 1)))
        wanted = Edit(aliases=frozenset({"new@example.edu"}))
        database.run_write(partial(edits.edit, key=ANN, wanted=wanted, act=act, force=True))
        return 0

    with pytest.raises(Conflict, match="opened again"):
        operations.move(ANN, "zimbra", act, run=copy)
    assert get(database).home == "cliff"


async def test_a_hold_ended_while_it_is_waited_for_says_so(
    database: ControlDatabase, operations: Operations, act: Act
) -> None:
    database.run_write(partial(members.register, member=Member("i", "", 0, 1, 1)))
    waiting = asyncio.create_task(hold(operations, act, timeout=60))
    while get(database).hold is None:  # noqa: ASYNC110 - another thread brings it about
        await asyncio.sleep(0.005)
    await asyncio.to_thread(database.run_write, partial(holds.release, key=ANN, act=act))
    result = await waiting
    assert (result.ended, result.quiet) == (True, False)


def test_a_deadline_raises_one_alarm_and_nothing_else(database: ControlDatabase, act: Act) -> None:
    database.run_write(partial(holds.open_hold, key=ANN, act=act, terms=Terms(deadline=2000.0)))
    late: Callable[[float], int] = lambda now: database.run_write(partial(holds.alarm_overdue, now=now))  # noqa: E731
    assert [late(1999.0), late(2001.0), late(2002.0)] == [0, 1, 0]
    assert get(database).hold is not None


def test_a_member_that_was_counted_out_is_fenced(database: ControlDatabase) -> None:
    with pytest.raises(Fenced):
        database.run_write(partial(members.acknowledge, incarnation="gone", epoch=1, rows=(), now=1.0))
    with pytest.raises(Fenced):
        database.run_write(partial(members.reconfigure, incarnation="gone", fingerprint="f", now=1.0))
    with pytest.raises(Fenced):
        database.run_write(partial(members.adopt, incarnation="gone", spool=1, rows=(), now=1.0))


async def test_a_hold_of_many_writes_by_the_slice_and_not_by_the_mailbox(
    database: ControlDatabase, operations: Operations, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write transaction stands in the way of acknowledgements and of imports."""
    writes: list[object] = []
    write = database.run_write

    def counted(work: Callable[..., Any], *more: Any) -> Any:
        writes.append(work)
        return write(work, *more)

    monkeypatch.setattr(ControlDatabase, "run_write", lambda _self, work, *more: counted(work, *more))
    results = await asyncio.to_thread(operations.hold, [ANN, BOB], act, timeout=0)
    assert [one.quiet for one in results] == [True, True]
    assert len(writes) == 1
