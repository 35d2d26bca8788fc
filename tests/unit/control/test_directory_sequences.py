"""
Random sequences of commands, crashes, foreign changes and late readings, against what may never happen.

The replica that the mirror reads lags behind the master by any number of changes, but never goes back by itself.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select
from support.people import People, Writer
from support.truths import ACT, SOURCES, STORES

from router.control import mailboxes, schema
from router.control.database import PATIENCE, ControlDatabase
from router.control.mirror import Mirror
from router.control.operations import Operations
from router.errors import LookupFailed
from router.model.directory import Standing
from router.model.mailbox import Found, Mailbox

KEYS = ("ann@example.edu", "bob@example.edu")
SHARED = "info@example.edu"
HOSTS = ("cliff.example.edu", "zimbra1.example.edu", "sunray.example.edu")
WHO = some.sampled_from(KEYS)


class Killed(BaseException):
    """kill -9, here."""


class Truths(RuleBasedStateMachine):
    """Two people and one address that either may have."""

    database: ControlDatabase

    def __init__(self) -> None:
        super().__init__()
        with self.database.write() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                if table.name not in {"site", "counter", "configuration", "mark_keys"}:
                    connection.execute(table.delete())
        self.people = People()
        self.dns = {key: self.people.add(key) for key in KEYS}
        self.read = self.people.copy()
        self.mirror = Mirror(self.database, "ldap", SOURCES, wall=lambda: 5000.0, sleep=lambda _: None)
        self.writer = Writer(self.people)
        self.catch_up()
        self.frozen: dict[str, tuple[int, str, str]] = {}
        """By mailbox that a command holds: the hold, the home, the status."""

    def operations(self) -> Operations:
        self.writer.step = lambda _name: None
        return Operations(self.database, STORES, writers={"ldap": self.writer})

    def catch_up(self) -> None:
        self.read = self.people.copy()
        self.mirror.apply(self.read.items())
        self.mirror.catch_up()

    # --- what others do ---------------------------------------------------------------------------------------

    @rule(who=WHO, status=some.sampled_from([None, "active", "hold", "disabled", "inactive", "odd"]))
    def set_status(self, who: str, status: str | None) -> None:
        self.people.modify(self.dns[who], status=status)

    @rule(who=WHO, host=some.sampled_from([*HOSTS, "nowhere.example.net"]))
    def set_host(self, who: str, host: str) -> None:
        self.people.modify(self.dns[who], host=host)

    @rule(who=WHO, has=some.booleans())
    def share(self, who: str, has: bool) -> None:
        self.people.modify(self.dns[who], addresses=tuple(sorted({who, SHARED} if has else {who})))

    @rule(standing=some.sampled_from([Standing.ACTIVE, Standing.HOLD, Standing.INACTIVE]))
    def set_domain(self, standing: Standing) -> None:
        self.people.domain("example.edu", standing)

    # --- what is read -----------------------------------------------------------------------------------------

    @rule()
    def follow(self) -> None:
        self.catch_up()

    @rule(who=WHO)
    def read_one(self, who: str) -> None:
        """The replica has received the changes of one entry only."""
        self.read.people[self.dns[who]] = self.people.copy().people[self.dns[who]]
        self.mirror.apply(self.read.items(self.dns.values()))

    @rule()
    def read_again(self) -> None:
        self.mirror.apply(self.read.items())

    @rule(lost=some.booleans())
    def sweep(self, lost: bool) -> None:
        self.catch_up()
        self.mirror.begin_sweep()
        self.mirror.swept([] if lost else self.people.items())
        self.mirror.end_sweep()

    # --- what commands do -------------------------------------------------------------------------------------

    @rule(who=WHO, at=some.integers(0, 12), down=some.booleans())
    def hold(self, who: str, at: int, down: bool) -> None:
        self.writer.down = down
        self._dying(at, lambda operations: operations.hold([who], ACT, timeout=0))
        self._look(who)

    @rule(who=WHO, to=some.sampled_from([None, *STORES]), at=some.integers(0, 12), down=some.booleans())
    def release(self, who: str, to: str | None, at: int, down: bool) -> None:
        self.writer.down = down
        before = self._mailbox(who)
        result = self._dying(at, lambda operations: operations.release([who], ACT, to, timeout=0))
        after = self._mailbox(who)
        ended = before.hold is not None and (after.hold is None or after.hold.number != before.hold.number)
        if ended and before.hold is not None:
            assert before.hold.origin == "command"
            assert self.frozen.pop(who, None) is not None
            self._released_right(who, to, after)
        if result:
            assert bool(result[0].error) or result[0].released == ended
        self._look(who)

    def _released_right(self, who: str, to: str | None, after: Mailbox) -> None:
        """Whatever is open now, the directory says the same, or has been told."""
        raw = self.people.people[self.dns[who]]
        if to is not None:
            assert after.home == to
            assert self.people.entry(self.dns[who]).home == to
        if raw.status == "hold":
            assert after.hold is not None or self.people.domains.get("example.edu") is not None

    def _dying(self, at: int, command: Callable[[Operations], list[Any]]) -> list[Any] | None:
        """Run a command that dies at step `at`; 0: it does not."""
        steps = 0

        def step(_name: str) -> None:
            nonlocal steps
            steps += 1
            if steps == at:
                raise Killed

        operations = self.operations()
        self.writer.step = step
        original = self.database.run_write

        def dying(work: object, patience: float = PATIENCE) -> object:
            step("")
            done = original(work, patience)  # type: ignore[arg-type, var-annotated]
            step("")
            return done

        self.database.run_write = dying  # type: ignore[method-assign, assignment]
        try:
            return command(operations)
        except (Killed, LookupFailed):
            return None
        finally:
            del self.database.run_write
            self.writer.step = lambda _name: None
            self.writer.down = False

    def _mailbox(self, key: str) -> Mailbox:
        return self.database.run_read(partial(mailboxes.by_key, keys=[key]))[key]

    def _look(self, who: str) -> None:
        found = self._mailbox(who)
        if found.hold is not None and found.hold.origin == "command":
            self.frozen.setdefault(who, (found.hold.number, found.home, found.status.value))

    # --- what may never happen --------------------------------------------------------------------------------

    @invariant()
    def a_commands_hold_is_ended_by_a_command_only_and_nothing_moves_meanwhile(self) -> None:
        for key, (number, home, status) in self.frozen.items():
            found = self._mailbox(key)
            assert found.hold is not None
            assert (found.hold.number, found.home, found.status.value) == (number, home, status)

    @invariant()
    def nobody_is_unknown(self) -> None:
        found = self._find(*KEYS)
        assert set(found.mailboxes) == set(KEYS)

    @invariant()
    def an_address_that_two_have_is_disputed_or_held(self) -> None:
        with self.database.read() as connection:
            claims, entries = schema.directory_claims.c, schema.directory_entries.c
            query = select(entries.key).join(schema.directory_claims, claims.entry == entries.number)
            claimed = set(connection.execute(query.where(claims.address == SHARED)).scalars())
        found = self._find(SHARED)
        if len(claimed) > 1:
            held = found.mailboxes[SHARED].key in self.frozen
            assert SHARED in found.disputed or held
        if not claimed and not self.frozen:
            held = any(self._mailbox(key).hold is not None for key in KEYS)
            assert SHARED not in found.mailboxes or held

    @invariant()
    def what_was_read_is_in_force_unless_a_command_stands_against_it(self) -> None:
        with self.database.read() as connection:
            stands = set(connection.execute(select(schema.directory_stands.c.mailbox)).scalars())
        for key in KEYS:
            found, entry = self._mailbox(key), self.read.entry(self.dns[key])
            domain = self.read.domains.get("example.edu")
            if key in self.frozen or key in stands or entry.problem:
                continue
            hold = entry.standing is Standing.HOLD
            if domain is not None and domain.standing is not Standing.ACTIVE:
                hold = domain.standing is Standing.HOLD
            assert (found.hold is not None, found.home) == (hold, entry.home)

    def _find(self, *keys: str) -> Found:
        return self.database.run_read(partial(mailboxes.find, keys=keys))


@pytest.mark.slow
def test_any_sequence_of_commands_and_foreign_changes(template: Path, tmp_path: Path) -> None:
    shutil.copy(template, tmp_path / "control.db")
    Truths.database = ControlDatabase.open(f"sqlite:///{tmp_path / 'control.db'}")
    checks = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Truths, settings=checks)
    Truths.database.close()
