"""What a directory says becomes mailboxes, holds and disputes, and nothing when nothing is new."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import select
from support.people import People

from router.control import (
    alarms,
    audit,
    barrier,
    changes,
    edits,
    entries,
    hold_records,
    holds,
    mailboxes,
    members,
    schema,
)
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.edits import Edit
from router.control.members import Member
from router.control.mirror import Mirror
from router.control.versions import reached
from router.errors import Conflict
from router.model.change import Blocking, ChangeKind, Ended
from router.model.directory import Answered, Cookie, DirectoryItem, DomainEntry, Entry, Role, Standing, Unplaced
from router.model.mailbox import Found, Mailbox, Status

ANN, BOB = "ann@example.edu", "bob@example.edu"
NEW = ("database", "ldap", "other")


def mirror(database: ControlDatabase, source: str = "ldap", sources: tuple[str, ...] = NEW) -> Mirror:
    return Mirror(database, source, sources, wall=lambda: 5000.0, sleep=lambda _: None)


def get(database: ControlDatabase, key: str) -> Mailbox:
    return database.run_read(partial(mailboxes.by_key, keys=[key]))[key]


def find(database: ControlDatabase, *keys: str) -> Found:
    return database.run_read(partial(mailboxes.find, keys=keys))


def epoch(database: ControlDatabase) -> int:
    return database.run_read(changes.current_epoch)


def told(database: ControlDatabase, since: int) -> set[tuple[ChangeKind, str]]:
    found = database.run_read(partial(changes.since, epoch=since))
    return {(change.kind, change.key) for change in found.changes}


def alarmed(database: ControlDatabase, kind: str) -> dict[str, str]:
    return {one.key: one.text for one in database.run_read(alarms.open_alarms) if one.kind == kind}


@pytest.fixture
def people() -> People:
    return People()


def test_new_people_are_mailboxes_with_one_epoch(empty: ControlDatabase, people: People) -> None:
    people.add("ann", "cliff.example.edu", "a.ann@example.edu")
    people.add("bob", "zimbra1.example.edu", status="disabled")
    done = mirror(empty).apply(people.items())
    assert (done.created, done.epoch, epoch(empty)) == (2, 1, 1)
    assert told(empty, 0) == {
        (ChangeKind.MAILBOX, ANN), (ChangeKind.MAILBOX, BOB), (ChangeKind.ADDRESS, ANN), (ChangeKind.ADDRESS, BOB),
        (ChangeKind.ADDRESS, "a.ann@example.edu"),
    }  # fmt: skip
    found = find(empty, "a.ann@example.edu", BOB, "nobody@example.edu")
    assert found.mailboxes["a.ann@example.edu"] == Mailbox(ANN, "cliff", source="ldap")
    assert found.mailboxes[BOB].status is Status.DISABLED
    assert set(found.mailboxes) == {"a.ann@example.edu", BOB}
    assert (found.disputed, found.doubtful) == ({}, {})


def test_what_is_known_takes_no_epoch_and_writes_nothing(empty: ControlDatabase, people: People) -> None:
    people.add("ann")
    one = mirror(empty)
    one.apply(people.items())
    watch = empty.watch()
    watch.changed()
    assert one.apply(people.items()).unchanged == 1
    assert not watch.changed()
    watch.close()
    assert epoch(empty) == 1


def test_a_new_version_with_the_same_meaning_takes_no_epoch(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann")
    one = mirror(empty)
    one.apply(people.items())
    people.modify(ann)
    assert one.apply(people.items()) == replace(one.apply([]), changed=1)
    assert epoch(empty) == 1


def test_the_same_version_read_by_another_configuration_is_news(empty: ControlDatabase, people: People) -> None:
    """`homes:` maps the host to another store since: the directory has not changed, and the home has."""
    ann = people.add("ann")
    one = mirror(empty)
    one.apply(people.items())
    one.apply([replace(people.entry(ann), home="sunray")])
    assert get(empty, ANN).home == "sunray"


def test_changes_are_told(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann", "cliff.example.edu", "a@example.edu")
    one = mirror(empty)
    one.apply(people.items())
    people.modify(ann, host="zimbra1.example.edu", addresses=(ANN, "b@example.edu"), forwards=("x@else.where",))
    assert one.apply(people.items()).epoch == 2
    assert told(empty, 1) == {
        (ChangeKind.MAILBOX, ANN), (ChangeKind.ADDRESS, "a@example.edu"), (ChangeKind.ADDRESS, "b@example.edu"),
    }  # fmt: skip
    found = get(empty, ANN)
    assert (found.home, found.forwards, found.moved_at) == ("zimbra", ("x@else.where",), 5000.0)
    assert set(find(empty, "a@example.edu", "b@example.edu").mailboxes) == {"b@example.edu"}


def test_many_changes_are_one_resync(empty: ControlDatabase, people: People) -> None:
    for number in range(400):
        people.add(f"user{number}")
    one = mirror(empty)
    one._slicer.size = 500
    one.apply(people.items())
    assert told(empty, 0) == {(ChangeKind.RESYNC, "")}


def test_an_older_state_never_replaces_a_newer_one(empty: ControlDatabase, people: People) -> None:
    """A lookup on a lagging replica after the poll of the master."""
    ann = people.add("ann")
    old = people.entry(ann)
    people.modify(ann, host="zimbra1.example.edu")
    one = mirror(empty)
    one.apply(people.items())
    one.apply([old])
    assert get(empty, ANN).home == "zimbra"


def test_a_sweep_believes_a_directory_that_was_restored(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann")
    old = people.entry(ann)
    people.modify(ann, host="zimbra1.example.edu")
    one = mirror(empty)
    one.apply(people.items())
    one.begin_sweep()
    one.swept([old])
    one.end_sweep()
    assert get(empty, ANN).home == "cliff"


def test_a_page_of_a_sweep_does_not_undo_what_was_read_since_it_began(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann")
    one = mirror(empty)
    one.apply(people.items())
    one.begin_sweep()
    old = people.entry(ann)
    people.modify(ann, host="zimbra1.example.edu")
    one.apply(people.items())
    one.swept([old])
    one.end_sweep()
    assert get(empty, ANN).home == "zimbra"


def test_a_problem_is_known_and_not_unknown(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann", "elsewhere.example.net")
    one = mirror(empty)
    one.apply(people.items())
    found = find(empty, ANN)
    assert ANN in found.mailboxes
    assert "elsewhere.example.net" in found.disputed[ANN]
    assert "uid=ann" in alarmed(empty, "directory-problem")[ANN]
    people.modify(ann, host="cliff.example.edu")
    one.apply(people.items())
    assert find(empty, ANN).disputed == {}
    assert alarmed(empty, "directory-problem") == {}


def test_nobody_without_a_home_is_placed_by_a_guess(empty: ControlDatabase, people: People) -> None:
    people.add("ann", None)
    mirror(empty).apply(people.items())
    assert "names no home" in find(empty, ANN).disputed[ANN]


def test_a_domains_home_and_a_forward_need_no_host(empty: ControlDatabase, people: People) -> None:
    people.add("ann", None)
    people.domain("example.edu", home="sunray")
    ann = people.add("bob@mcs.example.edu", None)
    people.modify(ann, forwards=("bob@else.where",))
    items = people.items()
    items[-1] = replace(people.entry(ann), keeps=False)
    one = mirror(empty)
    one.apply(items)
    assert get(empty, ANN).home == "sunray"
    assert find(empty, "bob@mcs.example.edu").disputed == {}
    assert not get(empty, "bob@mcs.example.edu").keeps


def test_an_illegal_status_is_temporary_and_alarmed(empty: ControlDatabase, people: People) -> None:
    people.add("ann", status="frozen")
    mirror(empty).apply(people.items())
    assert get(empty, ANN).status is Status.INACTIVE
    assert "frozen" in alarmed(empty, "directory-doubt")[ANN]


# --- holds ----------------------------------------------------------------------------------------------------


def test_a_foreign_hold_opens_one_here_and_its_end_releases_towards_the_present_home(
    empty: ControlDatabase, people: People
) -> None:
    ann = people.add("ann", status="overquota")
    one = mirror(empty)
    one.apply(people.items())
    people.modify(ann, status="hold")
    one.apply(people.items())
    held = get(empty, ANN)
    assert held.hold is not None
    assert (held.hold.origin, held.hold.actor, held.hold.opened_epoch, held.status) == (
        "directory", "directory", 2, Status.OVERQUOTA,
    )  # fmt: skip
    assert told(empty, 1) == {(ChangeKind.MAILBOX, ANN)}
    people.modify(ann, host="zimbra1.example.edu")
    one.apply(people.items())
    assert get(empty, ANN).hold is not None
    people.modify(ann, status=None)
    one.apply(people.items())
    free = get(empty, ANN)
    assert (free.hold, free.home, free.status, free.moved_at) == (None, "zimbra", Status.ACTIVE, 5000.0)
    record = empty.run_read(partial(hold_records.get, number=held.hold.number))
    assert (record.released_to, record.status_before, record.closed_by) == ("zimbra", "overquota", "directory")
    verbs = [row.verb for row in empty.run_read(partial(audit.rows, key=ANN))]
    assert verbs == ["release", "hold"]


def test_the_barrier_of_a_foreign_hold_is_like_any(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann")
    one = mirror(empty)
    one.apply(people.items())
    empty.run_write(partial(members.register, member=Member("i", "", 0, 1, 1)))
    people.modify(ann, status="hold")
    one.apply(people.items())
    empty.run_write(partial(barrier.evaluate, now=1.0))
    hold = get(empty, ANN).hold
    assert hold is not None
    assert hold.quiet_at is None
    flying = Blocking(1, ANN, hold.number, "cliff", "Q", "dot", 0.0)
    empty.run_write(partial(members.acknowledge, incarnation="i", epoch=epoch(empty), rows=[flying], now=2.0))
    empty.run_write(partial(members.unblock, incarnation="i", ended=[Ended(1)], now=3.0))
    hold = get(empty, ANN).hold
    assert hold is not None
    assert hold.quiet_at == 3.0


def test_a_domain_on_hold_holds_everybody_and_gives_them_back_their_own_status(
    empty: ControlDatabase, people: People
) -> None:
    people.domain("example.edu")
    people.add("ann")
    people.add("bob", status="disabled")
    people.add("eve@other.edu")
    one = mirror(empty)
    one.apply(people.items())
    people.domain("example.edu", Standing.HOLD)
    one.apply(people.items())
    one.catch_up()
    assert all(get(empty, key).hold is not None for key in (ANN, BOB))
    assert get(empty, "eve@other.edu").hold is None
    people.domain("example.edu")
    one.apply(people.items())
    one.catch_up()
    assert [(get(empty, key).hold, get(empty, key).status) for key in (ANN, BOB)] == [
        (None, Status.ACTIVE), (None, Status.DISABLED),
    ]  # fmt: skip


def test_what_is_said_of_a_domain_holds_under_all_its_names(empty: ControlDatabase, people: People) -> None:
    people.add("ann")
    people.add("eve@alias.edu")
    one = mirror(empty)
    one.apply(people.items())
    people.domain("example.edu", Standing.HOLD)
    people.domains["example.edu"] = replace(people.domains["example.edu"], also=("alias.edu",))
    one.apply(people.items())
    assert get(empty, "eve@alias.edu").hold is not None
    people.domains["example.edu"] = replace(people.domains["example.edu"], standing=Standing.ACTIVE)
    one.apply(people.items())
    assert get(empty, "eve@alias.edu").hold is None


@pytest.mark.parametrize(
    ("domain", "own", "expected"),
    [
        (Standing.INACTIVE, "hold", Status.INACTIVE),
        (Standing.ACTIVE, "overquota", Status.OVERQUOTA),
        (Standing.ACTIVE, "frozen", Status.INACTIVE),
        (Standing.ACTIVE, None, Status.ACTIVE),
    ],
)
def test_the_domain_beats_the_user(
    empty: ControlDatabase, people: People, domain: Standing, own: str | None, expected: Status
) -> None:
    people.domain("example.edu", domain)
    people.add("ann", status=own)
    mirror(empty).apply(people.items())
    found = get(empty, ANN)
    assert (found.status, found.hold) == (expected, None)


def test_a_crash_in_the_middle_of_a_domain_is_made_good(empty: ControlDatabase, people: People) -> None:
    people.domain("example.edu")
    for number in range(60):
        people.add(f"user{number:02d}")
    mirror(empty).apply(people.items())
    people.domain("example.edu", Standing.HOLD)
    people.people, everybody = {}, people.people
    stopped = mirror(empty)
    stopped.apply(people.items(), anew=True)
    stopped._slicer.size = 20
    empty.run_write(stopped._next_of_domain)  # killed after the first slice
    held = empty.run_read(mailboxes.all_open_holds)
    assert 0 < len(held) < 60
    people.people = everybody
    after = mirror(empty)
    after.followed(Cookie("a", "1"))
    assert len(empty.run_read(mailboxes.all_open_holds)) == 60
    assert after.catch_up().changed == 0


def test_a_group_is_a_list_and_never_held(empty: ControlDatabase, people: People) -> None:
    staff = people.add("staff")
    people.modify(staff, role=Role.GROUP, status="hold")
    mirror(empty).apply(people.items())
    found = get(empty, "staff@example.edu")
    assert (found.kind, found.hold, found.status) == ("list", None, Status.INACTIVE)
    assert "cannot be held" in alarmed(empty, "directory-doubt")["staff@example.edu"]
    with pytest.raises(Conflict, match="list"):
        empty.run_write(partial(holds.open_hold, key="staff@example.edu", act=Act("a", "r", 1.0)))


def test_the_postmasters_mailbox_is_never_held(empty: ControlDatabase, people: People) -> None:
    people.add("ann", status="hold")
    Mirror(empty, "ldap", NEW, never_held=[ANN], sleep=lambda _: None).apply(people.items())
    assert (get(empty, ANN).hold, get(empty, ANN).status) == (None, Status.ACTIVE)
    assert "never held" in alarmed(empty, "directory-doubt")[ANN]


def test_a_held_mailbox_with_a_problem_is_held(empty: ControlDatabase, people: People) -> None:
    people.add("ann", "elsewhere.example.net", status="hold")
    mirror(empty).apply(people.items())
    found = find(empty, ANN)
    assert found.mailboxes[ANN].hold is not None
    assert found.disputed == {}


def test_an_address_that_leaves_a_held_mailbox_runs_its_barrier_again(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann", "cliff.example.edu", "x@example.edu", status="hold")
    bob = people.add("bob")
    one = mirror(empty)
    one.apply(people.items())
    empty.run_write(partial(barrier.evaluate, now=1.0))
    before = get(empty, ANN).hold
    assert before is not None
    assert before.quiet_at is not None
    people.modify(ann, addresses=(ANN,))
    people.modify(bob, addresses=(BOB, "x@example.edu"))
    one.apply(people.items())
    after = get(empty, ANN).hold
    assert after is not None
    assert (after.number, after.quiet_at, after.opened_epoch) == (before.number, None, 2)
    assert find(empty, "x@example.edu").mailboxes["x@example.edu"].key == BOB


# --- disputes ---------------------------------------------------------------------------------------------------


def test_one_address_on_two_entries_is_disputed_and_never_a_choice(empty: ControlDatabase, people: People) -> None:
    people.add("ann", "cliff.example.edu", "info@example.edu")
    bob = people.add("bob", "zimbra1.example.edu", "info@example.edu")
    one = mirror(empty)
    one.apply(people.items())
    found = find(empty, "info@example.edu", ANN)
    assert list(found.disputed) == ["info@example.edu"]
    text = alarmed(empty, "directory-dispute")["info@example.edu"]
    assert ANN in text
    assert BOB in text
    before = epoch(empty)
    people.modify(bob, addresses=(BOB,))
    one.apply(people.items())
    assert find(empty, "info@example.edu").disputed == {}
    assert find(empty, "info@example.edu").mailboxes["info@example.edu"].key == ANN
    assert (ChangeKind.ADDRESS, "info@example.edu") in told(empty, before)
    assert alarmed(empty, "directory-dispute") == {}


def test_two_entries_of_one_mailbox_are_a_problem(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann")
    double = replace(people.entry(ann), dn="uid=ann2,dc=example.edu", home="zimbra")
    one = mirror(empty)
    one.apply([*people.items(), double])
    assert "ann2" in find(empty, ANN).disputed[ANN]
    one.begin_sweep()
    one.swept(people.items())
    one.end_sweep()
    assert find(empty, ANN).disputed == {}
    assert get(empty, ANN).home == "cliff"


def test_a_renamed_entry_is_one_again_once_it_was_looked_up(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann", "cliff.example.edu", "a@example.edu")
    one = mirror(empty)
    one.apply(people.items())
    assert one.take_contested() == []
    people.rename(ann, "uid=new")
    people.modify("uid=new", host="zimbra1.example.edu")
    one.apply(people.items())
    assert ANN in find(empty, ANN).disputed
    assert one.take_contested() == [ANN]
    assert one.take_contested() == []
    one.confirm(people.items())
    found = find(empty, ANN, "a@example.edu")
    assert (found.disputed, found.mailboxes["a@example.edu"].home) == ({}, "zimbra")


def test_a_lookup_proves_nothing_that_would_make_anybody_unknown(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann", "cliff.example.edu", "a@example.edu")
    one = mirror(empty)
    one.apply(people.items())
    behind = people.entry(ann)
    people.rename(ann, "uid=new")
    people.modify("uid=new", addresses=(ANN, "new@example.edu"))
    one.apply(people.items())
    one.confirm([behind])  # a replica that lags
    same = replace(behind, addresses=(ANN, "a@example.edu", "new@example.edu"))
    one.confirm([same])
    assert ANN in find(empty, ANN).disputed  # the newer one of the two is not forgotten for the older
    one.confirm([])
    assert set(find(empty, ANN, "a@example.edu", "new@example.edu").mailboxes) == {
        ANN, "a@example.edu", "new@example.edu",
    }  # fmt: skip
    one.confirm(people.items())  # the former entry has an address more: a sweep will tell
    assert "a@example.edu" in find(empty, "a@example.edu").mailboxes


def test_a_hold_is_not_ended_by_a_second_entry_that_says_otherwise(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann", status="hold")
    one = mirror(empty)
    one.apply(people.items())
    one.apply([replace(people.entry(ann), dn="uid=aaa", standing=Standing.ACTIVE)])
    assert get(empty, ANN).hold is not None


def test_an_entry_with_another_canonical_address_takes_its_addresses_along(
    empty: ControlDatabase, people: People
) -> None:
    ann = people.add("ann", "cliff.example.edu", "x@example.edu")
    twin = replace(people.entry(ann), dn="uid=twin", addresses=(ANN,))
    one = mirror(empty)
    one.apply([*people.items(), twin])
    people.modify(ann, key="anna@example.edu", addresses=("anna@example.edu", "x@example.edu"))
    one.apply(people.items())
    found = find(empty, "x@example.edu", "anna@example.edu", ANN)
    assert {key: one.key for key, one in found.mailboxes.items()} == {
        "x@example.edu": "anna@example.edu", "anna@example.edu": "anna@example.edu", ANN: ANN,
    }  # fmt: skip
    assert found.disputed == {}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_hold_of_the_directory_goes_with_an_entry_that_gets_another_name(
    empty: ControlDatabase, people: People, at_once: bool
) -> None:
    ann, other = people.add("ann", status="hold"), "ann.smith@example.edu"
    reader = mirror(empty)
    reader.apply(people.items())
    people.modify(ann, key=other, addresses=(ANN, other) if at_once else (other,))
    reader.apply(people.items())
    if not at_once:
        assert get(empty, ANN).hold is not None, "its name is nobody's: that is no order to release anybody"
        assert "not in ldap any more" in alarmed(empty, "directory-drift")[ANN]
        people.modify(ann, addresses=(ANN, other))
        reader.apply(people.items())
    assert get(empty, ANN).hold is None
    assert get(empty, other).hold is not None
    assert find(empty, ANN).mailboxes[ANN].key == other
    assert alarmed(empty, "directory-drift") == {}
    people.modify(ann, status=None)
    reader.apply(people.items())
    assert get(empty, other).hold is None


def test_servers_that_spell_a_dn_differently_do_not_make_two_entries(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann")
    one = mirror(empty)
    one.apply(people.items())
    one.apply([replace(people.entry(ann), dn="UID=Ann,DC=Example.EDU")])
    assert find(empty, ANN).disputed == {}


def test_a_database_mailbox_of_the_same_address_is_a_dispute(database: ControlDatabase, people: People) -> None:
    """`a.ann@example.edu` was imported as Ann's."""
    eve = people.add("eve", "zimbra1.example.edu", "a.ann@example.edu")
    one = mirror(database)
    one.apply(people.items())
    found = find(database, "a.ann@example.edu", ANN)
    assert list(found.disputed) == ["a.ann@example.edu"]
    people.modify(eve, addresses=("eve@example.edu",))
    one.apply(people.items())
    found = find(database, "a.ann@example.edu")
    assert (found.disputed, found.mailboxes["a.ann@example.edu"].key) == ({}, ANN)


