"""
The mirror of one directory: what is read there becomes mailboxes here, with an epoch for each change.

Guarantees: entries are taken in by short transactions, each with at most one epoch; what is known already costs a
read and no more. What a sweep did not find is removed only if the sweep came to its end and the directory has not
lost more of a domain than `max_loss` of its people: then nothing is removed there, and nobody of the domain is
called unknown until the people are back or an operator has accepted it.

On failure: `ControlUnavailable`; what was taken in stays, and the same items may be given again. An instance belongs
to one thread. A sweep that was not ended (a crash) has removed nothing.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from router.control import alarms, domains, entries, following, written
from router.control.database import ControlDatabase
from router.control.directory_alarms import DOUBT, DOWN, PROBLEM, Alarms
from router.control.entries import Reading, Taken
from router.control.placement import place
from router.control.rows import slices
from router.control.slicer import LARGEST, Slicer
from router.control.sweep import Sweep, Swept
from router.control.turn import Turn
from router.model.directory import Answered, Cookie, DirectoryItem, DomainEntry, Entry, Unplaced, complaint

QUIET_SECONDS = 10.0
"""Seconds: as long as any worker lets a row stand still, and seldom enough to write nearly nothing."""

_TOGETHER = 100
"""Items of one lookup in one transaction."""
_REST = 0.4
"""A sweep that finds many new people has minutes of work: the database is left to others for a quarter of them."""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """How many entries were new, changed, and known. `epoch` is the newest that was taken, 0 for none."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    epoch: int = 0

    def plus(self, other: "Mirrored") -> "Mirrored":
        """Both together."""
        return Mirrored(
            self.created + other.created,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            max(self.epoch, other.epoch),
        )


