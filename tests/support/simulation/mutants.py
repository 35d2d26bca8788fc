"""
Six faults that the simulation must find, each put into the product for a while.

Each is what somebody might well write; barrier.md says what goes wrong then. Guarantees: the product is as before
when a mutant's block ends. On failure: a seam that is not there any more is an `AttributeError`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, func, or_, select, update

from router.classify.cache import Cache
from router.control import barrier, members
from router.control.tail import Tail
from router.deliver.inflight import Entry
from router.model.change import Snapshot
from router.model.parcel import Parcel, Verdict
from router.pipeline.dispatch import Dispatcher
from router.spool.operations import Release

Mutation = Callable[[], AbstractContextManager[Any]]


def _acknowledging_before_registering() -> AbstractContextManager[Any]:
    """The delivery is entered some steps after its route was decided (rule 1)."""
    decide, carry_out = Dispatcher._decide, Dispatcher._carry_out

    def late_decide(self: Dispatcher, lane: str, message: Any, recipients: Any, failures: Any) -> Any:
        inflight = self._inflight
        register: list[Any] = []
        self._inflight = _Later(register)  # type: ignore[assignment]
        try:
            plan, entry = decide(self, lane, message, recipients, failures)
        finally:
            self._inflight = inflight
        return plan, register[0] if entry is not None else None

    async def late_carry_out(self: Dispatcher, lane: str, message: Any, plan: Any, entry: Any, custody: Any) -> Any:
        import asyncio  # noqa: PLC0415 - part of the mutant

        if entry is not None:
            await asyncio.sleep(0)
            entry = self._inflight.register(*entry)
        return await carry_out(self, lane, message, plan, entry, custody)

    return patch.multiple(Dispatcher, _decide=late_decide, _carry_out=late_carry_out)


class _Later:
    """Notes what is to be registered."""

    def __init__(self, noted: list[Any]) -> None:
        self._noted = noted

    def register(self, *values: Any) -> object:
        self._noted.append(values)
        return values


def _no_check_of_a_fills_epoch() -> AbstractContextManager[Any]:
    """An answer that a change has overtaken is believed (rule 4)."""
    return patch.object(Cache, "_overtaken", lambda *_: False)


def _snapshot_before_joining() -> AbstractContextManager[Any]:
    """A worker reads what is on hold, and registers then (rule 5)."""

    def join(self: Tail) -> Snapshot:
        snapshot = self._database.run_read(partial(members.snapshot, takeover=False))
        takeover = self._database.run_write(partial(members.register, member=self._member))
        snapshot = type(snapshot)(
            snapshot.uuid, snapshot.epoch, snapshot.held, snapshot.paused, snapshot.mark_keys, takeover,
            snapshot.directories,
        )  # fmt: skip
        self._uuid = snapshot.uuid
        rows = self._port.joined(snapshot)
        newest = self._database.run_read(lambda connection: members.snapshot(connection, takeover=False).epoch)
        self._write(members.acknowledge, epoch=newest, rows=rows)
        self._applied, self._directories = newest, snapshot.directories
        return snapshot

    return patch.object(Tail, "join", join)


def _ended_at_the_reply() -> AbstractContextManager[Any]:
    """The entry in flight goes when the store has answered, before the outcome is on disk (rule 1)."""
    transmit = Dispatcher._transmit

    async def early(self: Dispatcher, lane: str, message: Any, plan: Any, entry: Entry, *rest: Any) -> bool:
        senders, inflight = self._senders, self._inflight

        class Ending:
            def __init__(self, sender: Any) -> None:
                self._sender = sender

            async def send(self, parcel: Parcel, gate: Entry) -> Sequence[Verdict]:
                verdicts: Sequence[Verdict] = await self._sender.send(parcel, gate)
                if not any(one.in_doubt for one in verdicts):
                    inflight.end(gate)
                return verdicts

        own = Dispatcher.__new__(Dispatcher)
        own.__dict__.update(self.__dict__)
        own._senders = lambda name: Ending(senders(name))  # type: ignore[assignment, return-value]
        return await transmit(own, lane, message, plan, entry, *rest)

    return patch.object(Dispatcher, "_transmit", early)


def _barrier_over_the_old_home_only() -> AbstractContextManager[Any]:
    """Deliveries to another store than the home of the mailbox do not count (rule 3)."""
    holds, table, rows = barrier._H, barrier._T, barrier._B

    def evaluate(connection: Connection, now: float) -> int:
        if not barrier.pending(connection):
            return 0
        barrier._expire(connection, now)
        oldest = connection.execute(select(func.min(table.c.applied))).scalar()
        home = or_(rows.c.store == holds.c.home_before, rows.c.store == "")
        named = or_(rows.c.mailbox == holds.c.mailbox, rows.c.mailbox == barrier.EVERYBODY) & home
        passed = barrier._PENDING & ~select(rows.c.entry).where(named).exists()
        if oldest is not None:
            passed &= holds.c.opened_epoch <= oldest
        return connection.execute(update(holds).where(passed).values(quiet_at=now)).rowcount

    return patch.object(barrier, "evaluate", evaluate)


def _release_that_does_not_wake_deferred_mail() -> AbstractContextManager[Any]:
    """Only what was held is due; what waits for its next try goes on waiting."""
    return patch.object(Release, "_STATES", ("held",))


MUTANTS: dict[str, Mutation] = {
    "acknowledging before registering": _acknowledging_before_registering,
    "no check of a fill's epoch": _no_check_of_a_fills_epoch,
    "snapshot before joining": _snapshot_before_joining,
    "a delivery ended at the reply instead of the commit": _ended_at_the_reply,
    "a barrier over the old home only": _barrier_over_the_old_home_only,
    "a release that does not wake deferred mail": _release_that_does_not_wake_deferred_mail,
}

FOUND_BY = {
    "acknowledging before registering": 1119,
    "no check of a fill's epoch": 35,
    "snapshot before joining": 754,
    "a delivery ended at the reply instead of the commit": 9,
    "a barrier over the old home only": 82,
    "a release that does not wake deferred mail": 370,
}
"""The first seed that has found each: to be tried first, for the search takes a minute. All seeds follow."""
