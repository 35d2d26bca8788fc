"""
Somebody on hold whose entry gets another name, or is replaced: nothing goes to the old home under the new name either.

Schemas with a status (Sun), with a home only (sendmail), and with nothing that is written (Active Directory).
"""

from functools import partial

import pytest
from support.people import People
from support.truths import ACT, ANN, BOB, Site

from router.control import alarms, mailboxes
from router.control.database import ControlDatabase
from router.control.operations import Operations
from router.control.results import ReleaseResult
from router.model.directory import Role
from router.model.mailbox import LIST, Found, Mailbox

A, AAA, SMITH = "a@example.edu", "aaa@example.edu", "ann.smith@example.edu"
KEPT = f"its entry belongs to {ANN}, which a command holds"


def sun(database: ControlDatabase) -> Site:
    return Site(database)


def sendmail(database: ControlDatabase) -> Site:
    return Site(database, writes_status=False)


def active_directory(database: ControlDatabase) -> Site:
    return Site(database, writes_status=False, writes_home=False)


@pytest.fixture(params=[sun, sendmail, active_directory])
def site(request: pytest.FixtureRequest, empty: ControlDatabase) -> Site:
    """Of each kind. Sun's directory cannot be written when the hold is opened."""
    made: Site = request.param(empty)
    made.writer.down = True
    made.hold()
    made.writer.down = False
    return made


@pytest.fixture
def held(empty: ControlDatabase) -> Site:
    """Of the kind without a status."""
    made = sendmail(empty)
    made.hold()
    return made


def find(site: Site, *keys: str) -> Found:
    return site.database.run_read(partial(mailboxes.find, keys=keys))


def get(site: Site, key: str) -> Mailbox:
    return find(site, key).mailboxes[key]


def alarmed(site: Site, kind: str) -> dict[str, str]:
    return {one.key: one.text for one in site.database.run_read(alarms.open_alarms) if one.kind == kind}


def sweep(site: Site, people: People | None = None) -> None:
    site.mirror.begin_sweep()
    site.mirror.swept((people or site.people).items())
    site.mirror.end_sweep()


def waits(site: Site, key: str) -> bool:
    """Mail for it is neither accepted nor delivered, and what was accepted stays."""
    found = find(site, key)
    return KEPT in found.disputed.get(key, "") and found.mailboxes[key].problem == KEPT


def in_force(site: Site, key: str) -> tuple[str, str]:
    """Which mailbox has the address, and where its mail goes; '' for nowhere."""
    found = find(site, key)
    one = found.mailboxes[key]
    return one.key, "" if key in found.disputed or one.hold is not None else one.home


def renamed(site: Site, *addresses: str) -> None:
    """Ann's entry has another canonical address."""
    site.people.modify(site.ann, key=SMITH, addresses=tuple(sorted({SMITH, *addresses})))
    site.poll()


@pytest.mark.parametrize("keeps", [(ANN, A), (A,), ()])
def test_another_canonical_address_waits_for_the_release(site: Site, keeps: tuple[str, ...]) -> None:
    renamed(site, *keeps)
    for _ in range(2):
        assert waits(site, SMITH)
        assert get(site, ANN).hold is not None
        assert KEPT in alarmed(site, "directory-problem")[SMITH]
        assert f"it is {SMITH} in ldap now" in alarmed(site, "directory-drift")[ANN]
        site.people.modify(site.ann, host="sunray.example.edu")
        site.poll()
    sweep(site)
    assert waits(site, SMITH)
    released = site.release()
    assert (released.error, released.released, released.drift) == ("", True, f"it is {SMITH} now")
    assert in_force(site, SMITH) == (SMITH, "sunray")
    for address in keeps:
        assert in_force(site, address) == (SMITH, "sunray")
    assert site.nothing_left()
    assert alarmed(site, "directory-drift") == alarmed(site, "directory-problem") == {}


