"""What a complete sweep did not find is gone, unless too many are: then it is a fault of the directory."""

from functools import partial

import pytest
from support.people import People

from router.control import alarms, following, losses, mailboxes, schema
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.mirror import Mirror
from router.control.sweep import HANDFUL, Swept
from router.errors import NotFound
from router.model.change import ChangeKind
from router.model.directory import Cookie, DirectoryItem, Standing, Unplaced
from router.model.mailbox import Found, Status

ANN = "ann@example.edu"
ACT = Act("operator", "they left", 6000.0)


def mirror(database: ControlDatabase, max_loss: float = 0.1) -> Mirror:
    return Mirror(database, "ldap", ("database", "ldap"), max_loss=max_loss, wall=lambda: 5000.0, sleep=lambda _: None)


def sweep(one: Mirror, items: list[DirectoryItem]) -> Swept:
    one.begin_sweep()
    one.swept(items)
    return one.end_sweep()


def find(database: ControlDatabase, *keys: str) -> Found:
    return database.run_read(partial(mailboxes.find, keys=keys))


def alarmed(database: ControlDatabase, kind: str) -> dict[str, str]:
    return {one.key: one.text for one in database.run_read(alarms.open_alarms) if one.kind == kind}


def crowd(count: int, domain: str = "example.edu") -> People:
    people = People()
    for number in range(count):
        people.add(f"user{number:03d}@{domain}")
    return people


def without(people: People, count: int) -> list[DirectoryItem]:
    """All but the first `count`."""
    return people.items(list(people.people)[count:])


def test_who_left_is_gone(empty: ControlDatabase) -> None:
    people = crowd(20)
    one = mirror(empty)
    one.apply(people.items())
    result = sweep(one, without(people, 2))
    assert (result.seen, result.removed, result.losses) == (18, 2, ())
    found = find(empty, "user000@example.edu", "user002@example.edu")
    assert list(found.mailboxes) == ["user002@example.edu"]
    assert found.doubtful == {}
    (state,) = empty.run_read(following.states)
    assert (state.people, state.swept_at) == (18, 5000.0)
    with empty.read() as connection:
        assert connection.execute(schema.directory_claims.select()).all()[0].address == "user002@example.edu"
        assert len(connection.execute(schema.mailboxes.select()).all()) == 18


def test_a_sweep_that_did_not_end_removes_nothing(empty: ControlDatabase) -> None:
    people = crowd(3)
    one = mirror(empty)
    one.apply(people.items())
    one.begin_sweep()
    one.swept(without(people, 2))
    sweep(mirror(empty), people.items())
    assert len(find(empty, *(f"user00{n}@example.edu" for n in range(3))).mailboxes) == 3


def test_who_was_read_since_the_sweep_began_is_not_gone(empty: ControlDatabase) -> None:
    """Also by another process: a miss in a worker."""
    people = crowd(3)
    one, worker = mirror(empty), mirror(empty)
    one.apply(people.items())
    one.begin_sweep()
    one.swept(without(people, 1))
    first = next(iter(people.people))
    people.modify(first, host="zimbra1.example.edu")
    worker.apply(people.items([first]))
    new = people.add("new")
    worker.apply(people.items([new]))
    assert one.end_sweep().removed == 0
    assert len(find(empty, "user000@example.edu", "new@example.edu").mailboxes) == 2


def test_many_who_were_read_since_are_no_loss(empty: ControlDatabase) -> None:
    people = crowd(20)
    one, worker = mirror(empty), mirror(empty)
    one.apply(people.items())
    one.begin_sweep()
    one.swept(without(people, 10))
    late = list(people.people)[:10]
    for dn in late:
        people.modify(dn)
    worker.apply(people.items(late))
    assert (one.end_sweep().losses, find(empty, "x@example.edu").doubtful) == ((), {})


def test_who_is_read_while_the_missing_are_removed_stays(empty: ControlDatabase) -> None:
    people = crowd(1)
    one, worker = mirror(empty), mirror(empty)
    one.apply(people.items())
    one.begin_sweep()
    people.modify(next(iter(people.people)))
    worker.apply(people.items())
    taken = empty.run_write(partial(one._remove, numbers=[1], generation=1))
    assert taken.changed == 0
    assert find(empty, "user000@example.edu").mailboxes


def test_promise_5_a_half_emptied_directory_is_a_fault(empty: ControlDatabase) -> None:
    people = crowd(40)
    people.add("eve@other.edu")
    one = mirror(empty)
    one.apply(people.items())
    before = empty.run_read(partial(following.states))
    result = sweep(one, without(people, 20))
    assert result.removed == 0
    assert [(loss.domain, loss.missing, loss.known) for loss in result.losses] == [("example.edu", 20, 40)]
    assert "20 of 40" in alarmed(empty, "directory-loss")["example.edu"]
    found = find(empty, "user000@example.edu", "nobody@example.edu", "nobody@other.edu")
    assert list(found.mailboxes) == ["user000@example.edu"]
    assert list(found.doubtful) == ["nobody@example.edu"]
    assert before != empty.run_read(following.states)


