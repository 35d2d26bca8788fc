"""
Reading a spool while its writer works: short read-only transactions in a small pool of threads.

Guarantees: a query touches only rows it returns (partial indices, loose index scans), so a million queued recipients
cost nothing; no transaction outlives one call. A damaged row never blocks the rest: it is left out of the answer and
reported beside it, and a row whose page cannot be read at all is passed over from then on.

On failure: `SpoolUnavailable` when the database cannot be read, `SpoolDamaged` when it contradicts itself; the
connection is opened anew at the next call.
"""

# ruff: noqa: S608 - queries are put together from names and conditions of ours; values are always bound

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from router.errors import BodyDamaged, SpoolDamaged, SpoolUnavailable
from router.model.envelope import QueuedMessage, QueuedRecipient, Work
from router.spool.at_hand import with_bodies
from router.spool.failures import is_damage, is_ruin
from router.spool.numbering import MAX_RECIPIENTS, message_of
from router.spool.records import MESSAGE_COLUMNS, RECIPIENT_COLUMNS, decode_message, decode_recipient, decode_via
from router.spool.schema import open_reader

_IN = 200
"""Values in one IN list."""
_UNREADABLE = 10_000

P = ParamSpec("P")
T = TypeVar("T")


def _loose(index: str, column: str, condition: str) -> str:
    """All distinct values of an index's first free column, one index descent each."""
    inner = f"SELECT min({column}) FROM recipients INDEXED BY {index} WHERE {condition}"
    return (
        f"WITH RECURSIVE each(value) AS ({inner} UNION ALL"
        f" SELECT ({inner} AND {column} > each.value) FROM each WHERE each.value IS NOT NULL)"
    )


