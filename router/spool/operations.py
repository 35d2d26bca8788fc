"""
What changes many rows at once: release mailboxes, wake a lane, purge, remember, drop moved journal rows, shorten.

Each operation is a value whose `apply` makes one change inside the writer's transaction; it may be applied again
after a rollback and touches nothing but the transaction. None changes more than `CHUNK` rows, so that mail coming in
gets its turn between two of them.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from router.spool.accepting import forget_message
from router.spool.batch import Batch
from router.spool.failures import is_damage
from router.spool.numbering import recipient_range

CHUNK = 1000


@dataclass(frozen=True, slots=True)
class ReleasePosition:
    """How far a release has come: one chunk is one transaction."""

    mailbox: int = 0
    state: int = 0
    after: int = 0
    newest: int = 0
    """Recipients with a higher number came in after the release began and are left alone, so that it ends."""


@dataclass(frozen=True, slots=True)
class Release:
    """
    One chunk of a release: held and queued recipients of the mailboxes become draining, in order of arrival. Done
    again after a crash it ends what was left undone.
    """

    mailboxes: tuple[str, ...]
    now: float
    position: ReleasePosition = ReleasePosition()
    lazy: bool = False
    essential: bool = True

    _STATES: ClassVar = ("queued", "held")  # this way round no row is met twice

    def apply(self, batch: Batch) -> tuple[int, ReleasePosition | None]:
        """Number of recipients changed, and where to go on (None: done)."""
        batch.released.update(self.mailboxes)
        newest = self.position.newest or recipient_range(batch.numbers.message)[1]
        count, looked, position = 0, 0, replace(self.position, newest=newest)
        while looked < CHUNK and position.mailbox < len(self.mailboxes):
            changed, seen, last = self._step(batch, position, CHUNK - looked)
            count += changed
            looked += seen
            if last:
                position = replace(position, after=last)
            elif position.state + 1 < len(self._STATES):
                position = replace(position, state=position.state + 1, after=0)
            else:
                position = ReleasePosition(mailbox=position.mailbox + 1, newest=newest)
        return count, position if position.mailbox < len(self.mailboxes) else None

    def _step(self, batch: Batch, position: ReleasePosition, limit: int) -> tuple[int, int, int]:
        """How many were changed, how many looked at, and the last one of them (0: none)."""
        state, mailbox = self._STATES[position.state], self.mailboxes[position.mailbox]
        # All that is asked for is in the index: a row that cannot be read must not stop the others.
        rows = batch.connection.execute(
            "SELECT id FROM recipients INDEXED BY recipients_mailbox"
            " WHERE state = ? AND mailbox = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?",
            (state, mailbox, position.after, position.newest, limit),
        ).fetchall()
        changed = batch.change(
            "UPDATE recipients SET state = 'queued', draining = 1, due = ?, clock_start = ?, attempts = 0,"
            " unknown_since = NULL WHERE NOT (draining = 1 AND clock_start = ?) AND id = ?",
            [(self.now, self.now, self.now, number) for (number,) in rows],
        )
        return changed, len(rows), rows[-1][0] if rows else 0


@dataclass(frozen=True, slots=True)
class Reroute:
    """
    Queued recipients of these mailboxes forget their lane and are due now: it may be that of a former home, and a
    paused or resting lane would keep them. One chunk; returns how many were changed, and whether there may be more.
    """

    mailboxes: tuple[str, ...]
    now: float
    lazy: bool = False
    essential: bool = True

    def apply(self, batch: Batch) -> tuple[int, bool]:
        changed = seen = 0
        for mailbox in self.mailboxes:
            rows = batch.connection.execute(
                "SELECT id FROM recipients INDEXED BY recipients_mailbox WHERE state = 'queued' AND mailbox = ?"
                " AND draining = 0 AND (lane <> '' OR due > ?) LIMIT ?",
                (mailbox, self.now, CHUNK - seen),
            ).fetchall()
            seen += len(rows)
            changed += batch.change(
                "UPDATE recipients SET lane = '', due = min(due, ?) WHERE id = ?",
                [(self.now, number) for (number,) in rows],
            )
            if seen >= CHUNK:
                break
        return changed, _more(changed, seen)


@dataclass(frozen=True, slots=True)
class Revive:
    """
    Parked recipients whose time has come are queued again (promise 6); one chunk. Returns how many.

    The retry clock starts anew: it has run out while they were parked, and one temporary failure at the first try
    must not be the end of them.
    """

    now: float
    lazy: bool = True
    essential: bool = True

    def apply(self, batch: Batch) -> int:
        rows = batch.connection.execute(
            "SELECT id FROM recipients INDEXED BY recipients_mailbox WHERE state = 'parked' AND due > 0 AND due <= ?"
            " LIMIT ?",
            (self.now, CHUNK),
        ).fetchall()
        return batch.change(
            "UPDATE recipients SET state = 'queued', draining = 0, due = ?, clock_start = ?, attempts = 0,"
            " unknown_since = NULL, lane = '' WHERE id = ?",
            [(self.now, self.now, number) for (number,) in rows],
        )


@dataclass(frozen=True, slots=True)
class Wake:
    """One chunk of a lane made due now; returns how many were not due before, and whether there may be more."""

    lane: str
    now: float
    lazy: bool = False
    essential: bool = True

    def apply(self, batch: Batch) -> tuple[int, bool]:
        rows = batch.connection.execute(
            "SELECT id FROM recipients INDEXED BY recipients_due"
            " WHERE state = 'queued' AND draining = 0 AND lane = ? AND due > ? LIMIT ?",
            (self.lane, self.now, CHUNK),
        ).fetchall()
        changed = batch.change("UPDATE recipients SET due = ? WHERE id = ?", [(self.now, number) for (number,) in rows])
        return changed, _more(changed, len(rows))


def _more(changed: int, seen: int) -> bool:
    """
    Whether to go on after a chunk. The last one is not full; to ask for an empty one would never end while mail that
    was made due is tried and put off again. Rows that cannot be changed are found again and again.
    """
    return changed > 0 and seen >= CHUNK


@dataclass(frozen=True, slots=True)
class Purge:
    """Remove messages whose last recipient is closed and whose `keep_until` has passed; how many."""

    now: float
    lazy: bool = True
    essential: bool = True

    def apply(self, batch: Batch) -> int:
        rows = batch.connection.execute(
            "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE keep_until IS NOT NULL AND keep_until <= ?"
            " AND NOT EXISTS (SELECT 1 FROM recipients WHERE recipients.id BETWEEN messages.id << 16"
            " AND (messages.id << 16) + 65535) LIMIT ?) RETURNING body_file, size",
            (self.now, CHUNK),
        ).fetchall()
        for file, size in rows:
            forget_message(batch, file, size)
        return len(rows)


@dataclass(frozen=True, slots=True)
class Remember:
    """Note the control database's uuid and the highest epoch seen; `force` accepts a restored one."""

    uuid: str
    epoch: int
    force: bool = False
    lazy: bool = True
    essential: bool = True

    def apply(self, batch: Batch) -> tuple[str, int]:
        """What the spool remembers from now on."""
        stored = dict(batch.connection.execute("SELECT name, value FROM meta WHERE name IN ('uuid', 'epoch')"))
        known, highest = stored.get("uuid", ""), int(stored.get("epoch", "0"))
        if not self.force and known not in {"", self.uuid}:
            return known, highest
        epoch = self.epoch if self.force else max(self.epoch, highest)
        values = (("uuid", self.uuid), ("epoch", str(epoch)))
        batch.connection.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", values)
        return self.uuid, epoch


