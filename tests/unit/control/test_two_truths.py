"""Barrier rule 12: commands on people of a directory that others write to, and that is read late."""

from functools import partial

import pytest
from support.truths import ACT, ANN, BOB, STORES, Site

from router.control import mailboxes
from router.control.database import ControlDatabase
from router.control.operations import Operations
from router.errors import Conflict
from router.model.mailbox import Status


@pytest.fixture
def site(empty: ControlDatabase) -> Site:
    return Site(empty)


@pytest.mark.parametrize("before", [None, "active", "overquota", "Disabled"])
def test_a_move_restores_exactly_the_status_that_it_found(site: Site, before: str | None) -> None:
    site.people.modify(site.ann, status=before)
    site.poll()
    held = site.hold()
    assert (held.quiet, held.unwritten, held.drift) == (True, "", "")
    assert site.raw == ("hold", "cliff.example.edu")
    site.poll()
    assert site.drift() == ""
    released = site.release("zimbra")
    assert (released.released, released.home, released.error, released.drift) == (True, "zimbra", "", "")
    assert site.raw == (before, "zimbra1.example.edu")
    status = Status((before or "active").lower())
    assert (site.mailbox.home, site.mailbox.hold, site.mailbox.status) == ("zimbra", None, status)
    site.poll()
    assert (site.mailbox.home, site.mailbox.hold, site.mailbox.status) == ("zimbra", None, status)
    assert site.nothing_left()
    assert site.drift() == ""


def test_a_status_that_the_mirror_had_not_read_before_the_hold_counts_at_its_end(site: Site) -> None:
    """What the mirror last read before the hold is no answer to what the restored value means."""
    site.people.modify(site.ann, status="disabled")
    site.poll()
    site.people.modify(site.ann, status="active")
    site.hold()
    site.poll()
    assert site.release("zimbra").released
    assert (site.mailbox.status, site.mailbox.hold) == (Status.ACTIVE, None)


def test_home_and_status_are_one_modify(site: Site) -> None:
    site.hold()
    site.release("zimbra")
    assert len(site.writer.modifies) == 2


def test_a_command_is_in_force_before_the_mirror_has_read_it(site: Site) -> None:
    """And a replica that lags does not take it back."""
    behind = site.people.copy()
    site.hold()
    held = site.people.copy()
    site.release("zimbra")
    for replica in (behind, held, behind):
        site.poll(replica)
        assert (site.mailbox.home, site.mailbox.hold) == ("zimbra", None)
    site.poll()
    assert site.nothing_left()
    site.people.modify(site.ann, host="sunray.example.edu")
    site.poll()
    assert site.mailbox.home == "sunray"  # the directory counts again


def test_a_second_hold_before_the_first_release_was_read_keeps_the_home(site: Site) -> None:
    behind = site.people.copy()
    site.hold()
    site.release("zimbra")
    site.hold()
    site.release()
    site.poll(behind)
    assert site.mailbox.home == "zimbra"
    assert site.raw == (None, "zimbra1.example.edu")


def test_provisioning_writes_active_over_our_hold_and_the_mail_stays(site: Site) -> None:
    site.hold()
    site.poll()
    site.people.modify(site.ann, status="active")
    site.poll()
    assert site.mailbox.hold is not None
    assert "active over our hold" in site.drift()
    again = site.hold()
    assert (again.quiet, again.unwritten) == (True, "")
    assert "set to active over our hold" in again.drift
    released = site.release("zimbra")
    assert released.released
    assert "set to active meanwhile" in released.drift
    assert site.raw == ("active", "zimbra1.example.edu")
    site.poll()
    assert site.mailbox.home == "zimbra"
    assert site.mailbox.hold is None
    assert site.drift() == ""


def test_a_replica_that_has_not_read_our_hold_is_no_drift(site: Site) -> None:
    site.people.modify(site.ann)
    behind = site.people.copy()
    site.hold()
    site.poll(behind)  # something else has changed there, before our hold arrives
    assert site.drift() == ""


