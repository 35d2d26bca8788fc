"""How old a worker takes each directory to be, what it may still do by it, and whom it tells when that changes."""

import logging
from dataclasses import replace
from typing import Any

import pytest

from router.admin.cli.directory_age import age_of
from router.control.freshness import LATE
from router.control.schema import DATABASE
from router.daemon.directory_ages import DirectoryAges
from router.model.directory import DirectoryState
from router.model.mailbox import Mailbox, Status
from router.settings.schema import Settings


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def wall(self) -> float:
        return 1e9 + self.now

    def monotonic(self) -> float:
        return self.now


class Rig:
    """Two directories, `ldap` and `other`: stale 100 s, stale_delivery 50 s."""

    def __init__(self) -> None:
        self.clock, self.woken, self.doubted = Clock(), 0, 0
        self.alarms: list[tuple[str, str]] = []
        tell = self._alarm
        self.ages = DirectoryAges(self.clock, woken=self._wake, doubted=self._doubt, alarm=tell)

    def _alarm(self, directory: str, text: str) -> None:
        self.alarms.append((directory, text))

    def _wake(self) -> None:
        self.woken += 1

    def _doubt(self) -> None:
        self.doubted += 1

    def state(self, source: str = "ldap", *, age: float = 0.0, fault: str = "") -> DirectoryState:
        return DirectoryState(source, self.clock.wall() - age, fault=fault)

    def look_at(self, *states: DirectoryState) -> tuple[bool, bool]:
        self.ages.saw(states)
        return self.can()

    def can(self, source: str = "ldap") -> tuple[bool, bool]:
        return self.ages.answers(source), self.ages.delivers(source)


def settings(*names: str, **keys: Any) -> Settings:
    times = {"stale": 100.0, "stale_delivery": 50.0} | keys
    sources = [{"ldap": {"name": name, "uri": f"ldap://{name}", "base": "dc=x", **times}} for name in names]
    given = {
        "hostname": "mx.example.edu",
        "state_dir": "/nonexistent",
        "stores": {},
        "domains": {},
        "listen": [],
        "postmaster": "root@example.edu",
        "directory": ["database", *sources],
    }
    return Settings.model_validate(given)


@pytest.fixture
def rig() -> Rig:
    one = Rig()
    one.ages.use(settings("ldap", "other"))
    return one


def test_the_database_is_never_old_and_a_stranger_is_never_believed(rig: Rig) -> None:
    assert rig.can(DATABASE) == (True, True)
    assert rig.can("former") == (False, False)


def test_a_directory_that_was_never_followed_is_not_believed(rig: Rig) -> None:
    assert rig.can() == (False, False)
    assert rig.look_at(DirectoryState("ldap")) == (False, False)


def test_the_limits_count_from_the_last_time_it_was_followed(rig: Rig) -> None:
    assert rig.look_at(rig.state()) == (True, True)
    rig.clock.now += 50
    assert rig.can() == (True, True)
    rig.clock.now += 1
    assert rig.can() == (True, False)
    rig.clock.now += 49
    assert rig.can() == (True, False)
    rig.clock.now += 1
    assert rig.can() == (False, False)


def test_one_directory_says_nothing_of_another(rig: Rig) -> None:
    rig.look_at(rig.state(), rig.state("other", age=60.0))
    assert (rig.can("ldap"), rig.can("other")) == ((True, True), (True, False))


def test_mail_that_waited_goes_on_once_it_is_followed_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.ages.use(settings("ldap"))
    caplog.set_level(logging.INFO, "sluice.worker")
    rig.look_at(rig.state())
    assert rig.woken == 0, "nothing waited"
    rig.clock.now += 51
    for _ in range(3):
        rig.ages.look()
    assert [record.message for record in caplog.records if "waits" in record.message] == [
        "mail to people of the directory ldap waits: it was last followed 51 s ago"
    ]
    assert rig.woken == 0
    for _ in range(3):
        rig.look_at(rig.state())
    assert rig.woken == 1
    assert len([record for record in caplog.records if "goes on" in record.message]) == 1


