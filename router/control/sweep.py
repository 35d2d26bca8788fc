"""
One sweep of a directory: what was seen, and what follows from what was not.

Guarantees: seeing an entry again costs one bit of memory and no write. Only entries that were known when the sweep
began, that it did not see, and that nobody has read anew since are missing. They are removed domain by domain, and
not where too many are missing: a directory that lost its people is a fault and not the truth (promise 5).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select

from router.control import alarms, directory_alarms, domains, entries, following, losses, schema
from router.control.database import ControlDatabase
from router.control.directory_alarms import DOUBT, PROBLEM, Alarms, open_keys
from router.control.entries import Taken
from router.control.losses import Loss
from router.control.slicer import Slicer
from router.control.turn import Turn

HANDFUL = 5
"""As many entries of a domain may always disappear at once."""
_PAGE = 5000
_E = schema.directory_entries

Remove = Callable[[Connection, Sequence[int], int], Taken]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a complete sweep found: entries there, how many were removed, and domains in which nothing was removed."""

    seen: int
    removed: int
    losses: tuple[Loss, ...] = ()
    kept_domains: tuple[str, ...] = ()
    """Domains on hold that are not in the directory any more; their hold stays."""


@dataclass(slots=True)
class _Missing:
    """Numbers of the entries that are gone, and how many were known, by domain."""

    gone: dict[str, list[int]] = field(default_factory=dict)
    known: Counter[str] = field(default_factory=Counter)


class Sweep:
    """A sweep under way. `begin` makes one."""

    def __init__(self, source: str, generation: int, last: int) -> None:
        self.source = source
        self.generation = generation
        self.count = 0
        """Items read so far."""
        self.complaints: set[str] = set()
        """Keys of the alarms about entries that made no sense."""
        self._last = last
        self._seen = bytearray(last // 8 + 1)

    @classmethod
    def begin(cls, connection: Connection, source: str) -> "Sweep":
        """Begin: whatever is read from now on by anybody belongs to this generation."""
        generation = following.begin_generation(connection, source)
        last = connection.execute(select(func.max(_E.c.number)).where(_E.c.source == source)).scalar()
        return cls(source, generation, int(last or 0))

    def saw(self, numbers: Iterable[int]) -> None:
        """These entries are there."""
        for number in numbers:
            if number <= self._last:
                self._seen[number >> 3] |= 1 << (number & 7)

    def end(self, database: ControlDatabase, slicer: Slicer, max_loss: float, remove: Remove, now: float) -> Swept:
        """The directory was read to its end."""
        missing = self._missing(database)
        accepted = {one.domain: one.accepted for one in database.run_read(partial(losses.every, source=self.source))}
        removed, lost = 0, []
        for domain in sorted(missing.known):
            gone = missing.gone.get(domain, [])
            loss = Loss(self.source, domain, len(gone), missing.known[domain], now)
            if self._is_loss(loss, max_loss, accepted.get(domain, 0)):
                database.run_write(partial(losses.put, loss=loss, now=now))
                lost.append(loss)
                continue
            removed += self._remove(database, slicer, remove, gone)
        for domain in accepted.keys() - {loss.domain for loss in lost}:
            database.run_write(partial(losses.end, source=self.source, domain=domain, now=now))
        kept = database.run_write(partial(self._close, now=now))
        return Swept(self.count, removed, tuple(lost), tuple(kept))

    def _is_loss(self, loss: Loss, max_loss: float, accepted: int) -> bool:
        if not loss.missing or loss.missing <= accepted + (HANDFUL if accepted else 0):
            return False
        if not self.count:
            return True  # nobody at all: an empty directory
        return loss.missing > max(HANDFUL, max_loss * loss.known)

    def _remove(self, database: ControlDatabase, slicer: Slicer, remove: Remove, gone: list[int]) -> int:
        removed, todo = 0, gone
        while todo:
            run, todo = todo[: slicer.size], todo[slicer.size :]
            removed += slicer.run(database, _bound(remove, run, self.generation)).changed
        return removed

    def _missing(self, database: ControlDatabase) -> _Missing:
        found, after = _Missing(), 0
        while True:
            rows = database.run_read(partial(_page, source=self.source, after=after, last=self._last))
            for row in rows:
                found.known[row.domain] += 1
                if row.generation < self.generation and not self._seen[row.number >> 3] & 1 << (row.number & 7):
                    found.gone.setdefault(row.domain, []).append(row.number)
            if len(rows) < _PAGE:
                return found
            after = rows[-1].number

    def _close(self, connection: Connection, now: float) -> list[str]:
        # A domain whose entry went together with everybody else says nothing either.
        kept = domains.end_sweep(connection, self.source, self.generation) if self.count else []
        turn = Turn(connection, now)
        box = Alarms(turn, DOUBT, kept)
        for domain in kept:
            box.set(domain, f"{domain} is not in {self.source} any more; what it said, a hold, stays")
        for key in open_keys(connection, PROBLEM, f"{self.source}: ") - self.complaints:
            alarms.clear_alarm(connection, PROBLEM, key, now)
        directory_alarms.tidy(turn)
        people = entries.count(connection, self.source)
        following.put(connection, self.source, swept_at=now, people=people)
        return kept


def _bound(remove: Remove, numbers: Sequence[int], generation: int) -> Callable[[Connection], Taken]:
    return lambda connection: remove(connection, numbers, generation)


def _page(connection: Connection, source: str, after: int, last: int) -> Sequence[Any]:
    query = select(_E.c.number, _E.c.domain, _E.c.generation).where(
        _E.c.source == source, _E.c.number > after, _E.c.number <= last
    )
    return connection.execute(query.order_by(_E.c.number).limit(_PAGE)).all()