def test_an_alias_that_sorts_first_waits_for_the_release(held: Site) -> None:
    held.people.modify(held.ann, key=AAA, addresses=(A, AAA, ANN))
    held.poll()
    assert waits(held, AAA)
    assert get(held, A).key == get(held, ANN).key == ANN


@pytest.mark.parametrize("make", [sun, sendmail])
def test_a_release_takes_the_new_name_to_the_home_that_was_asked_for(empty: ControlDatabase, make: type) -> None:
    site: Site = make(empty)
    site.writer.down = True
    site.hold()
    site.writer.down = False
    behind = site.people.copy()
    renamed(site, ANN, A)
    released = site.release("zimbra")
    assert (released.error, released.home, released.drift) == ("", "zimbra", f"it is {SMITH} now")
    assert site.raw == (None, "zimbra1.example.edu")
    for replica in (None, behind, None):
        assert in_force(site, SMITH) == in_force(site, ANN) == in_force(site, A) == (SMITH, "zimbra")
        site.poll(replica)
    assert site.nothing_left()
    assert site.drift() == ""


def test_where_no_home_is_written_a_release_to_another_is_refused(empty: ControlDatabase) -> None:
    site = active_directory(empty)
    site.hold()
    renamed(site, ANN, A)
    refused = site.release("zimbra")
    assert f"{ANN} is {SMITH} in ldap now: release it without --to, and move that" in refused.error
    assert not refused.temporary
    assert waits(site, SMITH)
    assert site.release().released
    assert in_force(site, ANN) == (SMITH, "cliff")


def test_a_status_written_over_our_hold_together_with_another_name(empty: ControlDatabase) -> None:
    """The hold was written: the new name is on hold because the entry says so, until provisioning says otherwise."""
    site = sun(empty)
    site.hold()
    renamed(site, ANN, A)
    assert get(site, SMITH).hold is not None
    site.people.modify(site.ann, status="active")
    site.poll()
    assert get(site, SMITH).hold is None
    assert waits(site, SMITH)
    assert site.release("zimbra").home == "zimbra"
    assert in_force(site, SMITH) == in_force(site, A) == (SMITH, "zimbra")


def test_the_former_name_comes_back(held: Site) -> None:
    renamed(held, ANN, A)
    held.people.modify(held.ann, key=ANN, addresses=(A, ANN))
    held.poll()
    assert SMITH not in find(held, SMITH).mailboxes
    assert held.drift() == ""
    assert held.release("zimbra").home == "zimbra"
    assert in_force(held, A) == (ANN, "zimbra")


# --- the entry is another one


def replaced(site: Site, *addresses: str) -> str:
    """Ann's entry is deleted and added anew under another DN and another name; the deletion is seen by a sweep only."""
    del site.people.people[site.ann]
    dn = site.people.add(SMITH, "cliff.example.edu", *addresses)
    site.poll()
    return dn


@pytest.mark.parametrize("keeps", [(ANN, A), (ANN,), (A,)])
def test_another_entry_with_its_addresses_waits_before_and_after_the_sweep(site: Site, keeps: tuple[str, ...]) -> None:
    dn = replaced(site, *keeps)
    for look in (site.poll, partial(sweep, site), site.poll):
        assert waits(site, SMITH)
        assert SMITH in alarmed(site, "directory-drift")[ANN]
        site.people.modify(dn)
        look()
    assert f"it is {SMITH} in ldap now" in alarmed(site, "directory-drift")[ANN]
    refused = site.release("zimbra")
    assert f"{ANN} is {SMITH} in ldap now: release it without --to, and move that" in refused.error
    released = site.release()
    assert (released.released, released.home, released.drift) == (True, "cliff", f"it is {SMITH} now")
    assert in_force(site, SMITH) == (SMITH, "cliff")
    for address in keeps:
        assert in_force(site, address) == (SMITH, "cliff")
    assert alarmed(site, "directory-drift") == alarmed(site, "directory-problem") == {}