def test_an_emptied_directory_is_a_fault_also_for_a_handful(empty: ControlDatabase) -> None:
    people = crowd(3)
    one = mirror(empty)
    one.apply(people.items())
    assert [loss.missing for loss in sweep(one, []).losses] == [3]
    assert len(find(empty, "user000@example.edu").mailboxes) == 1
    assert list(find(empty, "x@example.edu").doubtful) == ["x@example.edu"]


@pytest.mark.parametrize("sweeping", [True, False])
def test_entries_that_make_no_sense_any_more_are_known_and_not_delivered(
    empty: ControlDatabase, sweeping: bool
) -> None:
    people = crowd(3)
    people.domain("example.edu", Standing.HOLD)
    people.add("eve@other.edu")
    one = mirror(empty)
    one.apply(people.items())
    spoilt = [Unplaced(dn, "has no usable address") for dn in (*people.people, "o=example.edu")]
    if sweeping:
        one.begin_sweep()
        one.swept(spoilt)
        assert one.end_sweep() == Swept(5, 0)
    else:
        one.apply(spoilt)
    found = find(empty, "user000@example.edu", "eve@other.edu")
    assert found.mailboxes["user000@example.edu"].hold is not None
    assert "no usable address" in found.disputed["eve@other.edu"]
    assert len(alarmed(empty, "directory-problem")) == 9
    sweep(one, people.items())
    found = find(empty, "user000@example.edu", "eve@other.edu")
    assert found.disputed == {}
    assert alarmed(empty, "directory-problem") == {}


def test_the_people_are_back(empty: ControlDatabase) -> None:
    people = crowd(40)
    one = mirror(empty)
    one.apply(people.items())
    sweep(one, without(people, 20))
    before = find(empty).epoch
    assert sweep(one, without(people, 1)).removed == 1
    found = find(empty, "nobody@example.edu", "user000@example.edu")
    assert (found.doubtful, found.mailboxes) == ({}, {})
    assert alarmed(empty, "directory-loss") == {}
    assert found.epoch > before


def test_members_are_told_when_doubt_begins_and_ends(empty: ControlDatabase) -> None:
    people = crowd(40)
    one = mirror(empty)
    one.apply(people.items())

    def domains() -> list[str]:
        with empty.read() as connection:
            table = schema.changes
            rows = connection.execute(table.select().where(table.c.kind == ChangeKind.DOMAIN.value))
            return [row.key for row in rows]

    for _ in range(2):  # the second sweep finds nothing new
        sweep(one, without(people, 20))
        assert domains() == ["example.edu"]
    sweep(one, people.items())
    assert domains() == ["example.edu"] * 2


def test_an_operator_accepts_the_loss(empty: ControlDatabase) -> None:
    people = crowd(40)
    one = mirror(empty)
    one.apply(people.items())
    with pytest.raises(NotFound):
        empty.run_write(partial(losses.accept_loss, domain="example.edu", act=ACT))
    sweep(one, without(people, 20))
    empty.run_write(partial(losses.accept_loss, domain="example.edu", act=ACT))
    assert find(empty, "nobody@example.edu").doubtful == {}
    assert alarmed(empty, "directory-loss") == {}
    result = sweep(one, without(people, 20))
    assert (result.removed, result.losses) == (20, ())
    assert empty.run_read(losses.every) == []
    assert find(empty, "user000@example.edu").mailboxes == {}


def test_an_acceptance_does_not_cover_a_larger_loss(empty: ControlDatabase) -> None:
    people = crowd(60)
    one = mirror(empty)
    one.apply(people.items())
    sweep(one, without(people, 20))
    empty.run_write(partial(losses.accept_loss, domain="example.edu", act=ACT))
    result = sweep(one, without(people, 20 + HANDFUL + 1))
    assert result.removed == 0
    assert list(find(empty, "nobody@example.edu").doubtful) == ["nobody@example.edu"]


@pytest.mark.parametrize(("lost", "fault"), [(HANDFUL, False), (HANDFUL + 1, True)])
def test_a_handful_may_always_go(empty: ControlDatabase, lost: int, fault: bool) -> None:
    people = crowd(20)
    one = mirror(empty)
    one.apply(people.items())
    assert bool(sweep(one, without(people, lost)).losses) is fault


def test_people_on_hold_stay_when_their_entry_goes(empty: ControlDatabase) -> None:
    people = crowd(10)
    ann = people.add("ann", "cliff.example.edu", "a@example.edu", status="hold")
    one = mirror(empty)
    one.apply(people.items())
    del people.people[ann]
    sweep(one, people.items())
    found = find(empty, ANN, "a@example.edu")
    assert found.mailboxes[ANN].hold is not None
    assert found.mailboxes["a@example.edu"].key == ANN
    assert "not in ldap any more" in alarmed(empty, "directory-drift")[ANN]
    people.add("ann", "zimbra1.example.edu")
    one.apply(people.items())
    found = find(empty, ANN, "a@example.edu")
    assert found.mailboxes[ANN].hold is None
    assert list(found.mailboxes) == [ANN]
    assert alarmed(empty, "directory-drift") == {}