@dataclass(frozen=True, slots=True)
class DropJournal:
    """Delete journal rows that are safe in their monthly file. Their numbers come in order."""

    numbers: tuple[int, ...]
    lazy: bool = True
    essential: bool = True

    def apply(self, batch: Batch) -> None:
        batch.connection.executemany("DELETE FROM journal WHERE id BETWEEN ? AND ?", list(_runs(self.numbers)))


_IN_QUARANTINE = "SELECT 1 FROM recipients WHERE state = 'quarantined' LIMIT 1"


class CannotShorten(Exception):
    """The pages of the database contradict each other."""


@dataclass(frozen=True, slots=True)
class Shorten:
    """
    Give that many free pages back to the file system, if there are as many: how many. Pages at the end of the file move
    to where free ones are. The file is shorter when the log was copied back, which follows.

    Nothing is moved while a message is in quarantine: pages that are linked wrongly would spread. `CannotShorten` when
    that is found out now, which is no reason to give up a database that can be read and written.
    """

    pages: int
    lazy: bool = True
    essential: bool = False

    def apply(self, batch: Batch) -> int:
        free, connection = _free_pages(batch), batch.connection
        if free < self.pages or connection.execute(_IN_QUARANTINE).fetchone() is not None:
            return 0
        try:
            for _ in range(self.pages):
                # One by one: each is a row without columns, and sqlite3 takes the first of these for the end.
                connection.execute("PRAGMA incremental_vacuum(1)")
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            raise CannotShorten(str(error)) from error
        batch.shortened = True
        return free - _free_pages(batch)


@dataclass(frozen=True, slots=True)
class ShortenLog:
    """Copy the log back and give what it has taken of the disk to others; only pages that are new need space for it."""

    lazy: bool = True
    essential: bool = False

    def apply(self, batch: Batch) -> None:
        batch.shortened = True


def _free_pages(batch: Batch) -> int:
    return int(batch.connection.execute("PRAGMA freelist_count").fetchone()[0])


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of numbers without a gap: mostly one, which one statement deletes."""
    first = last = None
    for number in numbers:
        if first is None or last is None or number != last + 1:
            if first is not None and last is not None:
                yield first, last
            first = number
        last = number
    if first is not None and last is not None:
        yield first, last
