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

    def apply(self, changes: ChangeSet) -> Sequence[Blocking]:
        """The rows that must be written together with the acknowledgement."""
        self._cache.apply(changes)
        rows: list[Blocking] = []
        free: list[str] = []
        for mailbox, hold in changes.holds.items():
            if hold is None:
                free.append(mailbox)
            else:
                self._releases.hold_applied(mailbox)
                rows.extend(self._inflight.hold(mailbox, hold))
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
