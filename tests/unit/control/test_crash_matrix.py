"""
Hold, release and move with a directory as truth, killed before and after each step: never open in between, and the
same command, repeated, ends right.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection
from support.people import Writer
from support.truths import ACT, ANN, STORES, Site

from router.control import mailboxes
from router.control.database import ControlDatabase, Result
from router.control.operations import Operations
from router.model.mailbox import Mailbox, Status

Command = Callable[[Operations], object]


class Killed(BaseException):
    """kill -9, here."""


class Dying:
    """A control database and a writer whose steps are counted; the process dies at step `at`."""

    def __init__(self, database: ControlDatabase, writer: Writer, at: int) -> None:
        self.database = database
        self.steps = 0
        self._at = at
        self._run_write = database.run_write
        writer.step = self._step
        database.run_write = self._dying  # type: ignore[method-assign]

    def revive(self, writer: Writer) -> None:
        writer.step = lambda _name: None
        self.database.run_write = self._run_write  # type: ignore[method-assign]

    def _step(self, _name: str) -> None:
        self.steps += 1
        if self.steps == self._at:
            raise Killed

    def _dying(self, work: Callable[[Connection], Result], patience: float | None = None) -> Result:
        self._step("before a transaction")
        result = self._run_write(work, patience)
        self._step("after a transaction")
        return result


@pytest.fixture
def sites(template: Path, tmp_path: Path) -> Iterator[Callable[[], Site]]:
    opened: list[ControlDatabase] = []

    def make() -> Site:
        path = tmp_path / f"control{len(opened)}.db"
        shutil.copy(template, path)
        opened.append(ControlDatabase.open(f"sqlite:///{path}"))
        return Site(opened[-1])

    yield make
    for one in opened:
        one.close()


def hold(operations: Operations) -> object:
    return operations.hold([ANN], ACT, timeout=0)


def release(operations: Operations, to: str | None = "zimbra") -> object:
    return operations.release([ANN], ACT, to, timeout=0)


def move(operations: Operations) -> object:
    return operations.move(ANN, "zimbra", ACT, run=lambda _held: 0, timeout=0)


def killed(site: Site, command: Command, at: int) -> bool:
    """Whether the command was killed; False when it came to its end first."""
    dying = Dying(site.database, site.writer, at)
    try:
        command(site.operations)
    except Killed:
        return True
    finally:
        dying.revive(site.writer)
    return False


def restarted(site: Site) -> Operations:
    """Nothing in memory outlives a kill."""
    site.writer = Writer(site.people)
    site.operations = Operations(site.database, STORES, writers={"ldap": site.writer})
    return site.operations


def ended_right(site: Site, before: str | None) -> None:
    status = Status(before or "active")
    for _ in range(2):
        now: Mailbox = site.mailbox
        assert (now.home, now.hold, now.status) == ("zimbra", None, status)
        assert site.raw == (before, "zimbra1.example.edu")
        site.poll()
    assert site.nothing_left()
    assert site.drift() == ""


BEFORE = pytest.mark.parametrize("before", [None, "overquota"])


@pytest.mark.slow
@BEFORE
def test_a_hold_killed_anywhere(sites: Callable[[], Site], before: str | None) -> None:
    at = 0
    again = True
    while again:
        at += 1
        site = sites()
        site.people.modify(site.ann, status=before)
        site.poll()
        again = killed(site, hold, at)
        durable = site.mailbox.hold is not None
        assert durable or site.raw[0] == before  # the directory never says more than the control database
        for _ in range(2):
            site.poll()
            assert (site.mailbox.hold is not None) == durable
        (result,) = restarted(site).hold([ANN], ACT, timeout=0)
        assert (result.quiet, result.unwritten, result.drift) == (True, "", "")
        assert site.raw == ("hold", "cliff.example.edu")
        site.poll()
        assert site.mailbox.hold is not None
        assert site.mailbox.hold.origin == "command"
        assert site.drift() == ""
        release(restarted(site))
        ended_right(site, before)
    assert at > 10


@pytest.mark.slow
@BEFORE
@pytest.mark.parametrize("read", [True, False])
def test_a_release_killed_anywhere(sites: Callable[[], Site], before: str | None, read: bool) -> None:
    """`read`: whether the mirror has read the hold before the release."""
    at = 0
    again = True
    while again:
        at += 1
        site = sites()
        site.people.modify(site.ann, status=before)
        site.poll()
        hold(site.operations)
        if read:
            site.poll()
        again = killed(site, release, at)
        for _ in range(2):
            now = site.mailbox
            if now.hold is None:
                assert (now.home, site.raw) == ("zimbra", (before, "zimbra1.example.edu"))
            else:
                assert (now.home, now.hold.origin) == ("cliff", "command")
            site.poll()
        assert site.drift() == ""
        release(restarted(site))
        ended_right(site, before)
    assert at > 6


@pytest.mark.slow
def test_an_abort_after_a_release_that_was_killed_takes_the_home_back(sites: Callable[[], Site]) -> None:
    at = 0
    again = True
    while again:
        at += 1
        site = sites()
        behind = site.people.copy()
        hold(site.operations)
        again = killed(site, release, at)
        flipped = site.people.copy()
        if site.mailbox.hold is None:
            continue  # it was released, and is not held any more
        (result,) = restarted(site).release([ANN], ACT, timeout=0)
        assert (result.released, result.home, result.drift) == (True, "cliff", "")
        assert site.raw == (None, "cliff.example.edu")
        for replica in (behind, flipped, site.people):
            site.poll(replica)
            assert site.mailbox.home == "cliff"
            assert site.mailbox.hold is None
        assert site.nothing_left()


def dead_after_modify(site: Site, to: str) -> None:
    def step(name: str) -> None:
        if name == "after write":
            raise Killed

    site.writer.step = step
    with pytest.raises(Killed):
        release(site.operations, to)
    assert site.mailbox.hold is not None
    restarted(site)


def test_an_abort_after_two_releases_that_were_killed(sites: Callable[[], Site]) -> None:
    site = sites()
    hold(site.operations)
    dead_after_modify(site, "zimbra")
    dead_after_modify(site, "sunray")
    assert site.raw == (None, "sunray.example.edu")
    release(site.operations, None)
    assert (site.mailbox.home, site.raw) == ("cliff", (None, "cliff.example.edu"))


@pytest.mark.parametrize("down", [False, True])
def test_a_hold_again_after_a_killed_release_and_then_an_abort(sites: Callable[[], Site], down: bool) -> None:
    """`down`: the directory was never told of the first hold. The home that the release wrote is taken back."""
    site = sites()
    site.people.modify(site.ann, status="disabled")
    site.poll()
    site.writer.down = down
    hold(site.operations)
    site.writer.down = False
    dead_after_modify(site, "zimbra")
    site.people.modify(site.ann, status="overquota")
    site.poll()
    hold(site.operations)
    site.poll()
    release(site.operations, None)
    for _ in range(2):
        assert (site.mailbox.home, site.mailbox.status) == ("cliff", Status.OVERQUOTA)
        assert site.raw == ("overquota", "cliff.example.edu")
        site.poll()
    assert site.nothing_left()


def test_a_hold_that_others_set_after_a_killed_release_of_an_unwritten_one_stays(sites: Callable[[], Site]) -> None:
    site = sites()
    site.writer.down = True
    hold(site.operations)
    site.writer.down = False
    dead_after_modify(site, "zimbra")
    site.people.modify(site.ann, status="hold")
    release(site.operations)
    assert site.raw == ("hold", "zimbra1.example.edu")
    assert site.mailbox.hold is not None
    assert site.mailbox.hold.origin == "directory"


@pytest.mark.slow
def test_a_hold_again_after_a_release_that_was_killed(sites: Callable[[], Site]) -> None:
    at = 0
    again = True
    while again:
        at += 1
        site = sites()
        hold(site.operations)
        again = killed(site, release, at)
        site.poll()
        (result,) = restarted(site).hold([ANN], ACT, timeout=0)
        assert (result.unwritten, site.raw[0]) == ("", "hold")
        site.poll()
        assert site.mailbox.hold is not None
        release(restarted(site))
        ended_right(site, None)


@pytest.mark.slow
@BEFORE
def test_a_move_killed_anywhere(sites: Callable[[], Site], before: str | None) -> None:
    at = 0
    again = True
    while again:
        at += 1
        site = sites()
        site.people.modify(site.ann, status=before)
        site.poll()
        behind = site.people.copy()
        again = killed(site, move, at)
        begun = site.mailbox.hold is not None
        for people in (behind, site.people):
            site.poll(people)
            now = site.mailbox
            assert (now.hold is not None) == begun
            assert now.home == ("zimbra" if site.raw[1] == "zimbra1.example.edu" and not begun else "cliff")
        move(restarted(site))
        ended_right(site, before)
    assert at > 16


def test_a_release_whose_modify_was_done_without_an_answer(sites: Callable[[], Site]) -> None:
    """The connection ended after the modify: unknown, so the mail stays held, and the repetition finishes."""
    site = sites()
    hold(site.operations)

    def cut(name: str) -> None:
        if name == "after write":
            site.writer.down = True
            site.writer.read(site.ann)

    site.writer.step = cut
    (result,) = site.operations.release([ANN], ACT, "zimbra", timeout=0)
    assert (result.released, result.temporary) == (False, True)
    assert site.raw == (None, "zimbra1.example.edu")
    find = partial(mailboxes.by_key, keys=[ANN])
    site.poll()
    assert site.database.run_read(find)[ANN].hold is not None
    release(restarted(site))
    ended_right(site, None)
