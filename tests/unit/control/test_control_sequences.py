"""Random sequences of verbs against a model of three numbers: what is held, its home, and how often that changed."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from router.control import barrier, changes, edits, holds, mailboxes, members, schema
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.edits import Edit
from router.control.members import Member
from router.errors import Conflict
from router.model.change import Blocking, Ended
from router.model.mailbox import Status

ANN, BOB = "ann@example.edu", "bob@example.edu"
KEYS, HOMES = some.sampled_from([ANN, BOB]), some.sampled_from(["cliff", "zimbra"])
ACT = Act("a", "r", 1.0)


class Verbs(RuleBasedStateMachine):
    """One member that acknowledges when told to, two mailboxes."""

    database: ControlDatabase

    def __init__(self) -> None:
        super().__init__()
        with self.database.write() as connection:
            for table in (schema.blocking, schema.members, schema.holds, schema.addresses, schema.mailboxes):
                connection.execute(table.delete())
            for key in (ANN, BOB):
                connection.execute(schema.mailboxes.insert().values(key=key, home="cliff", status="active"))
                connection.execute(schema.addresses.insert().values(address=key, mailbox=key, domain="example.edu"))
            members.register(connection, Member("m", "", 0, 1, 1))
        self.homes = {ANN: "cliff", BOB: "cliff"}
        self.status = {ANN: Status.ACTIVE, BOB: Status.ACTIVE}
        self.opened: dict[str, int] = {}
        self.applied = 0
        self.flying: dict[str, int] = {}
        self.told: set[str] = set()
        self.entry = 0

    @rule(key=KEYS)
    def hold(self, key: str) -> None:
        gone = self.status[key] in {Status.DELETED, Status.REMOVED} and key not in self.opened
        if gone:
            with pytest.raises(Conflict):
                self.database.run_write(partial(holds.open_hold, key=key, act=ACT))
            return
        hold = self.database.run_write(partial(holds.open_hold, key=key, act=ACT))
        assert self.opened.setdefault(key, hold.opened_epoch) == hold.opened_epoch

    @rule(key=KEYS, to=some.none() | HOMES)
    def release(self, key: str, to: str | None) -> None:
        work = partial(holds.release, key=key, act=ACT, to=to)
        if key not in self.opened and to not in {None, self.homes[key]}:
            with pytest.raises(Conflict):
                self.database.run_write(work)
            return
        self.database.run_write(work)
        if self.opened.pop(key, None) is not None:
            self.homes[key] = to or self.homes[key]

    @rule(key=KEYS, home=HOMES, force=some.booleans())
    def set_home(self, key: str, home: str, force: bool) -> None:
        work = partial(edits.edit, key=key, wanted=Edit(home=home), act=ACT, force=force)
        if key in self.opened and home != self.homes[key] and not force:
            with pytest.raises(Conflict):
                self.database.run_write(work)
            return
        self.database.run_write(work)
        self.homes[key] = home

    @rule(key=KEYS, status=some.sampled_from(Status))
    def set_status(self, key: str, status: Status) -> None:
        self.database.run_write(partial(edits.edit, key=key, wanted=Edit(status=status), act=ACT))
        self.status[key] = status

    @rule(key=KEYS)
    def take_off(self, key: str) -> None:
        """A delivery starts, as it may only for a mailbox that the member does not know to be held."""
        if key not in self.told and key not in self.flying:
            self.entry += 1
            self.flying[key] = self.entry

    @rule()
    def acknowledge(self) -> None:
        with self.database.write() as connection:
            found = changes.since(connection, 0, limit=0)
            self.told, self.applied = set(found.holds), found.epoch
            rows = [
                Blocking(entry, key, 0, "cliff", "Q", "dot", 0.0)
                for key, entry in self.flying.items()
                if key in self.told
            ]
            members.acknowledge(connection, "m", found.epoch, rows, 2.0)

    @rule(key=KEYS)
    def land(self, key: str) -> None:
        entry = self.flying.pop(key, None)
        if entry is not None:
            with self.database.write() as connection:
                members.unblock(connection, "m", [Ended(entry)], 2.0)

    @rule()
    def evaluate(self) -> None:
        self.database.run_write(partial(barrier.evaluate, now=3.0))

    @invariant()
    def the_database_agrees(self) -> None:
        found = self.database.run_read(partial(mailboxes.by_key, keys=[ANN, BOB]))
        for key, mailbox in found.items():
            assert mailbox.home == self.homes[key]
            assert mailbox.status is self.status[key]
            assert (mailbox.hold is not None) == (key in self.opened)
            if mailbox.hold is not None and mailbox.hold.quiet_at is not None:
                assert key not in self.flying  # promise 2
                assert self.applied >= self.opened[key]
                assert key in self.told

    @invariant()
    def one_open_hold_at_most(self) -> None:
        with self.database.read() as connection:
            open_ones = connection.execute(
                select(schema.holds.c.mailbox).where(schema.holds.c.closed_at.is_(None))
            ).scalars()
            assert sorted(open_ones) == sorted(self.opened)


@pytest.mark.slow
def test_any_sequence_of_verbs(template: Path, tmp_path: Path) -> None:
    shutil.copy(template, tmp_path / "control.db")
    Verbs.database = ControlDatabase.open(f"sqlite:///{tmp_path / 'control.db'}")
    checks = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Verbs, settings=checks)
    Verbs.database.close()