def test_a_second_entry_with_its_addresses_waits_while_the_first_is_still_there(held: Site) -> None:
    """That is how a replacement looks before the sweep. When it was none, the release ends it."""
    held.people.add(SMITH, "cliff.example.edu", A)
    held.poll()
    assert waits(held, SMITH)
    assert SMITH in held.drift()
    assert held.release("zimbra").home == "zimbra"
    assert in_force(held, SMITH) == (SMITH, "cliff")
    assert in_force(held, ANN) == (ANN, "zimbra")


def test_somebody_who_was_there_before_does_not_wait(held: Site) -> None:
    bob = held.people.add("bob")
    held.poll()
    held.people.modify(bob, addresses=(A, BOB))
    held.poll()
    assert in_force(held, BOB) == (BOB, "cliff")
    assert get(held, A).key == ANN


def test_somebody_who_was_there_before_waits_once_he_is_all_that_is_left_of_it(held: Site) -> None:
    bob = held.people.add("bob")
    held.poll()
    held.people.modify(bob, addresses=(ANN, BOB))
    del held.people.people[held.ann]
    held.poll()
    assert in_force(held, BOB) == (BOB, "cliff")
    sweep(held)
    assert waits(held, BOB)
    assert f"it is {BOB} in ldap now" in held.drift()
    assert held.release().drift == f"it is {BOB} now"
    assert in_force(held, BOB) == in_force(held, ANN) == (BOB, "cliff")


def test_a_new_dn_and_then_a_new_name_that_shares_nothing(held: Site) -> None:
    held.people.rename(held.ann, "uid=moved")
    held.ann = "uid=moved"
    sweep(held)
    assert held.drift() == ""
    renamed(held)
    assert waits(held, SMITH)


def test_another_entry_gets_the_former_name(held: Site) -> None:
    """What is on hold is the entry that was there when the hold began, and that is what a release moves."""
    renamed(held, A)
    other = held.people.add("ann2")
    held.people.modify(other, key=ANN, addresses=(ANN,), host="sunray.example.edu")
    held.poll()
    sweep(held)
    assert waits(held, SMITH)
    assert SMITH in held.drift()
    released = held.release("zimbra")
    assert (released.error, released.drift) == ("", f"it is {SMITH} now")
    assert held.raw == (None, "zimbra1.example.edu")
    assert held.people.people[other].host == "sunray.example.edu"
    assert in_force(held, SMITH) == in_force(held, A) == (SMITH, "zimbra")
    assert in_force(held, ANN) == (ANN, "sunray")


def test_a_person_who_becomes_a_list_under_another_name(held: Site) -> None:
    held.people.modify(held.ann, role=Role.GROUP)
    renamed(held, ANN)
    assert waits(held, SMITH)
    assert held.release().released
    assert in_force(held, SMITH) == (SMITH, "cliff")
    assert get(held, SMITH).kind == LIST


def test_a_list_with_the_addresses_of_somebody_on_hold_becomes_a_person(held: Site) -> None:
    dn = held.people.add(SMITH, "cliff.example.edu", A)
    held.people.modify(dn, role=Role.GROUP)
    held.poll()
    assert waits(held, SMITH)
    held.people.modify(dn, role=Role.PERSON)
    held.poll()
    assert waits(held, SMITH)
    held.release()
    assert in_force(held, SMITH) == (SMITH, "cliff")


def test_a_problem_that_is_mended_meanwhile_leaves_it_waiting(held: Site) -> None:
    dn = held.people.add(SMITH, "elsewhere.example.net", A)
    held.poll()
    assert waits(held, SMITH)
    held.people.modify(dn, host="cliff.example.edu")
    held.poll()
    assert waits(held, SMITH)


# --- commands meanwhile


