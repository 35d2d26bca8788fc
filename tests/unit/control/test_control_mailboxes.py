from functools import partial

import pytest
from sqlalchemy import Connection

from router.control import alarms, audit, barrier, changes, edits, holds, mailboxes, requests, stores
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.edits import Edit
from router.control.holds import Terms
from router.control.mailboxes import Filter
from router.errors import Conflict, NotFound
from router.model.change import ChangeKind
from router.model.mailbox import Mailbox, Status

ANN, BOB, CAT = "ann@example.edu", "bob@example.edu", "cat@mcs.example.edu"


def get(database: ControlDatabase, key: str) -> Mailbox:
    return database.run_read(partial(mailboxes.by_key, keys=[key]))[key]


def edit(database: ControlDatabase, key: str, wanted: Edit, *, force: bool = False) -> None:
    database.run_write(partial(edits.edit, key=key, wanted=wanted, act=Act("op", "why", 5000.0), force=force))


def told(database: ControlDatabase, since: int) -> set[tuple[str, str]]:
    return {(one.kind.value, one.key) for one in database.run_read(partial(changes.since, epoch=since)).changes}


def test_find_answers_by_any_address_with_its_epoch(database: ControlDatabase) -> None:
    found = database.run_read(partial(mailboxes.find, keys=["a.ann@example.edu", CAT, "nobody@example.edu"]))
    assert found.epoch == 1
    assert {address: one.key for address, one in found.mailboxes.items()} == {"a.ann@example.edu": ANN, CAT: CAT}


def test_filters_and_pages(database: ControlDatabase, act: Act) -> None:
    database.run_write(partial(holds.open_hold, key=BOB, act=act, terms=Terms(batch="b1")))

    def listed(wanted: Filter) -> list[str]:
        found = [one.key for one in database.run_read(partial(mailboxes.listing, wanted=wanted))]
        assert len(found) == database.run_read(partial(mailboxes.count, wanted=wanted))
        return found

    assert listed(Filter(home="cliff")) == [ANN, BOB]
    assert listed(Filter(domain="mcs.example.edu")) == [CAT]
    assert listed(Filter(held=True)) == listed(Filter(batch="b1")) == [BOB]
    assert listed(Filter(held=False)) == [ANN, CAT]
    assert listed(Filter(status=Status.DISABLED)) == []
    pages = [database.run_read(partial(mailboxes.listing, wanted=Filter(), after=key, limit=2)) for key in ("", BOB)]
    assert [[one.key for one in page] for page in pages] == [[ANN, BOB], [CAT]]
    assert database.run_read(mailboxes.homes) == {"cliff": 2, "sunray": 1}
    assert database.run_read(partial(mailboxes.populated, domain="example.edu"))
    assert not database.run_read(partial(mailboxes.populated, domain="empty.example.edu"))


def test_an_edit_is_announced_audited_and_protects(database: ControlDatabase) -> None:
    edit(database, ANN, Edit(home="zimbra", status=Status.INACTIVE, target="", aliases=frozenset({"x@example.edu"})))
    ann = get(database, ANN)
    assert (ann.home, ann.status, ann.moved_at) == ("zimbra", Status.INACTIVE, 5000.0)
    assert told(database, 1) == {
        ("mailbox", ANN), ("address", "x@example.edu"), ("address", "a.ann@example.edu"),
        ("address", "ann@mcs.example.edu"),
    }  # fmt: skip
    row = database.run_read(partial(audit.rows, key=ANN))[0]
    assert (row.actor, row.reason, row.before["home"], row.after["home"]) == ("op", "why", "cliff", "zimbra")


def test_setting_what_is_set_takes_no_epoch(database: ControlDatabase) -> None:
    edit(database, BOB, Edit(home="cliff", status=Status.ACTIVE, aliases=frozenset({"b.bob@example.edu"})))
    assert told(database, 1) == set()


def test_an_unknown_status_in_the_database_is_temporary() -> None:
    assert mailboxes.status_of("frozen") is Status.INACTIVE
    assert mailboxes.status_of("") is Status.ACTIVE


def test_unknown_mailboxes_are_named(database: ControlDatabase) -> None:
    with pytest.raises(NotFound):
        edit(database, "nobody@example.edu", Edit(home="zimbra"))
    with pytest.raises(NotFound, match=r"x@example\.edu, y@example\.edu"):
        database.run_read(partial(edits.resolve, addresses=["y@example.edu", ANN, "x@example.edu"]))


def test_a_held_mailbox_keeps_its_home_unless_forced(database: ControlDatabase, act: Act) -> None:
    database.run_write(partial(holds.open_hold, key=ANN, act=act))
    with pytest.raises(Conflict, match="on hold"):
        edit(database, ANN, Edit(home="zimbra"))
    assert get(database, ANN).home == "cliff"
    edit(database, ANN, Edit(home="zimbra"), force=True)
    assert get(database, ANN).home == "zimbra"
    edit(database, ANN, Edit(status=Status.DISABLED))
    database.run_write(partial(holds.release, key=ANN, act=act))
    assert get(database, ANN).status is Status.DISABLED


