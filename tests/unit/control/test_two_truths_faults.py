"""Barrier rule 12 with a master that is down, changes under our hands, or says little; and what `--dry-run` shows."""

from functools import partial

import pytest
from support.people import People, Writer
from support.truths import ACT, ANN, BOB, SOURCES, STORES, Site

from router.control import mailboxes
from router.control.database import ControlDatabase
from router.control.mirror import Mirror
from router.control.operations import Operations
from router.errors import LookupFailed, NotFound
from router.model.directory import Standing
from router.model.mailbox import Status


@pytest.fixture
def site(empty: ControlDatabase) -> Site:
    return Site(empty)


def test_the_directory_is_down_at_hold(site: Site) -> None:
    site.writer.down = True
    result = site.hold()
    assert (result.quiet, result.unwritten) == (True, "the directory is down")
    assert site.mailbox.hold is not None
    assert site.raw[0] is None
    site.writer.down = False
    assert site.hold().unwritten == ""
    assert site.raw[0] == "hold"


def test_the_directory_is_down_at_release(site: Site) -> None:
    site.hold()
    site.writer.down = True
    result = site.release("zimbra")
    assert (result.released, result.temporary, result.error) == (False, True, "the directory is down")
    assert (site.mailbox.home, site.mailbox.hold is not None) == ("cliff", True)
    site.writer.down = False
    assert site.release("zimbra").home == "zimbra"


def test_a_move_copies_nothing_that_the_directory_was_not_told_of(site: Site) -> None:
    site.writer.down = True
    done = site.operations.move(ANN, "zimbra", ACT, run=lambda _: pytest.fail("copied"), timeout=0)
    assert (done.status, done.release, done.hold.unwritten) == (None, None, "the directory is down")
    site.writer.down = False
    done = site.operations.move(ANN, "zimbra", ACT, run=lambda _: 0, timeout=0)
    assert done.release is not None
    assert done.release.home == "zimbra"


def test_a_hold_that_was_never_written_leaves_the_status_alone(site: Site) -> None:
    site.writer.down = True
    site.hold()
    site.writer.down = False
    site.people.modify(site.ann, status="hold")  # by somebody else: theirs to end
    result = site.release("zimbra")
    assert "keeps it on hold" in result.drift
    assert site.raw == ("hold", "zimbra1.example.edu")
    hold = site.mailbox.hold
    assert hold is not None
    assert hold.origin == "directory"


def test_somebody_elses_hold_from_before_ours_outlives_it(site: Site) -> None:
    site.people.modify(site.ann, status="hold")  # the mirror has not read it yet
    site.hold()
    result = site.release()
    assert "keeps it on hold" in result.drift
    hold = site.mailbox.hold
    assert hold is not None
    assert hold.origin == "directory"
    assert site.raw[0] == "hold"
    site.poll()
    site.people.modify(site.ann, status=None)
    site.poll()
    assert site.mailbox.hold is None


def test_a_domain_put_on_hold_meanwhile_keeps_it_held(site: Site) -> None:
    site.hold()
    site.people.domain("example.edu", Standing.HOLD)
    site.poll()
    result = site.release("zimbra")
    assert "keeps it on hold" in result.drift
    assert site.mailbox.hold is not None
    assert site.mailbox.hold.origin == "directory"


def test_a_hold_of_the_directory_is_not_ended_by_a_command(site: Site) -> None:
    site.people.modify(site.ann, status="hold")
    site.poll()
    assert site.hold().quiet  # joined
    result = site.release("zimbra")
    assert "set the status back there" in result.error
    assert not result.temporary
    assert (site.raw, site.mailbox.home) == (("hold", "cliff.example.edu"), "cliff")
    assert site.writer.modifies == []


def test_a_hold_of_a_directory_that_forgot_the_entry_can_be_ended(site: Site) -> None:
    for number in range(10):
        site.people.add(f"user{number}")
    site.people.modify(site.ann, status="hold")
    site.poll()
    del site.people.people[site.ann]
    site.mirror.begin_sweep()
    site.mirror.swept(site.people.items())
    site.mirror.end_sweep()
    assert site.mailbox.hold is not None
    assert site.release().released
    assert site.database.run_read(partial(mailboxes.find, keys=[ANN])).mailboxes == {}