def test_an_address_that_the_database_gives_up_goes_to_the_entry(database: ControlDatabase, people: People) -> None:
    people.add("eve", "zimbra1.example.edu", "a.ann@example.edu")
    mirror(database).apply(people.items())
    edit = partial(edits.edit, key=ANN, wanted=Edit(aliases=frozenset()), act=Act("a", "r", 1.0))
    database.run_write(edit)
    found = find(database, "a.ann@example.edu")
    assert (found.disputed, found.mailboxes["a.ann@example.edu"].key) == ({}, "eve@example.edu")


# --- several sources --------------------------------------------------------------------------------------------


def test_the_first_source_of_the_configuration_is_believed(database: ControlDatabase, people: People) -> None:
    people.add("ann", "zimbra1.example.edu", "new@example.edu")
    mirror(database).apply(people.items())
    found = get(database, ANN)
    assert (found.home, found.source) == ("cliff", "database")
    assert find(database, "new@example.edu").mailboxes["new@example.edu"].key == ANN
    assert find(database, ANN, "new@example.edu").disputed == {}


def test_a_directory_before_the_database_takes_over_and_gives_back(database: ControlDatabase, people: People) -> None:
    ann = people.add("ann", "zimbra1.example.edu")
    one = mirror(database, sources=("ldap", "database"))
    one.apply(people.items())
    found = get(database, ANN)
    assert (found.home, found.source) == ("zimbra", "ldap")
    people.add("bob2")
    del people.people[ann]
    one.begin_sweep()
    one.swept(people.items())
    one.end_sweep()
    found = get(database, ANN)
    assert (found.home, found.source) == ("cliff", "database")
    with database.read() as connection:
        left = connection.execute(select(schema.directory_entries.c.key)).scalars().all()
    assert list(left) == ["bob2@example.edu"]