def quiet(database: ControlDatabase, key: str, act: Act) -> int:
    def work(connection: Connection) -> int:
        hold = holds.open_hold(connection, key, act)
        barrier.evaluate(connection, 1.0)
        return hold.opened_epoch

    return database.run_write(work)


def test_rule_11_moving_an_address_onto_a_held_mailbox(database: ControlDatabase, act: Act) -> None:
    opened = quiet(database, ANN, act)
    wanted = Edit(aliases=frozenset({"a.ann@example.edu", "ann@mcs.example.edu", "b.bob@example.edu"}))
    with pytest.raises(Conflict):
        edit(database, ANN, wanted)
    edit(database, ANN, wanted, force=True)
    hold = get(database, ANN).hold
    assert hold is not None
    assert hold.quiet_at is None
    assert hold.opened_epoch > opened
    assert told(database, opened) == {("mailbox", ANN), ("mailbox", BOB), ("address", "b.bob@example.edu")}


def test_rule_11_moving_an_address_off_a_held_mailbox(database: ControlDatabase, act: Act) -> None:
    opened = quiet(database, ANN, act)
    wanted = Edit(aliases=frozenset({"b.bob@example.edu", "a.ann@example.edu"}))
    with pytest.raises(Conflict, match="belongs to"):
        edit(database, BOB, wanted)
    edit(database, BOB, wanted, force=True)
    hold = get(database, ANN).hold
    assert hold is not None
    assert (hold.quiet_at, hold.opened_epoch > opened) == (None, True)
    assert ("mailbox", ANN) in told(database, opened)


def test_a_canonical_address_never_moves(database: ControlDatabase) -> None:
    with pytest.raises(Conflict, match="mailbox of its own"):
        edit(database, BOB, Edit(aliases=frozenset({ANN})), force=True)


def test_pausing_a_store_is_a_change_and_idempotent(database: ControlDatabase, act: Act) -> None:
    epoch = database.run_write(partial(stores.pause, store="cliff", act=act))
    assert told(database, epoch - 1) == {("store", "cliff")}
    assert database.run_read(partial(changes.since, epoch=epoch - 1)).paused == {"cliff"}
    assert database.run_write(partial(stores.pause, store="cliff", act=act)) == epoch
    assert [one.reason for one in database.run_read(stores.paused)] == ["because"]
    assert database.run_write(partial(stores.resume, store="cliff", act=act)) == epoch + 1
    assert database.run_read(stores.paused) == []
    assert database.run_write(partial(stores.resume, store="zimbra", act=act)) == epoch + 1
    assert ChangeKind.STORE.value == "store"


def test_alarms_open_once_count_and_come_back(empty: ControlDatabase) -> None:
    def up(now: float, count: int = 1) -> bool:
        return empty.run_write(lambda c: alarms.raise_alarm(c, "loop", "k", "text", now, count))

    assert up(1.0)
    assert not up(2.0, 3)
    found = empty.run_read(alarms.open_alarms)[0]
    assert (found.first, found.last, found.count) == (1.0, 2.0, 4)
    assert empty.run_write(lambda c: alarms.clear_alarm(c, "loop", "k", 3.0))
    assert not empty.run_write(lambda c: alarms.clear_alarm(c, "loop", "k", 3.0))
    assert empty.run_read(alarms.open_alarms) == []
    assert up(4.0)
    assert empty.run_read(alarms.open_alarms)[0].first == 4.0


def test_requests_are_answered_once(empty: ControlDatabase) -> None:
    number = empty.run_write(lambda c: requests.create(c, 3, "flush", {"lane": "cliff"}, "op", 1.0))
    assert [one.payload for one in empty.run_read(lambda c: requests.waiting(c, [3]))] == [{"lane": "cliff"}]
    assert empty.run_read(lambda c: requests.waiting(c, [4])) == []
    assert empty.run_write(lambda c: requests.answer(c, number, {"count": 2}, 2.0))
    assert not empty.run_write(lambda c: requests.answer(c, number, {"count": 9}, 3.0))
    found = empty.run_read(lambda c: requests.get(c, [number]))[0]
    assert (found.state, found.answer, found.answered_at) == ("done", {"count": 2}, 2.0)


def test_the_audit_pages_and_filters(database: ControlDatabase) -> None:
    for home in ("zimbra", "cliff", "sunray"):
        edit(database, ANN, Edit(home=home))
    newest = database.run_read(partial(audit.rows, key=ANN, limit=2))
    assert [row.after["home"] for row in newest] == ["sunray", "cliff"]
    older = database.run_read(partial(audit.rows, key=ANN, verb="set", actor="op", before=newest[-1].number))
    assert [row.after["home"] for row in older] == ["zimbra"]