def test_who_was_ever_held_keeps_a_record(empty: ControlDatabase) -> None:
    people = crowd(10)
    ann = people.add("ann", status="hold")
    one = mirror(empty)
    one.apply(people.items())
    people.modify(ann, status=None)
    one.apply(people.items())
    del people.people[ann]
    assert sweep(one, people.items()).removed == 1
    assert find(empty, ANN).mailboxes == {}
    left = empty.run_read(partial(mailboxes.by_key, keys=[ANN]))[ANN]
    assert (left.status, left.home) == (Status.REMOVED, "")
    people.add("ann", "zimbra1.example.edu")
    one.apply(people.items())
    assert find(empty, ANN).mailboxes[ANN].home == "zimbra"


def test_a_domain_that_goes_while_it_is_on_hold_stays_on_hold(empty: ControlDatabase) -> None:
    people = crowd(3)
    people.domain("example.edu", Standing.HOLD)
    people.domain("other.edu", home="sunray")
    people.add("eve@other.edu", None)
    one = mirror(empty)
    one.apply(people.items())
    people.domains.clear()
    assert sweep(one, people.items()).kept_domains == ("example.edu",)
    one.catch_up()
    assert find(empty, "user000@example.edu").mailboxes["user000@example.edu"].hold is not None
    assert "names no home" in find(empty, "eve@other.edu").disputed["eve@other.edu"]
    assert "a hold, stays" in alarmed(empty, "directory-doubt")["example.edu"]


def test_senseless_entries_are_alarmed_until_they_make_sense(empty: ControlDatabase) -> None:
    one = mirror(empty)
    one.begin_sweep()
    one.swept([Unplaced("cn=odd", "two values"), *crowd(2).items()])
    one.end_sweep()
    assert alarmed(empty, "directory-problem") == {"ldap: cn=odd": "cn=odd: two values"}
    sweep(one, crowd(2).items())
    assert alarmed(empty, "directory-problem") == {}


@pytest.mark.slow
def test_alarms_are_bounded(empty: ControlDatabase) -> None:
    people = People()
    for number in range(300):
        people.add(f"user{number}", "elsewhere.example.net")
    one = mirror(empty)
    one.apply(people.items())
    names = alarmed(empty, "directory-problem")
    assert len(names) == 101
    assert "*" in names
    for dn in people.people:
        people.modify(dn, host="cliff.example.edu")
    sweep(one, people.items())
    assert alarmed(empty, "directory-problem") == {}


def test_a_page_without_a_sweep_is_a_mistake(empty: ControlDatabase) -> None:
    with pytest.raises(RuntimeError):
        mirror(empty).swept([])


# --- how it is followed -----------------------------------------------------------------------------------------


def test_the_row_moves_when_it_must(empty: ControlDatabase) -> None:
    now = 1000.0
    one = Mirror(empty, "ldap", ("ldap", "database"), wall=lambda: now)

    def state() -> float | None:
        return empty.run_read(following.states)[0].followed_at

    assert state() is None
    one.followed(Cookie("ldap1", "7"))
    assert state() == 1000.0
    now = 1005.0
    one.followed(Cookie("ldap1", "7"))
    assert state() == 1000.0  # nothing new, and recent enough
    one.followed(Cookie("ldap1", "8"))
    assert state() == 1005.0
    now = 1015.0
    one.followed(Cookie("ldap1", "8"))
    assert state() == 1015.0
    now = 900.0  # the clock was set back
    one.followed(Cookie("ldap1", "8"))
    assert state() == 900.0
    assert Mirror(empty, "ldap", ("ldap", "database")).cookie() == Cookie("ldap1", "8")


def test_the_row_moves_often_where_data_count_for_a_short_time_only(empty: ControlDatabase) -> None:
    now = 1000.0
    one = Mirror(empty, "ldap", ("ldap", "database"), quiet=0.5, wall=lambda: now)
    one.followed(Cookie("ldap1", "7"))
    now = 1000.4
    one.followed(Cookie("ldap1", "7"))
    assert empty.run_read(following.states)[0].followed_at == 1000.0
    now = 1000.5
    one.followed(Cookie("ldap1", "7"))
    assert empty.run_read(following.states)[0].followed_at == 1000.5


def test_a_fault_is_written_once_and_ends_with_the_next_reading(empty: ControlDatabase) -> None:
    one = mirror(empty)
    one.followed(Cookie("a", "1"))
    one.fault("no answer")
    one.fault("no answer")
    (found,) = [one for one in empty.run_read(alarms.open_alarms) if one.kind == "directory-down"]
    assert (found.key, found.text, found.count) == ("ldap", "no answer", 1)
    (state,) = empty.run_read(following.states)
    assert (state.fault, state.followed_at, state.cookie) == ("no answer", 5000.0, "a\n1")
    one.followed(Cookie("a", "1"))
    (state,) = empty.run_read(following.states)
    assert state.fault == ""
    assert alarmed(empty, "directory-down") == {}