def test_foreign_changes_during_a_hold_are_drift_and_count_after_it(site: Site) -> None:
    site.hold()
    site.people.modify(site.ann, host="sunray.example.edu", addresses=(ANN, "new@example.edu"))
    site.poll()
    assert (site.mailbox.home, site.mailbox.hold is not None) == ("cliff", True)
    text = site.drift()
    assert "home sunray instead of cliff" in text
    assert "a@example.edu taken away" in text
    assert "new@example.edu added" in text
    found = site.database.run_read(partial(mailboxes.find, keys=["a@example.edu", "new@example.edu"]))
    assert found.mailboxes["a@example.edu"].hold is not None
    assert list(found.disputed) == ["new@example.edu"]  # neither delivered nor unknown
    site.release()
    found = site.database.run_read(partial(mailboxes.find, keys=["a@example.edu", "new@example.edu"]))
    assert (list(found.mailboxes), dict(found.disputed)) == (["new@example.edu"], {})
    assert (site.mailbox.home, site.drift()) == ("sunray", "")


def test_an_address_that_moves_away_from_a_held_mailbox_stays_with_it(site: Site) -> None:
    bob = site.people.add("bob", "zimbra1.example.edu")
    site.poll()
    site.hold()
    site.people.modify(site.ann, addresses=(ANN,))
    site.people.modify(bob, addresses=(BOB, "a@example.edu"))
    site.poll()
    find = partial(mailboxes.find, keys=["a@example.edu"])
    assert site.database.run_read(find).mailboxes["a@example.edu"].key == ANN
    site.release()
    found = site.database.run_read(find)
    assert (found.mailboxes["a@example.edu"].key, found.disputed) == (BOB, {})


def test_a_home_changed_by_others_that_was_not_read_yet_opens_nothing(site: Site) -> None:
    site.hold()
    site.people.modify(site.ann, host="sunray.example.edu")
    result = site.release()
    assert result.temporary
    assert "another home" in result.error
    assert site.mailbox.hold is not None
    assert site.raw[0] == "hold"
    site.poll()
    assert site.release().home == "sunray"


def test_the_same_with_somebody_to_ask_reads_it_first(site: Site) -> None:
    site.operations = Operations(site.database, STORES, writers={"ldap": site.writer}, fetch=lambda _keys: site.poll())
    site.hold()
    site.people.modify(site.ann, host="sunray.example.edu")
    assert site.release().home == "sunray"


def renamed(site: Site) -> str:
    """Ann's entry gets another canonical address and keeps the former one; the new mailbox."""
    other = "ann.smith@example.edu"
    site.people.modify(site.ann, key=other, addresses=(ANN, other))
    site.poll()
    return other


def test_a_command_ends_the_hold_of_somebody_who_got_another_name(site: Site) -> None:
    behind = site.people.copy()
    site.hold()
    other = renamed(site)
    assert f"it is {other} in ldap now" in site.drift()
    mailbox = site.database.run_read(partial(mailboxes.by_key, keys=[other]))[other]
    assert mailbox.hold is not None, "the entry says hold: it is ours"
    released = site.release("zimbra")
    assert (released.released, released.home, released.drift) == (True, "zimbra", f"it is {other} now")
    assert site.raw == (None, "zimbra1.example.edu")
    for replica in (None, behind, None):
        now = site.database.run_read(partial(mailboxes.by_key, keys=[other]))[other]
        assert (now.home, now.hold) == ("zimbra", None)
        assert site.database.run_read(partial(mailboxes.owners, addresses=[ANN])) == {ANN: other}
        site.poll(replica)
    assert site.drift() == ""
    assert site.nothing_left()


def test_what_a_directory_holds_is_not_copied(site: Site) -> None:
    site.people.modify(site.ann, status="hold")
    site.poll()
    copied: list[object] = []

    def copy(held: object) -> int:
        copied.append(held)
        return 1

    with pytest.raises(Conflict, match="set the status back there"):
        site.operations.move(ANN, "zimbra", ACT, run=copy, timeout=0)
    assert copied == []
    assert site.mailbox.hold is not None