def test_without_a_writer_a_hold_is_in_force_and_a_release_is_not(site: Site) -> None:
    site.operations = Operations(site.database, STORES)
    assert "not in the configuration" in site.hold().unwritten
    assert "not in the configuration" in site.release().error
    assert site.mailbox.hold is not None


def test_a_change_between_reading_and_writing_is_tried_again(site: Site) -> None:
    left = iter(range(2))

    def meddle(name: str) -> None:
        if name == "after read" and next(left, None) is not None:
            site.people.modify(site.ann, status="overquota" if site.raw[0] != "overquota" else "inactive")

    site.writer.step = meddle
    assert site.hold().unwritten == ""
    assert site.raw[0] == "hold"
    site.release()
    assert site.raw[0] == "inactive"


def test_an_entry_that_changes_all_the_time_is_given_up(site: Site) -> None:
    site.hold()
    hosts = iter(["sunray.example.edu", "cliff.example.edu"] * 10)

    def meddle(name: str) -> None:
        if name == "after read":
            site.people.modify(site.ann, host=next(hosts))

    site.writer.step = meddle
    result = site.release("zimbra")
    assert result.temporary
    assert site.mailbox.hold is not None


def test_a_hold_set_by_others_while_the_home_is_written_is_seen_in_the_reading_back(site: Site) -> None:
    site.hold()
    site.people.modify(site.ann, status="active")
    site.poll()

    def meddle(name: str) -> None:
        if name == "after read":
            site.people.modify(site.ann, status="hold")

    site.writer.step = meddle
    assert "keeps it on hold" in site.release("zimbra").drift
    assert site.mailbox.hold is not None
    assert site.mailbox.hold.origin == "directory"


def test_a_release_while_the_hold_was_being_written_leaves_no_hold_behind(site: Site) -> None:
    other = Operations(site.database, STORES, writers={"ldap": Writer(site.people)})

    def meddle(name: str) -> None:
        if name == "before write":
            site.writer.step = lambda _: None
            other.release([ANN], ACT, timeout=0)

    site.writer.step = meddle
    assert site.hold().ended
    assert (site.raw[0], site.mailbox.hold) == (None, None)
    site.poll()
    assert site.mailbox.hold is None


def test_a_hold_that_overtakes_the_end_of_a_release_leaves_nothing_behind(site: Site) -> None:
    site.hold()
    other = Operations(site.database, STORES, writers={"ldap": Writer(site.people)})

    def meddle(name: str) -> None:
        if name == "after write":
            site.writer.step = lambda _: None
            other.hold([ANN], ACT, timeout=0)

    site.writer.step = meddle
    assert site.release("zimbra").released
    assert site.raw == (None, "zimbra1.example.edu")
    site.poll()
    assert site.mailbox.hold is None


def test_a_release_overtaken_by_the_writing_of_the_hold(site: Site) -> None:
    site.writer.down = True
    site.hold()
    site.writer.down = False
    other = Operations(site.database, STORES, writers={"ldap": Writer(site.people)})

    def meddle(name: str) -> None:
        if name == "after read":
            site.writer.step = lambda _: None
            other.hold([ANN], ACT, timeout=0)

    site.writer.step = meddle
    assert site.release("zimbra").released
    assert site.raw == (None, "zimbra1.example.edu")
    site.poll()
    assert (site.mailbox.hold, site.mailbox.home) == (None, "zimbra")


@pytest.mark.parametrize("others", [True, False])
def test_a_home_that_is_not_written_stands_until_the_directory_shows_it(empty: ControlDatabase, others: bool) -> None:
    site = Site(empty, writes_home=False)
    site.hold()
    assert site.release("zimbra").home == "zimbra"
    assert site.raw == (None, "cliff.example.edu")
    for _ in range(2):
        site.people.modify(site.ann)
        site.poll()
        assert site.mailbox.home == "zimbra"
    site.people.modify(site.ann, host="zimbra1.example.edu")
    site.poll()
    assert site.nothing_left()
    site.people.modify(site.ann, host="sunray.example.edu")
    site.poll()
    assert site.mailbox.home == "sunray"


