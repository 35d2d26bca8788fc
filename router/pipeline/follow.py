"""
Applies changes of routing state to this worker: drop what is known of them, stop deliveries, release mail.

Guarantees: one synchronous step. When it returns, every later decision sees the new state, and its result names each
delivery that still blocks a hold (barrier rule 2).

On failure: nothing here fails; work that takes time (releases) is handed on.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from router.deliver.inflight import InFlight
from router.deliver.lanes import Lanes
from router.model.change import Blocking, ChangeKind, ChangeSet
from router.pipeline.releases import Releases

_RECONFIGURING = frozenset({ChangeKind.CONFIGURATION, ChangeKind.RESYNC})


class Forgetful(Protocol):
    """The classifier's cache."""

    def apply(self, changes: ChangeSet) -> None: ...


class Following:
    """What the control follower calls with each set of changes."""

    def __init__(
        self,
        cache: Forgetful,
        inflight: InFlight,
        lanes: Lanes,
        releases: Releases,
        configured: Callable[[], None],
    ) -> None:
        self._cache = cache
        self._inflight = inflight
        self._lanes = lanes
        self._releases = releases
        self._configured = configured
        self._applied = 0

    def start_from(self, epoch: int) -> None:
        """At start: the epoch of the snapshot."""
        self._applied = epoch

    def apply(self, changes: ChangeSet) -> Sequence[Blocking]:
        """The rows that must be written together with the acknowledgement."""
        self._cache.apply(changes)
        rows: list[Blocking] = []
        free: list[str] = []
        gained = self._gained_addresses(changes)
        for mailbox, hold in changes.holds.items():
            if hold is None:
                free.append(mailbox)
            else:
                self._releases.hold_applied(mailbox)
                rows.extend(self._inflight.hold(mailbox, hold, everything=mailbox in gained))
        self._applied = max(self._applied, changes.epoch)
        if any(change.kind is ChangeKind.RESYNC for change in changes.changes):
            self._releases.resynchronised(
                (mailbox for mailbox, hold in changes.holds.items() if hold is not None), reroute=bool(changes.paused)
            )
        elif free:
            self._releases.changed(free)
        self._lanes.pause(changes.paused)
        # A resynchronisation hides the changes that it stands for: another configuration may be among them.
        if any(change.kind in _RECONFIGURING for change in changes.changes):
            self._configured()
        return rows

    def _gained_addresses(self, changes: ChangeSet) -> set[str]:
        """
        Held mailboxes that may have got an address in these changes (barrier rule 11).

        What is under way for such an address was registered under its former owner, under an alias domain's or
        extension's, or under nobody: no key tells it apart, so every delivery counts.
        """
        moved = {change.epoch for change in changes.changes if change.kind is ChangeKind.ADDRESS}
        gained = {
            change.key for change in changes.changes if change.kind is ChangeKind.MAILBOX and change.epoch in moved
        }
        if any(change.kind is ChangeKind.RESYNC for change in changes.changes):
            held = ((mailbox, hold) for mailbox, hold in changes.holds.items() if hold is not None)
            gained |= {mailbox for mailbox, hold in held if hold.opened_epoch > self._applied}
        return gained
