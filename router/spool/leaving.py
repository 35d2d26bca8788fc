"""
Recipients that leave the spool within one transaction: their rows are read together, and deleted together.

Guarantees: what `take` and `drop` answer is what reading and deleting one by one, in the order of the calls, would
have found. What was read counts until something else touches the tables: `write_out`, then `forget`.

On failure: what sqlite3 raises. A row that was read and is not there to be deleted is damage (`SQLITE_CORRUPT`).
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from router.spool.numbering import message_of

LEAVING = "facts, address, attempts, own, lane, mailbox, clock_start"
"""What is told of a recipient that leaves; the time may be told as text."""

# All rows as one value: sqlite3 gives up the interpreter's lock at every row, and the event loop takes it each time.
# The casts are for damaged rows, of whose types JSON would fail the whole statement; `quote` tells a time exactly. A
# list of numbers is one value, too: the same statement, prepared once, for any number of them. It is joined where
# that can be done; IN makes an index of it first.
_READ = """SELECT
 (SELECT json_group_array(json_array(id, CAST(facts AS TEXT), CAST(address AS TEXT), CAST(attempts AS INTEGER),
         CAST(own AS INTEGER), CAST(lane AS TEXT), CAST(mailbox AS TEXT), quote(clock_start)))
    FROM (SELECT value AS wanted FROM json_each(?1)) CROSS JOIN recipients ON id = wanted),
 (SELECT json_group_array(json_array(id, CAST(keep_until AS REAL), CAST(body_file AS TEXT), CAST(size AS INTEGER),
         (SELECT count(*) FROM (SELECT 1 FROM recipients
           WHERE recipients.id BETWEEN wanted << 16 AND (wanted << 16) + 65535 LIMIT ?3))))
    FROM (SELECT value AS wanted FROM json_each(?2)) CROSS JOIN messages ON id = wanted)"""


@dataclass(slots=True)
class _Message:
    """As it was read. `left` counts its recipients, but at most one more than were read ahead of them."""

    keep_until: float | None
    body_file: str
    size: int
    left: int


class Leaving:
    """See the module. Of one transaction, which must not be a careful one: damage fails all of it."""

    __slots__ = ("_connection", "_gone", "_gone_messages", "_messages", "_rows")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rows: dict[int, tuple[Any, ...] | None] = {}
        self._messages: dict[int, _Message] = {}
        self._gone: list[int] = []
        self._gone_messages: list[int] = []

    def knows(self, numbers: Iterable[int]) -> bool:
        """Whether all of these recipients were read."""
        return all(number in self._rows for number in numbers)

    def read(self, numbers: Iterable[int]) -> None:
        """Read recipients and their messages; only after `forget`, if anything was read before."""
        self._rows = dict.fromkeys(numbers)
        wanted = Counter(map(message_of, self._rows))
        limit = max(wanted.values(), default=0) + 1
        found = self._connection.execute(_READ, (_listed(self._rows), _listed(wanted), limit)).fetchone()
        try:
            recipients, messages = map(json.loads, found)
        except ValueError as error:  # an infinite time has no JSON
            raise damaged("rows that leave cannot be read together") from error
        self._rows.update((number, tuple(facts)) for number, *facts in recipients)
        self._messages.update((number, _Message(*facts)) for number, *facts in messages)

    def take(self, number: int) -> tuple[Any, ...] | None:
        """A recipient's columns `LEAVING`, and it is gone; None if it was before."""
        row = self._rows[number]
        if row is not None:
            self._rows[number] = None
            self._gone.append(number)
            message = self._messages.get(message_of(number))
            if message is not None:
                message.left -= 1
        return row

    def is_read(self, message: int) -> bool:
        """Whether `drop` can tell of this message."""
        return message in self._messages

    def drop(self, number: int, now: float) -> tuple[bool, tuple[str, int] | None]:
        """
        Delete a message that has no recipients and need not be kept: whether it has none, and `body_file` and `size`
        if it was deleted.
        """
        message = self._messages[number]
        if message.left:
            return False, None
        if message.keep_until is not None and message.keep_until > now:
            return True, None
        del self._messages[number]
        self._gone_messages.append(number)
        return True, (message.body_file, message.size)

    def write_out(self) -> None:
        """Delete what was taken and dropped."""
        if self._gone:
            self._delete("recipients", self._gone)
            self._gone = []
        if self._gone_messages:
            self._delete("messages", self._gone_messages)
            self._gone_messages = []

    def forget(self) -> None:
        """Something else is going to touch the tables."""
        self._rows.clear()
        self._messages.clear()

    def _delete(self, table: str, numbers: list[int]) -> None:
        if len(numbers) == 1:
            done = self._connection.execute(f"DELETE FROM {table} WHERE id = ?", numbers)  # noqa: S608 - names of ours
        else:
            listed = f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608 - names of ours
            done = self._connection.execute(listed, (_listed(numbers),))
        if done.rowcount != len(numbers):
            raise damaged("rows that were read are not there to be deleted")


def moment(told: object) -> float:
    """The last of the columns `LEAVING`. Raises `sqlite3.DatabaseError`, as for any damaged row."""
    try:
        return float(str(told))
    except ValueError as error:
        raise damaged(f"{told!r} is no time") from error


def damaged(text: str) -> sqlite3.DatabaseError:
    """As SQLite itself says it: each operation is then done alone, and passes over what it cannot change."""
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _listed(numbers: Iterable[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"