def test_a_directory_that_is_only_read_holds_and_moves_here(empty: ControlDatabase) -> None:
    site = Site(empty, writes_home=False, writes_status=False)
    site.writer.down = True
    assert site.hold().unwritten == ""
    site.poll()
    assert site.drift() == ""
    assert site.release("zimbra").home == "zimbra"
    site.poll()
    assert (site.mailbox.home, site.mailbox.hold, site.writer.modifies) == ("zimbra", None, [])


@pytest.mark.parametrize("version", ["{:d}", "2024010100000{:d}Z", "20240101000000Z"])
def test_versions_that_prove_nothing_wait_for_the_value(empty: ControlDatabase, version: str) -> None:
    site = Site(empty, People(version_of=version.format))
    behind = site.people.copy()
    site.hold()
    held = site.people.copy()
    site.release("zimbra")
    for replica in (held, behind, held):
        site.poll(replica)
        assert (site.mailbox.home, site.mailbox.hold) == ("zimbra", None)
    site.poll()
    assert site.nothing_left()


@pytest.mark.parametrize("writes_status", [True, False])
def test_where_nothing_was_written_nothing_stands_against_later_changes(
    empty: ControlDatabase, writes_status: bool
) -> None:
    """Versions prove nothing here, and the mirror has read already what the release finds."""
    site = Site(empty, People(version_of="{:d}".format), writes_status=writes_status)
    site.hold()
    site.people.modify(site.ann, status="active", host="zimbra1.example.edu")
    site.poll()
    assert site.release("zimbra").released
    assert site.nothing_left()
    site.people.modify(site.ann, status="disabled", host="sunray.example.edu")
    site.poll()
    assert (site.mailbox.status, site.mailbox.home) == (Status.DISABLED, "sunray")


def test_what_stands_goes_along_with_an_entry_that_gets_another_name(empty: ControlDatabase) -> None:
    """The directory never shows the home that the move said; somebody else gets the former name."""
    site = Site(empty, writes_home=False)
    site.hold()
    site.release("zimbra")
    site.people.modify(site.ann, key="ann.smith@example.edu", addresses=("ann.smith@example.edu",))
    other = site.people.add("other", "sunray.example.edu")
    site.people.modify(other, key=ANN, addresses=(ANN,))
    site.poll()
    find = partial(mailboxes.by_key, keys=[ANN, "ann.smith@example.edu"])
    assert {key: one.home for key, one in site.database.run_read(find).items()} == {
        ANN: "sunray",
        "ann.smith@example.edu": "zimbra",
    }


def test_an_abort_with_such_versions_is_not_taken_back_by_a_late_reading_of_the_hold(empty: ControlDatabase) -> None:
    """What the mirror showed before the hold looks as if the release had been read already."""
    site = Site(empty, People(version_of="{:d}".format))
    site.hold()
    held = site.people.copy()
    site.release()
    site.poll(held)
    assert site.mailbox.hold is None
    site.poll()
    assert site.nothing_left()


def test_an_unmapped_home_is_repaired_by_a_move(site: Site) -> None:
    site.people.modify(site.ann, host="elsewhere.example.net")
    site.poll()
    find = partial(mailboxes.find, keys=[ANN])
    assert ANN in site.database.run_read(find).disputed
    behind = site.people.copy()
    site.hold()
    site.release("zimbra")
    site.poll(behind)
    assert site.database.run_read(find).disputed == {}
    assert site.mailbox.home == "zimbra"


def test_a_store_without_a_host_in_the_directory_is_refused_before_anything(site: Site) -> None:
    site.operations = Operations(site.database, (*STORES, "rt"), writers={"ldap": site.writer})
    site.hold()
    result = site.release("rt")
    assert "no host means rt" in result.error
    assert not result.temporary
    assert site.raw == ("hold", "cliff.example.edu")