def test_the_new_name_is_not_held_by_a_second_command(site: Site) -> None:
    renamed(site, ANN)
    (refused,) = site.operations.hold([SMITH], ACT, timeout=0)
    assert f"the entry of {SMITH} belongs to {ANN}, which is on hold: release that first" in refused.error
    assert (refused.hold, get(site, SMITH).hold) == (0, None)
    assert site.hold().hold == get(site, ANN).hold.number  # type: ignore[union-attr]
    site.release()
    assert site.operations.hold([SMITH], ACT, timeout=0)[0].quiet


def test_two_who_are_held_and_have_one_heir(held: Site) -> None:
    bob = held.people.add("bob")
    held.poll()
    held.operations.hold([BOB], ACT, timeout=0)
    for dn in (bob, held.ann):
        del held.people.people[dn]
    held.people.add(SMITH, "cliff.example.edu", A, BOB)
    held.poll()
    sweep(held)
    assert find(held, SMITH).disputed[SMITH] == f"its entry belongs to {ANN} and {BOB}, which a command holds"
    held.release()
    assert find(held, SMITH).disputed[SMITH] == f"its entry belongs to {BOB}, which a command holds"
    result: ReleaseResult = held.operations.release([BOB], ACT, timeout=0)[0]
    assert result.error == ""
    assert in_force(held, SMITH) == in_force(held, BOB) == in_force(held, A) == (SMITH, "cliff")


def test_a_hold_from_before_entries_were_remembered_is_joined(held: Site) -> None:
    with held.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM directory_writes")
    assert held.hold().hold
    renamed(held)
    assert waits(held, SMITH)


@pytest.mark.parametrize("keeps", [(ANN, A), ()])
def test_the_new_name_is_as_protected_as_the_one_that_was_on_hold(site: Site, keeps: tuple[str, ...]) -> None:
    site.people.modify(site.ann, host="sunray.example.edu")
    renamed(site, *keeps)
    assert site.release().released
    assert get(site, SMITH).moved_at == ACT.at


@pytest.mark.parametrize("writes_status", [True, False])
def test_a_home_that_stood_before_the_hold_goes_to_the_new_name_and_not_to_who_gets_the_former(
    empty: ControlDatabase, writes_status: bool
) -> None:
    site = Site(empty, writes_status=writes_status, writes_home=False)
    site.hold()
    site.release("zimbra")
    site.hold()
    other = site.people.add("other")
    site.people.modify(other, key=ANN, addresses=(ANN,), host="sunray.example.edu")
    renamed(site)
    assert site.release().home == "zimbra"
    assert (in_force(site, ANN), in_force(site, SMITH)) == ((ANN, "sunray"), (SMITH, "zimbra"))


def test_a_hold_read_under_a_new_dn_was_read(empty: ControlDatabase) -> None:
    """Versions prove nothing here: that our hold was there is known from its having been seen."""
    site = Site(empty, People(version_of="{:d}".format))
    site.hold()
    site.people.rename(site.ann, "uid=moved")
    site.ann = "uid=moved"
    sweep(site)
    site.people.modify(site.ann, status="active")
    site.poll()
    assert "active over our hold" in site.drift()


def test_a_new_name_that_is_read_while_the_release_is_written(empty: ControlDatabase) -> None:
    """What stands is the new name's, though the release began under the former one."""
    site = sun(empty)
    site.hold()

    def meddle(name: str) -> None:
        if name == "before write":
            site.writer.step = lambda _: None
            renamed(site, ANN, A)

    site.writer.step = meddle
    released = site.release("zimbra")
    assert (released.released, released.home, released.drift) == (True, "zimbra", f"it is {SMITH} now")
    assert in_force(site, SMITH) == in_force(site, ANN) == (SMITH, "zimbra")


def test_the_previews_of_a_release_under_another_name(empty: ControlDatabase) -> None:
    site = sendmail(empty)
    site.hold()
    renamed(site, ANN)
    (one,) = site.operations.preview([ANN], hold=False, release=True, to="zimbra")
    assert "add: mailHost\nmailHost: zimbra1.example.edu" in one.ldif
    assert isinstance(site.operations, Operations)
