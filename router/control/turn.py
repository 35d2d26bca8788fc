"""
One write transaction that changes routing state: its one epoch, and what members are told of it.

Guarantees: the epoch is taken with the first thing that needs it, never when nothing has changed; everything told in
one transaction shares it. Above `TOLD_ONE_BY_ONE` mailboxes one RESYNC stands for all of it.
"""

from collections.abc import Iterable

from sqlalchemy import Connection

from router.control import changes
from router.model.change import ChangeKind

TOLD_ONE_BY_ONE = 300
"""Changed mailboxes told by name; above, all members drop what they know instead."""


class Turn:
    """What one transaction has changed so far. `now` is wall-clock seconds."""

    def __init__(self, connection: Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self._epoch = 0
        self._mailboxes: set[str] = set()
        self._addresses: set[str] = set()

    @property
    def epoch(self) -> int:
        """The epoch of this transaction; asking for it takes it."""
        if not self._epoch:
            self._epoch = changes.take_epoch(self.connection)
        return self._epoch

    def tell_mailboxes(self, keys: Iterable[str]) -> None:
        """These mailboxes have changed."""
        self._mailboxes.update(keys)

    def tell_addresses(self, addresses: Iterable[str]) -> None:
        """These addresses belong to somebody else now, or to nobody, or are in dispute."""
        self._addresses.update(addresses)

    def finish(self) -> int:
        """Record it all for those who follow; the epoch, 0 when there is nothing to tell."""
        if not (self._mailboxes or self._addresses or self._epoch):
            return 0
        if len(self._mailboxes) > TOLD_ONE_BY_ONE or len(self._addresses) > 10 * TOLD_ONE_BY_ONE:
            changes.record(self.connection, self.epoch, ChangeKind.RESYNC, [""], self.now)
        else:
            told = {ChangeKind.MAILBOX: sorted(self._mailboxes), ChangeKind.ADDRESS: sorted(self._addresses)}
            changes.record_all(self.connection, self.epoch, told, self.now)
        return self._epoch