class Mirror:
    """
    `sources` are all of the configuration in their order, 'database' among them: for one mailbox the first is
    believed. `never_held` is the postmaster's mailbox. `wall` and `sleep` are in seconds; `quiet` is how long the row
    of the directory may stand still while it is followed.
    """

    def __init__(
        self,
        database: ControlDatabase,
        source: str,
        sources: Sequence[str],
        *,
        never_held: Collection[str] = (),
        max_loss: float = 0.1,
        quiet: float = QUIET_SECONDS,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source = source
        self._database = database
        self._never = frozenset(never_held)
        self._max_loss = max_loss
        self._quiet = quiet
        self._wall = wall
        self._slicer = Slicer(sleep, rest=_REST)
        self._salt = " ".join([*sources, "", *sorted(self._never)])
        self._sweep: Sweep | None = None
        self._contested: set[str] = set()
        self._told: tuple[str, float, str] | None = None
        if not database.run_read(partial(following.enrolled, sources=sources)):
            database.run_write(partial(following.enrol, sources=sources))

    # --- what was read ----------------------------------------------------------------------------------------

    def apply(
        self, items: Sequence[DirectoryItem | Unplaced], *, anew: bool = False, asked: float = math.inf
    ) -> Mirrored:
        """
        Take in what a poll or a lookup brought. `anew` is for a lookup after a miss, put at `asked`: it also places
        what is known already, and leaves a domain's other people to whoever follows the directory.
        """
        done = Mirrored()
        if anew and any(isinstance(item, Entry) for item in items):
            placed: list[DirectoryItem] = [item for item in items if isinstance(item, DomainEntry)]
            placed += [item for item in items if isinstance(item, Entry)]  # in the light of what is said of domains
            for run in slices(placed, _TOGETHER):
                done = done.plus(self.admit(lambda run=run: [Answered(run, asked)]))  # type: ignore[misc]  # mypy 10459
        else:
            done = self._apply_domains(domains.by_name(item for item in items if isinstance(item, DomainEntry)))
            for people in slices([item for item in items if isinstance(item, Entry)], LARGEST):
                done = done.plus(self._apply_people(people))
        for senseless in slices([item for item in items if isinstance(item, Unplaced)], LARGEST):
            done = done.plus(self._database.run_write(partial(self._spoil, items=senseless)))
        return done if anew else done.plus(self.catch_up())

    def admit(self, more: Callable[[], Sequence[Answered]]) -> Mirrored:
        """
        Take in, as `apply` does with `anew`, what `more` brings, in one transaction. It is asked only when nobody else
        writes any more, so that whatever came meanwhile comes along; and again where the transaction is repeated.
        """
        return self._database.run_write(partial(self._admit, more=more))

    def catch_up(self) -> Mirrored:
        """
        Place the people of domains whose standing or home has changed; cheap when there are none.

        `apply` and `followed` do it by themselves: a crash in the middle is made good by the next poll.
        """
        done = Mirrored()
        while self._database.run_read(partial(domains.pending, source=self.source)) is not None:
            done = done.plus(self._slicer.run(self._database, self._next_of_domain))
        return done

    def take_contested(self) -> list[str]:
        """
        Mailboxes that several entries of this directory were found to be since the last call. Look them up and give
        the answer to `confirm`: an entry that was renamed is two until then, and its mail waits.
        """
        taken = sorted(self._contested)
        self._contested.clear()
        return taken

    def confirm(self, items: Sequence[DirectoryItem], asked: float = math.inf) -> Mirrored:
        """The complete answer to a lookup: entries that it proves to be renamed or replaced are forgotten."""
        done = self.apply(items, anew=True, asked=asked)
        people = [item for item in items if isinstance(item, Entry)]

        def work(connection: Connection) -> Mirrored:
            numbers = entries.outdated(connection, self.source, people)
            reading = self._reading(connection)
            return Mirrored(changed=self._remove(connection, numbers, reading.generation + 1).changed)

        return done.plus(self._database.run_write(work))

    # --- a sweep ----------------------------------------------------------------------------------------------

    def begin_sweep(self) -> None:
        """A sweep begins; one that was under way is given up."""
        self._sweep = self._database.run_write(partial(Sweep.begin, source=self.source))

    def swept(self, items: Iterable[DirectoryItem | Unplaced]) -> Mirrored:
        """One page of the sweep. Raises `RuntimeError` when none has begun."""
        page = list(items)
        self._sweeping().count += len(page)
        return self.apply(page)

    def end_sweep(self) -> Swept:
        """The directory was read to its end: remove what is not there any more, or raise the alarm."""
        sweep = self._sweeping()
        result = sweep.end(self._database, self._slicer, self._max_loss, self._remove, self._wall())
        self._sweep = None
        self._told = None
        return result

    # --- how it is followed -----------------------------------------------------------------------------------

    def cookie(self) -> Cookie:
        """How far it was read, before a restart too."""
        for state in self._database.run_read(following.states):
            if state.source == self.source:
                return following.as_cookie(state.cookie)
        return Cookie()

    def followed(self, cookie: Cookie) -> None:
        """It was read up to here, just now. Written when it moved, and often enough to show that it is alive."""
        self.catch_up()
        now, text = self._wall(), following.as_text(cookie)
        if self._told is not None:
            told, at, fault = self._told
            if told == text and not fault and 0 <= now - at < self._quiet:
                return
        self._database.run_write(partial(self._note, cookie=text, now=now))
        self._told = (text, now, "")

    def fault(self, text: str) -> None:
        """It cannot be read now, and why: an alarm, until it is followed again."""
        if self._told is not None and self._told[2] == text:
            return
        self._database.run_write(partial(self._note_fault, text=text, now=self._wall()))
        self._told = ("", 0.0, text)

    def _note(self, connection: Connection, cookie: str, now: float) -> None:
        following.put(connection, self.source, cookie=cookie, followed_at=now, fault="", fault_at=None)
        alarms.clear_alarm(connection, DOWN, self.source, now)

    def _note_fault(self, connection: Connection, text: str, now: float) -> None:
        following.put(connection, self.source, fault=text, fault_at=now)
        alarms.raise_alarm(connection, DOWN, self.source, text, now)

    # --- inside -----------------------------------------------------------------------------------------------

    def _apply_domains(self, items: Sequence[DomainEntry]) -> Mirrored:
        if not items:
            return Mirrored()
        reading = self._reading(self._database)
        if not self._database.run_read(lambda c: any(domains.is_news(c, item, reading) for item in items)):
            return Mirrored(unchanged=len(items))

        def work(connection: Connection) -> Mirrored:
            turn = Turn(connection, self._wall())
            news = self._take_domains(turn, items, reading)
            return Mirrored(changed=news, unchanged=len(items) - news, epoch=turn.finish())

        return self._database.run_write(work)

    def _take_domains(self, turn: Turn, items: Sequence[DomainEntry], reading: Reading) -> int:
        """How many of them said something new."""
        news = domains.take_in(turn.connection, items, reading)
        box = Alarms(turn, DOUBT, [item.domain for item in items])
        for item in items:
            box.set(item.domain, "; ".join(text for text in (item.problem, item.doubt) if text))
        return len(news)

    def _apply_people(self, items: Sequence[Entry]) -> Mirrored:
        reading = self._reading(self._database)
        todo, known = self._database.run_read(partial(entries.fresh, items=items, reading=reading))
        if self._sweep is not None:
            self._sweep.saw(known)
        done = Mirrored(unchanged=len(items) - len(todo))
        while todo:
            run, todo = todo[: self._slicer.size], todo[self._slicer.size :]
            done = done.plus(self._slicer.run(self._database, partial(self._take_news, items=run)))
        return done

    def _take_news(self, connection: Connection, items: Sequence[Entry]) -> Mirrored:
        turn = Turn(connection, self._wall())
        taken = self._take_people(turn, items, self._reading(connection))
        return Mirrored(taken.created, taken.changed, taken.unchanged, turn.finish())

    def _admit(self, connection: Connection, more: Callable[[], Sequence[Answered]]) -> Mirrored:
        answers = sorted(more(), key=lambda one: one.asked)  # of one entry the later answer counts
        turn, reading = Turn(connection, self._wall()), self._reading(connection)
        items = [item for one in answers for item in one.items]
        asked = {item.dn: one.asked for one in answers for item in one.items}
        told = domains.by_name(item for item in items if isinstance(item, DomainEntry))
        news = 0
        if any(domains.is_news(connection, item, reading) for item in told):
            news = self._take_domains(turn, told, reading)
        people = [item for item in items if isinstance(item, Entry)]
        taken = self._take_people(turn, people, reading, asked)
        unchanged = taken.unchanged + len(told) - news
        return Mirrored(taken.created, taken.changed + news, unchanged, turn.finish())

    def _take_people(
        self, turn: Turn, items: Sequence[Entry], reading: Reading, asked: Mapping[str, float] | None = None
    ) -> Taken:
        """`asked`: they are answers to lookups, of which each is placed anew; when these were put, by DN."""
        taken = entries.take_in(turn.connection, items, reading, turn.now, asked or {})
        if asked is not None:
            taken.keys.update(item.key for item in items)
            taken.addresses.update(address for item in items for address in item.addresses)
        written.follow(turn.connection, self.source, taken.renamed)
        self._contested |= place(turn, taken.keys, taken.addresses, self._never)
        return taken

    def _spoil(self, connection: Connection, items: Sequence[Unplaced]) -> Mirrored:
        now, reading = self._wall(), self._reading(connection)
        taken = entries.spoil(connection, items, reading, now)
        domains.still_there(connection, self.source, reading.generation, [item.dn for item in items])
        turn = Turn(connection, now)
        place(turn, taken.keys, (), self._never)
        keys = {f"{self.source}: {item.dn}": item for item in items}
        box = Alarms(turn, PROBLEM, keys)
        for key, item in keys.items():
            box.set(key, complaint(item.dn, item.problem))
        if self._sweep is not None:
            self._sweep.complaints.update(keys)
        return Mirrored(changed=len(taken.keys), epoch=turn.finish())

    def _remove(self, connection: Connection, numbers: Sequence[int], generation: int) -> Taken:
        taken = entries.remove(connection, self.source, numbers, generation)
        turn = Turn(connection, self._wall())
        place(turn, taken.keys, taken.addresses, self._never)
        turn.finish()
        return taken

    def _next_of_domain(self, connection: Connection) -> Mirrored:
        where = domains.pending(connection, self.source)
        if where is None:
            return Mirrored()
        keys = domains.next_people(connection, where, self._slicer.size)
        turn = Turn(connection, self._wall())
        place(turn, keys, (), self._never)
        return Mirrored(changed=len(keys), epoch=turn.finish())

    def _reading(self, where: ControlDatabase | Connection) -> Reading:
        work = partial(following.generation, source=self.source)
        generation = where.run_read(work) if isinstance(where, ControlDatabase) else work(where)
        return Reading(self.source, generation, self._salt, self._sweep is not None)

    def _sweeping(self) -> Sweep:
        if self._sweep is None:
            raise RuntimeError("no sweep has begun")
        return self._sweep
