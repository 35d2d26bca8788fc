"""
What must hold at every moment of a simulated run: promises 2, 3, 4, 5, 6 and 9.

It looks at what is committed in the control database and in the spools, and at what comes to the stores; never at the
memory of a worker. On failure: `Broken` in the event that broke a promise, with the promise's number.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from router.deliver.inflight import Entry
from router.model.outcome import Disposition, Outcome
from router.model.parcel import Parcel
from router.spool import accounts
from router.spool.settling import Settle
from support.simulation.scheduler import Scheduler
from support.simulation.site_database import ALIAS, KEYS, STORES, SharedState
from support.simulation.spool_disk import SpoolDisk

PROTECT, LIFETIME = 5 * 86400.0, 86400.0


class Broken(AssertionError):
    """A promise was broken."""


@dataclass
class _Sending:
    """What was so when a delivery was registered."""

    applied: int
    protected: frozenset[str]
    """Mailboxes that its worker knew to be protected."""


@dataclass
class Oracle:
    """The judge of one run. `wall` is the site's clock."""

    scheduler: Scheduler
    shared: SharedState
    clock: Any
    accepted: dict[tuple[str, str], str] = field(default_factory=dict)
    """(sender, address) of each recipient for which a client was told 250, and its queue-id."""
    arrivals: Counter[tuple[str, str]] = field(default_factory=Counter)
    returned: set[tuple[str, str]] = field(default_factory=set)
    unsure: bool = False
    """Something happened after which a duplicate is allowed."""
    moves: int = 0
    """Counts what may have brought a message to its end."""
    floor: dict[str, int] = field(default_factory=dict)
    """Epoch of the last flip whose command has returned, by mailbox."""

    def __post_init__(self) -> None:
        self._homes: dict[str, list[tuple[int, str]]] = {key: [(0, STORES[0])] for key in KEYS}
        self._sending: dict[tuple[str, int], _Sending] = {}
        self._last: dict[tuple[str, str], _Sending] = {}
        self._released: dict[str, float] = {}
        self.shared.committed.append(self._control_changed)

    def broken(self, promise: int, text: str) -> None:
        self.scheduler.note(f"PROMISE {promise} BROKEN: {text}")
        raise Broken(f"promise {promise}: {text}")

    # -- the control database ------------------------------------------------------------------------------------

    def _control_changed(self) -> None:
        found = self.shared.raw("SELECT key, home FROM mailboxes")
        for key, home in found:
            known = self._homes[key]
            if known[-1][1] != home:
                epoch = self.shared.raw("SELECT value FROM counter WHERE name = 'epoch'")[0][0]
                known.append((epoch, home))
                self.scheduler.note(f"home of {key} is {home} from epoch {epoch}")

    def quiet(self, key: str) -> bool:
        """Whether the barrier says so."""
        query = "SELECT 1 FROM holds WHERE mailbox = ? AND closed_at IS NULL AND quiet_at IS NOT NULL"
        return bool(self.shared.raw(query, key))

    def protected(self, key: str) -> bool:
        """On hold, or moved a short while ago."""
        query = (
            "SELECT moved_at, (SELECT count(*) FROM holds WHERE mailbox = key AND closed_at IS NULL) FROM mailboxes"
            " WHERE key = ?"
        )
        ((moved, holds),) = self.shared.raw(query, key)
        return bool(holds) or (moved is not None and self.clock.wall() - moved < PROTECT)

    def _since(self, key: str) -> int:
        """The epoch from which its protection can be known."""
        found = self.shared.raw("SELECT opened_epoch FROM holds WHERE mailbox = ? AND closed_at IS NULL", key)
        return int(found[0][0]) if found else max(self._homes[key][-1][0], self.last_release(key))

    # -- deliveries ----------------------------------------------------------------------------------------------

    def registered(self, worker: str, incarnation: str, entry: Entry) -> None:
        """A delivery was decided and entered: by a state no older than what its worker has acknowledged."""
        found = self.shared.raw("SELECT applied FROM members WHERE incarnation = ?", incarnation)
        applied = found[0][0] if found else 0
        keys = frozenset(key for key in KEYS if self.protected(key) and self._since(key) <= applied)
        self._sending[(worker, entry.number)] = self._last[(worker, entry.queue_id)] = _Sending(applied, keys)

    def began(self, worker: str, lane: str, parcel: Parcel, entry: Entry) -> None:
        """A delivery begins at a store."""
        wires = [one.wire for one in parcel.recipients]
        self.scheduler.note(f"{worker} {parcel.queue_id} to {lane}: {' '.join(wires)}")
        for wire in wires:
            key = mailbox_of(wire)
            if key and self.quiet(key):
                self.broken(2, f"{worker} begins {parcel.queue_id} to {lane} for {key}, which is quiet")
            if key and lane in STORES:
                self._check_home(worker, lane, key, parcel, entry)

    def _check_home(self, worker: str, lane: str, key: str, parcel: Parcel, entry: Entry) -> None:
        known = self._homes[key]
        sending = self._sending.get((worker, entry.number))
        applied = max(sending.applied if sending is not None else 0, self.floor.get(key, 0))
        allowed = {home for epoch, home in known if epoch > applied}
        allowed.add([home for epoch, home in known if epoch <= applied][-1])
        if lane not in allowed:
            self.broken(3, f"{worker} sends {parcel.queue_id} for {key} to {lane}, its home is {known[-1][1]}")

    def took(self, worker: str, lane: str, parcel: Parcel, wires: Sequence[str], entry: Entry) -> None:
        """A store has a message now."""
        self.moves += 1
        self.scheduler.note(f"{lane} takes {parcel.queue_id} of {worker}: {' '.join(wires)}")
        for wire in wires:
            key = mailbox_of(wire)
            if key and self.quiet(key):
                self.broken(2, f"{lane} takes {parcel.queue_id} for {key}, which is quiet")
            self.arrivals[(parcel.sender, wire)] += 1

    # -- the spools ----------------------------------------------------------------------------------------------

    def committed(self, worker: str, operations: Sequence[Any]) -> None:
        """A transaction of a spool has committed."""
        self.moves += 1
        for operation in operations:
            if isinstance(operation, Settle):
                for outcome in operation.outcomes:
                    self._settled(worker, operation, outcome)

    def _settled(self, worker: str, operation: Settle, outcome: Outcome) -> None:
        message = operation.message
        self.scheduler.note(
            f"{worker} {message.queue_id}/{outcome.recipient & 0xFFFF} {outcome.disposition}"
            f" {outcome.mailbox} {outcome.reply.code}"
        )
        if outcome.disposition not in {Disposition.DELIVERED, Disposition.RETURNED}:
            return
        if outcome.mailbox and self.quiet(outcome.mailbox):
            self.broken(2, f"{worker} ends a delivery of {message.queue_id} for {outcome.mailbox}, which is quiet")
        if outcome.disposition is Disposition.RETURNED and outcome.mailbox in KEYS:
            self._judge_return(worker, operation, outcome)

    def _judge_return(self, worker: str, operation: Settle, outcome: Outcome) -> None:
        message, key = operation.message, outcome.mailbox
        wires = {wire for sender, wire in self.accepted if sender == message.envelope.sender}
        self.returned.update((message.envelope.sender, wire) for wire in wires if mailbox_of(wire) == key)
        sending = self._last.get((worker, message.queue_id))
        if self.protected(key) and sending is not None and key in sending.protected:
            self.broken(6, f"{worker} returns {message.queue_id} of {key}, which is protected")
        refused = outcome.reply.said_by_hop and outcome.reply.permanent
        young = outcome.at - message.received_at < LIFETIME
        if young and not refused:
            self.broken(5, f"{worker} returns {message.queue_id} of {key} for no reason: {outcome.reply}")
        if not refused and outcome.at - self._released.get(key, 0.0) < LIFETIME:
            self.broken(6, f"{worker} returns {message.queue_id} of {key}, which was released a short while ago")

    def last_release(self, key: str) -> int:
        """The epoch of the newest one."""
        return int(self.shared.raw("SELECT coalesce(max(closed_epoch), 0) FROM holds WHERE mailbox = ?", key)[0][0])

    def released(self, key: str, before: int) -> None:
        """A command has returned: the release, the first one after the epoch `before`, is in force everywhere."""
        query = "SELECT coalesce(min(closed_epoch), 0) FROM holds WHERE mailbox = ? AND closed_epoch > ?"
        epoch = self.shared.raw(query, key, before)[0][0]
        self.floor[key] = max(self.floor.get(key, 0), epoch)
        self._released[key] = self.clock.wall()

    def balance(self, disk: SpoolDisk) -> None:
        """Promise 9, by the product's own count."""
        if disk.raw.in_transaction:
            return
        counts = accounts.counts(disk.raw, detail=False)
        for name, totals in (("mail", counts.mail), ("own", counts.own)):
            if not totals.balanced:
                self.broken(9, f"spool {disk.number}: {name} does not balance: {totals}")

    # -- the end -------------------------------------------------------------------------------------------------

    def missing(self) -> list[tuple[str, str]]:
        """Accepted recipients that have neither come to a store nor gone back."""
        return [one for one in self.accepted if not self.arrivals[one] and one not in self.returned]

    def check_end(self, disks: Sequence[SpoolDisk]) -> None:
        """Nothing is left, nothing was lost, and nothing came twice that had no reason to."""
        for disk in disks:
            self.balance(disk)
        if lost := self.missing():
            self.broken(9, f"accepted and nowhere: {lost}")
        twice = {one: count for one, count in self.arrivals.items() if count > 1 and one in self.accepted}
        if twice and not self.unsure:
            self.broken(9, f"came twice without a reason: {twice}")


def mailbox_of(wire: str) -> str:
    """The mailbox of an address of ours, '' of another."""
    key = wire.lower()
    return KEYS[0] if key == ALIAS else key if key in KEYS else ""