def test_two_directories_know_one_mailbox(empty: ControlDatabase, people: People) -> None:
    people.add("ann", "zimbra1.example.edu")
    late = People()
    late.add("ann", "sunray.example.edu")
    mirror(empty, "other").apply(late.items())
    assert get(empty, ANN).home == "sunray"
    mirror(empty, "ldap").apply(people.items())
    assert (get(empty, ANN).home, get(empty, ANN).source) == ("zimbra", "ldap")
    assert find(empty, ANN).disputed == {}


@pytest.mark.slow
def test_another_order_of_the_sources_counts_after_the_next_sweep(database: ControlDatabase, people: People) -> None:
    people.add("ann", "zimbra1.example.edu")
    mirror(database).apply(people.items())
    assert get(database, ANN).home == "cliff"
    one = mirror(database, sources=("ldap", "database"))
    one.begin_sweep()
    one.swept(people.items())
    one.end_sweep()
    assert (get(database, ANN).home, get(database, ANN).source) == ("zimbra", "ldap")


def test_a_miss_places_anew_what_is_known_already(empty: ControlDatabase, people: People) -> None:
    people.add("ann")
    one = mirror(empty)
    one.apply(people.items())
    with empty.write() as connection:
        connection.execute(schema.addresses.delete())
    one.apply(people.items())
    assert find(empty, ANN).mailboxes == {}
    one.apply(people.items(), anew=True)
    assert ANN in find(empty, ANN).mailboxes