def test_mail_that_waited_for_the_first_sweep_goes_on_after_it(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.look_at(DirectoryState("ldap"))
    assert "the directory ldap waits: it was not followed yet" in caplog.text
    assert rig.woken == 0
    rig.look_at(rig.state())
    assert rig.woken == 1


def test_nothing_is_told_before_the_control_database_was_read(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.ages.look()
    assert caplog.text == ""


def test_a_directory_that_is_not_followed_any_more_is_told_once(rig: Rig) -> None:
    rig.look_at(rig.state())
    assert rig.doubted == 0
    broken = rig.state(fault="no answer")
    rig.look_at(broken)
    rig.look_at(broken)
    assert rig.doubted == 1
    rig.look_at(rig.state())
    rig.clock.now += LATE + 1  # nobody moves the row: the process that follows it is dead
    rig.ages.look()
    rig.ages.look()
    assert rig.doubted == 2


def test_a_reload_keeps_the_ages_and_applies_the_new_limits(rig: Rig) -> None:
    rig.look_at(rig.state())
    rig.clock.now += 40
    rig.ages.use(settings("ldap"))
    assert (rig.can(), rig.can("other")) == ((True, True), (False, False))
    rig.ages.use(settings("ldap", stale=60.0, stale_delivery=30.0))
    assert rig.can() == (True, False)
    rig.clock.now += 21
    assert rig.can() == (False, False)
    rig.ages.use(settings("ldap"))
    assert rig.can() == (True, False)


def test_a_reload_that_changes_nothing_asks_no_wall_clock(rig: Rig) -> None:
    """The clock may have been set meanwhile; only the monotonic one counts for what is known."""
    state = rig.state()
    rig.look_at(state)
    rig.ages.saw([replace(state, followed_at=1.0)])  # it moved, and by a strange clock: at most since the last look
    rig.ages.use(settings("ldap", "other"))
    assert rig.can() == (True, True)


def test_a_refusal_counts_only_while_its_directory_is_followed(rig: Rig) -> None:
    def refuses(source: str) -> bool:
        return rig.ages.refuses(Mailbox("ann@example.edu", "old", Status.DISABLED, source=source))

    rig.look_at(rig.state(), rig.state("other"))
    assert (refuses("ldap"), refuses("other"), refuses(DATABASE)) == (True, True, True)
    assert rig.ages.refuses(None)
    assert not refuses("former")
    rig.look_at(rig.state(fault="no answer"), rig.state("other"))
    assert (refuses("ldap"), refuses("other"), refuses(DATABASE)) == (False, True, True)
    rig.look_at(rig.state(), rig.state("other"))
    rig.clock.now += LATE + 1
    assert (refuses("ldap"), refuses(DATABASE)) == (False, True)


def test_one_that_is_looked_at_seldom_is_no_outage_between_two_looks(rig: Rig) -> None:
    seldom = settings("ldap", follow=300.0, stale_delivery=600.0, stale=700.0)
    rig.ages.use(seldom)
    rig.look_at(rig.state())
    rig.clock.now += 310
    rig.ages.look()
    assert rig.doubted == 0
    assert rig.ages.refuses(Mailbox("ann@example.edu", "old", Status.DISABLED, source="ldap"))
    now = rig.clock.wall()
    assert age_of(rig.state(age=310.0), seldom.ldaps["ldap"], running=True, now=now).followed


def test_an_alarm_tells_that_mail_waits_for_a_directory_nobody_follows_any_more(rig: Rig) -> None:
    rig.look_at(rig.state(), rig.state("other", age=90.0))
    assert rig.alarms == [], "at the start the process that follows has the word"
    for _ in range(4):
        rig.clock.now += 20.0
        rig.ages.look()
    assert rig.alarms == [("ldap", "mail to its people waits: it was last followed 60 s ago")]