def test_several_entries_of_one_mailbox_are_not_written(site: Site) -> None:
    site.people.people["uid=twin"] = site.people.copy().people[site.ann]
    site.people.people["uid=twin"].dn = "uid=twin"
    site.poll()
    assert "several entries" in site.hold().unwritten
    assert "several entries" in site.release().error


def test_an_entry_that_was_renamed_is_looked_up_anew(site: Site) -> None:
    def fetch(keys: object) -> None:
        assert list(keys) == [ANN]  # type: ignore[call-overload]
        site.mirror.begin_sweep()
        site.mirror.swept(site.people.items())
        site.mirror.end_sweep()

    site.people.rename(site.ann, "uid=moved")
    site.ann = "uid=moved"
    assert "next sweep" in site.hold().unwritten
    site.operations = Operations(site.database, STORES, writers={"ldap": site.writer}, fetch=fetch)
    assert site.hold().unwritten == ""
    assert site.raw[0] == "hold"


def test_hold_on_somebody_the_mirror_does_not_have_yet(site: Site) -> None:
    bob = site.people.add("bob")
    with pytest.raises(NotFound):
        site.operations.hold([BOB], ACT, timeout=0)

    def fetch(keys: object) -> None:
        assert keys == [BOB]
        site.mirror.apply(site.people.items([bob]), anew=True)

    site.operations = Operations(site.database, STORES, writers={"ldap": site.writer}, fetch=fetch)
    assert site.operations.hold([BOB], ACT, timeout=0)[0].quiet
    assert site.people.people[bob].status == "hold"

    def down(_keys: object) -> None:
        raise LookupFailed("down")

    with pytest.raises(LookupFailed):
        Operations(site.database, STORES, fetch=down).hold(["eve@example.edu"], ACT, timeout=0)


def test_a_directory_that_does_not_answer_is_not_asked_for_everybody(site: Site) -> None:
    for number in range(10):
        site.people.add(f"user{number}")
    site.poll()
    asked: list[str] = []
    site.writer.step = asked.append
    site.writer.down = True
    keys = [f"user{number}@example.edu" for number in range(10)]
    results = site.operations.hold(keys, ACT, timeout=0)
    assert all(one.unwritten and one.hold for one in results)
    assert len(asked) == 3
    site.writer.down = False
    assert not any(one.unwritten for one in site.operations.hold(keys, ACT, timeout=0))


def test_previews(site: Site) -> None:
    (one,) = site.operations.preview(["a@example.edu"], hold=True, release=True, to="zimbra")
    assert (one.key, one.source, one.dn) == (ANN, "ldap", site.ann)
    assert one.ldif == (
        f"dn: {site.ann}\nchangetype: modify\nadd: mailUserStatus\nmailUserStatus: hold\n-\n\n"
        f"dn: {site.ann}\nchangetype: modify\ndelete: mailUserStatus\nmailUserStatus: hold\n-\n"
        "delete: mailHost\nmailHost: cliff.example.edu\n-\nadd: mailHost\nmailHost: zimbra1.example.edu\n-\n"
    )
    assert site.writer.modifies == []
    assert site.mailbox.hold is None
    site.hold()
    assert site.operations.preview([ANN], hold=True)[0].ldif == ""
    assert "zimbra1" not in site.operations.preview([ANN], hold=False, release=True)[0].ldif


def test_mailboxes_of_the_database_are_as_ever(database: ControlDatabase) -> None:
    Mirror(database, "ldap", SOURCES)
    operations = Operations(database, STORES, writers={"ldap": Writer(People())})
    assert operations.hold([BOB], ACT, timeout=0)[0].quiet
    assert operations.release([BOB], ACT, "zimbra", timeout=0)[0].home == "zimbra"
    assert operations.preview([BOB], hold=True)[0].ldif == ""


def test_the_expected_hold_must_be_open(site: Site) -> None:
    number = site.hold().hold
    (result,) = site.operations.release([ANN], ACT, expected=number + 1, timeout=0)
    assert "ended meanwhile" in result.error
    assert site.raw[0] == "hold"
    site.release()
    (result,) = site.operations.release([ANN], ACT, expected=number, timeout=0)
    assert "ended meanwhile" in result.error
    assert site.release().released is False
