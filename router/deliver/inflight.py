"""
The deliveries under way in this worker, by mailbox: what the barrier asks about (barrier rules 1, 2, 6, 7).

Guarantees: an entry exists from the synchronous step that decided the route until its outcome has committed, or, for
a delivery in doubt, until the store's settle time has passed. A hold either cancels an entry before its final dot
(then nothing more is written to the store) or finds it blocking.

On failure: nothing here fails or waits; all of it runs on the event loop between two awaits.
"""

import itertools
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from router.model.change import Blocking, Ended
from router.model.mailbox import Hold

IN_DOUBT = "in doubt"
EVERYBODY = "*"
"""The key of an entry that may concern any mailbox: what a dead process had under way is not always known by name."""


class Entry:
    """One transaction under way to one next hop; the `Gate` that the sender consults."""

    __slots__ = (
        "_abort",
        "cancelled",
        "keys",
        "lane",
        "message_id",
        "number",
        "numbers",
        "passed",
        "queue_id",
        "since",
        "stage_name",
        "watched",
    )

    def __init__(
        self,
        number: int,
        keys: frozenset[str],
        lane: str,
        queue_id: str,
        message_id: str,
        since: float,
        numbers: frozenset[int] = frozenset(),
    ) -> None:
        self.number = number
        self.numbers = numbers
        """The recipients, by their numbers in the spool."""
        self.keys = keys
        self.lane = lane
        self.queue_id = queue_id
        self.message_id = message_id
        self.since = since
        self.stage_name = "route"
        self.passed = False
        self.cancelled = False
        self.watched = False
        self._abort: Callable[[], None] | None = None

    def stage(self, name: str) -> None:
        self.stage_name = name

    def attach(self, abort: Callable[[], None]) -> None:
        """The connection in use; `abort` must drop it at once, unsent octets included."""
        self._abort = abort
        if self.cancelled:
            abort()

    def pass_dot(self) -> bool:
        if self.cancelled:
            return False
        self.passed = True
        self.stage_name = "dot"
        return True

    def cancel(self) -> None:
        """Before the dot: stop the transaction. After it: nothing, the barrier waits for the reply."""
        if self.passed or self.cancelled:
            return
        self.cancelled = True
        if self._abort is not None:
            self._abort()


class InFlight:
    """All entries of one worker. `ended` is told of every entry that had to be reported as blocking."""

    def __init__(self, ended: Callable[[Ended], None]) -> None:
        self._numbers = itertools.count(1)
        self._by_mailbox: dict[str, set[Entry]] = {}
        self._entries: set[Entry] = set()
        self._ended = ended

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries)

    def register(
        self,
        keys: Iterable[str],
        lane: str,
        queue_id: str,
        message_id: str,
        since: float,
        numbers: Iterable[int] = (),
    ) -> Entry:
        """Enter a delivery; call it in the same synchronous step as the decision (barrier rule 1)."""
        entry = Entry(next(self._numbers), frozenset(keys), lane, queue_id, message_id, since, frozenset(numbers))
        self._entries.add(entry)
        for key in entry.keys:
            self._by_mailbox.setdefault(key, set()).add(entry)
        return entry

    def end(self, entry: Entry, *, in_doubt: bool = False) -> None:
        """The outcome has committed, or nothing was sent; idempotent."""
        if entry not in self._entries:
            return
        self._entries.discard(entry)
        for key in entry.keys:
            others = self._by_mailbox.get(key)
            if others is not None:
                others.discard(entry)
                if not others:
                    del self._by_mailbox[key]
        if entry.watched:
            self._ended(Ended(entry.number, in_doubt=in_doubt, message_id=entry.message_id))

    def sending(self, numbers: AbstractSet[int]) -> list[Entry]:
        """Deliveries under way to any of these recipients; not those whose outcome is committed as in doubt."""
        return [one for one in self._entries if one.stage_name != IN_DOUBT and not one.numbers.isdisjoint(numbers)]

    def hold(self, mailbox: str, hold: Hold, *, everything: bool = False) -> list[Blocking]:
        """
        A hold of `mailbox` is applied: cancel what can be cancelled, and name all that is still there.

        `everything`: any delivery may concern it, whatever it was registered for (barrier rule 11).
        """
        rows = []
        named = {*self._by_mailbox.get(mailbox, ()), *self._by_mailbox.get(EVERYBODY, ())}
        for entry in tuple(self._entries) if everything else named:
            entry.cancel()
            if entry not in self._entries:
                continue
            entry.watched = True
            rows.append(
                Blocking(entry.number, mailbox, hold.number, entry.lane, entry.queue_id, entry.stage_name, entry.since)
            )
        return rows