@pytest.mark.parametrize(("asked", "held"), [(4999.0, True), (5000.0, True), (5001.0, False), (math.inf, False)])
def test_a_late_answer_does_not_undo_what_was_read_since(
    empty: ControlDatabase, people: People, asked: float, held: bool
) -> None:
    """
    Asked before, answered after: the follower has read the directory's hold meanwhile. Versions that prove nothing
    (a `uSNChanged`, a timestamp of the same second) do not tell which is newer; the time of the question does.
    """
    ann = people.add("ann")
    before = [replace(item, version="7") if isinstance(item, Entry) else item for item in people.items()]
    people.modify(ann, status="hold")
    since = [replace(item, version="9") if isinstance(item, Entry) else item for item in people.items()]
    one = mirror(empty)
    one.apply(since)  # at 5000
    assert get(empty, ANN).hold is not None
    one.admit(lambda: [Answered(before, asked)])
    assert (get(empty, ANN).hold is not None) is held


def test_of_two_answers_the_later_question_counts(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann")
    before = [replace(item, version="7") if isinstance(item, Entry) else item for item in people.items()]
    people.modify(ann, status="hold")
    since = [replace(item, version="9") if isinstance(item, Entry) else item for item in people.items()]
    mirror(empty).admit(lambda: [Answered(since, 4000.0), Answered(before, 3000.0)])
    assert get(empty, ANN).hold is not None


def test_an_answer_that_is_newer_by_its_version_counts_however_late(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann")
    before = people.items()
    people.modify(ann, status="hold")
    since = people.items()
    assert reached(version_of(since), version_of(before))
    assert not reached(version_of(before), version_of(since))
    one = mirror(empty)
    one.apply(before)
    one.admit(lambda: [Answered(since, 1.0)])
    assert get(empty, ANN).hold is not None


def version_of(items: Sequence[DirectoryItem | Unplaced]) -> str:
    (person,) = [item for item in items if isinstance(item, Entry)]
    return person.version


def test_what_is_said_of_a_domain_comes_before_its_people(empty: ControlDatabase, people: People) -> None:
    """An answer of more than one transaction, in which the domain, on hold, stands last."""
    people.domain("example.edu", Standing.HOLD)
    for number in range(150):
        people.add(f"user{number:03d}")
    items = sorted(people.items(), key=lambda item: isinstance(item, DomainEntry))
    assert isinstance(items[-1], DomainEntry)
    mirror(empty).apply(items, anew=True)
    assert len(empty.run_read(mailboxes.all_open_holds)) == 150


def test_a_directorys_mailbox_is_not_edited_here(empty: ControlDatabase, people: People) -> None:
    people.add("ann")
    mirror(empty).apply(people.items())
    act = Act("a", "r", 1.0)
    for wanted in (Edit(home="zimbra"), Edit(status=Status.DISABLED), Edit(aliases=frozenset({"x@example.edu"}))):
        with pytest.raises(Conflict, match="directory ldap"):
            empty.run_write(partial(edits.edit, key=ANN, wanted=wanted, act=act))
    empty.run_write(partial(edits.edit, key=ANN, wanted=Edit(target="zimbra", division="MCS"), act=act))
    assert get(empty, ANN).target == "zimbra"


def test_odd_text_is_stored(empty: ControlDatabase, people: People) -> None:
    ann = people.add("ann")
    odd = replace(people.entry(ann), shown=(("cn", "a\x00b\udcff"),), doubt="\udc80", host="\x00")
    mirror(empty).apply([odd])
    (stored,) = empty.run_read(partial(entries.of_keys, keys=[ANN]))[ANN]
    assert (stored.entry.key, stored.entry.host, stored.entry.doubt) == (ANN, "\\0", "\\udc80")