_QUEUED = "state = 'queued' AND draining = 0"
_LANES = _loose("recipients_due", "lane", _QUEUED) + (
    f" SELECT value, (SELECT min(due) FROM recipients INDEXED BY recipients_due WHERE {_QUEUED} AND lane = value)"
    " FROM each WHERE value IS NOT NULL"
)
_DISTINCT = " SELECT value FROM each WHERE value IS NOT NULL AND value <> ''"
_HELD = _loose("recipients_mailbox", "mailbox", "state = 'held'") + _DISTINCT
_QUEUED_MAILBOXES = _loose("recipients_mailbox", "mailbox", "state = 'queued'") + _DISTINCT
_NAMELESS = "SELECT 1 FROM recipients INDEXED BY recipients_mailbox WHERE state = 'queued' AND mailbox = '' LIMIT 1"
_FORWARDED_FOR = (
    "SELECT facts FROM expanded CROSS JOIN recipients"
    " ON recipients.id BETWEEN message << 16 | ?1 AND (message << 16) + 65535 WHERE state = 'queued'"
)
_FORWARDED_OF_ONE = (
    "SELECT facts FROM recipients WHERE id BETWEEN ?2 << 16 | ?1 AND (?2 << 16) + 65535 AND state = 'queued'"
)
_DRAINING_MAILBOXES = _loose("recipients_draining", "mailbox", "draining = 1") + _DISTINCT
_DUE = (
    f"SELECT id FROM recipients INDEXED BY recipients_due WHERE {_QUEUED} AND lane = ? AND due <= ?"
    " ORDER BY due, id LIMIT ?"
)
_DRAINING = (
    "SELECT id FROM recipients INDEXED BY recipients_draining WHERE draining = 1 AND mailbox = ? ORDER BY id LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Damage:
    """A row or body that cannot be trusted. `readable` is false when not even its row can be updated safely."""

    recipient: int
    why: str
    readable: bool = True
    structural: bool = False
    """An index and its table contradict each other: others may not be found either."""


@dataclass(frozen=True, slots=True)
class Found:
    """Works in the order asked for, and what had to be left out."""

    works: list[Work]
    damaged: list[Damage]


class Reader:
    """Read-only access to one spool's database; used by the worker and by offline tools alike."""

    def __init__(self, path: Path, spool: int, *, threads: int = 2) -> None:
        self._path = path
        self._spool = spool
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="spool-reader")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self.unreadable: dict[int, str] = {}
        """Recipient numbers whose rows cannot be read, with the reason; bounded."""
        self.ruined: Callable[[str], None] = lambda _why: None
        """Told, in any thread, of damage that is no single row's."""

    def call(self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in one read transaction; blocks. sqlite3 errors become `SpoolUnavailable`, `SpoolDamaged`."""
        connection = self._connection()
        try:
            connection.execute("BEGIN")
            try:
                return query(connection, *args, **kwargs)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._drop(connection)
            if is_ruin(error):
                self.ruined(str(error))
                raise SpoolDamaged(f"reading the spool: {error}") from error
            raise SpoolUnavailable(f"reading the spool: {error}") from error

    def pass_over(self, number: int, why: str) -> None:
        """Leave a recipient out of all answers from now on: its row can neither be used nor be set aside."""
        if len(self.unreadable) < _UNREADABLE:
            self.unreadable[number] = why

    def close(self) -> None:
        """End the threads and their connections; blocks for the query under way."""
        self.pool.shutdown(wait=True)
        with self._guard:
            for connection in self._opened:
                connection.close()
            self._opened.clear()

    # Queries; each is given to `call`.

    def due(self, connection: sqlite3.Connection, lane: str, now: float, limit: int, generation: int) -> Found:
        """Queued recipients of a lane due by `now`, oldest due first."""
        rows = connection.execute(_DUE, (lane, now, limit + len(self.unreadable)))
        return self._works(connection, (number for (number,) in rows.fetchall()), limit, generation, group=True)

    def draining(
        self, connection: sqlite3.Connection, mailbox: str, limit: int, generation: int, *, octets: int = 0
    ) -> Found:
        """Draining recipients of a mailbox in order of arrival, one a work; with their bodies, see `Queue.draining`."""
        rows = connection.execute(_DRAINING, (mailbox, limit + len(self.unreadable)))
        found = self._works(connection, (number for (number,) in rows.fetchall()), limit, generation, group=False)
        return Found(with_bodies(connection, found.works, octets), found.damaged)

    def works(self, connection: sqlite3.Connection, numbers: Sequence[int], generation: int) -> Found:
        """These recipients, whatever their state, by message."""
        return self._works(connection, iter(numbers), len(numbers), generation, group=True, any_state=True)

    def _works(
        self,
        connection: sqlite3.Connection,
        numbers: Iterable[int],
        limit: int,
        generation: int,
        *,
        group: bool,
        any_state: bool = False,
    ) -> Found:
        wanted = [number for number in numbers if number not in self.unreadable][:limit]
        damaged: list[Damage] = []
        recipients: list[QueuedRecipient] = []
        for row in self._rows(connection, "recipients", RECIPIENT_COLUMNS, wanted, damaged):
            try:
                one = decode_recipient(row)
            except BodyDamaged as error:
                damaged.append(Damage(row[0], str(error)))
                continue
            if any_state or one.state.value == "queued":
                recipients.append(one)
            else:
                damaged.append(Damage(one.number, f"recipient row {one.number} contradicts its index"))
        if not any_state:
            self._not_there(wanted, recipients, damaged)
        messages = self._messages(connection, recipients, generation, damaged)
        gathered: dict[int, list[QueuedRecipient]] = {}
        for one in recipients:
            number = message_of(one.number)
            if number in messages:
                gathered.setdefault(number if group else one.number, []).append(one)
        works = [Work(messages[message_of(ones[0].number)], tuple(ones)) for ones in gathered.values()]
        return Found(works, damaged)

    def _not_there(self, wanted: Sequence[int], recipients: Sequence[QueuedRecipient], damaged: list[Damage]) -> None:
        """An index names rows that do not exist: passed over, or they would stand before all others for ever."""
        told = {one.number for one in recipients} | {one.recipient for one in damaged}
        for number in wanted:
            if number not in told:
                why = f"recipient row {number} is named by an index and is not there"
                self.pass_over(number, why)
                damaged.append(Damage(number, why, readable=False, structural=True))

    def _messages(
        self,
        connection: sqlite3.Connection,
        recipients: Sequence[QueuedRecipient],
        generation: int,
        damaged: list[Damage],
    ) -> dict[int, QueuedMessage]:
        numbers = list(dict.fromkeys(message_of(one.number) for one in recipients))
        messages: dict[int, QueuedMessage] = {}
        why: dict[int, str] = {}
        for row in self._rows(connection, "messages", MESSAGE_COLUMNS, numbers, []):
            try:
                messages[row[0]] = decode_message(self._spool, generation, row)
            except BodyDamaged as error:
                why[row[0]] = str(error)
        for one in recipients:
            number = message_of(one.number)
            if number not in messages:
                text = why.get(number, f"message row {number} is missing or unreadable")
                damaged.append(Damage(one.number, text, structural=number not in why))
        return messages

    def _rows(
        self, connection: sqlite3.Connection, table: str, columns: str, numbers: Sequence[int], damaged: list[Damage]
    ) -> list[tuple[Any, ...]]:
        """Rows by number, in the order asked for. Unreadable ones are noted, missing ones left out."""
        found: dict[int, tuple[Any, ...]] = {}
        for start in range(0, len(numbers), _IN):
            part = numbers[start : start + _IN]
            marks = ",".join("?" * len(part))
            query = f"SELECT {columns} FROM {table} WHERE id IN ({marks})"
            try:
                found.update((row[0], row) for row in connection.execute(query, part).fetchall())
            except sqlite3.DatabaseError:
                found.update(self._one_by_one(connection, table, columns, part, damaged))
        return [found[number] for number in numbers if number in found]

    def _one_by_one(
        self, connection: sqlite3.Connection, table: str, columns: str, numbers: Sequence[int], damaged: list[Damage]
    ) -> dict[int, tuple[Any, ...]]:
        found: dict[int, tuple[Any, ...]] = {}
        query = f"SELECT {columns} FROM {table} WHERE id = ?"
        for number in numbers:
            try:
                row = connection.execute(query, (number,)).fetchone()
            except sqlite3.DatabaseError as error:
                damaged.append(Damage(number, f"{table} row {number}: {error}", readable=False))
                if table == "recipients":
                    self.pass_over(number, str(error))
                continue
            if row is not None:
                found[number] = row
        return found

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = open_reader(self._path)
            self._local.connection = connection
            with self._guard:
                self._opened.append(connection)
        return connection

    def _drop(self, connection: sqlite3.Connection) -> None:
        self._local.connection = None
        with self._guard:
            self._opened.remove(connection)
        connection.close()


def fetch_all(connection: sqlite3.Connection, query: str, *values: object) -> list[Any]:
    """All rows of a small answer."""
    return connection.execute(query, values).fetchall()


def fetch_one(connection: sqlite3.Connection, query: str, *values: object) -> Any:
    """The first row, or None."""
    return connection.execute(query, values).fetchone()


def lanes(connection: sqlite3.Connection) -> list[tuple[str, float]]:
    """Lanes with queued recipients, each with its earliest due time."""
    return [(lane, due) for lane, due in connection.execute(_LANES)]


def held_mailboxes(connection: sqlite3.Connection) -> list[str]:
    return [mailbox for (mailbox,) in connection.execute(_HELD)]


def queued_mailboxes(connection: sqlite3.Connection) -> list[str]:
    """
    Also those for which something was forwarded: it concerns them as it does the mailbox that it goes to. '' stands
    for somebody: a notice of our own, or mail accepted while nobody could say for whom, names no mailbox before it is
    settled, and a damaged row names none at all.
    """
    named = [mailbox for (mailbox,) in connection.execute(_QUEUED_MAILBOXES)]
    nameless = ["" for _ in connection.execute(_NAMELESS)]
    return list(dict.fromkeys((*nameless, *named, *_forwarded_for(connection))))


def _forwarded_for(connection: sqlite3.Connection) -> list[str]:
    try:
        return _names(connection, _FORWARDED_FOR, MAX_RECIPIENTS)
    except sqlite3.DatabaseError:
        found: list[str] = []
    # Behind a damaged page somewhere: message by message, so that it hides its own recipients only.
    for (message,) in connection.execute("SELECT message FROM expanded").fetchall():
        try:
            found += _names(connection, _FORWARDED_OF_ONE, MAX_RECIPIENTS, message)
        except sqlite3.DatabaseError:
            found.append("")
    return found


def _names(connection: sqlite3.Connection, query: str, *values: int) -> list[str]:
    return list(dict.fromkeys(one for (facts,) in connection.execute(query, values) for one in decode_via(facts)))


def draining_mailboxes(connection: sqlite3.Connection) -> list[str]:
    return [mailbox for (mailbox,) in connection.execute(_DRAINING_MAILBOXES)]


def inline_body(connection: sqlite3.Connection, number: int) -> bytes | None:
    """The body kept in a message's row. Raises `BodyDamaged` when its pages cannot be read."""
    try:
        row = connection.execute("SELECT body FROM messages WHERE id = ?", (number,)).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise BodyDamaged(f"the body of message {number}: {error}") from error
    return None if row is None else row[0]


def names_file(connection: sqlite3.Connection, name: str) -> bool:
    """Whether a row names this body file."""
    query = "SELECT 1 FROM messages WHERE body_file = ? AND body_file <> '' LIMIT 1"
    return connection.execute(query, (name,)).fetchone() is not None


def meta(connection: sqlite3.Connection) -> dict[str, str]:
    """What the spool remembers about itself."""
    return dict(connection.execute("SELECT name, value FROM meta"))
