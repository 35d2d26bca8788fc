"""
Forwards in the spool: the recipients that one recipient is exchanged for, in the transaction that closes it.

Guarantees: the new recipients are there exactly when the old one is gone; done again after an unknown commit nothing
is opened twice. A recipient's number is never given out again within its message: the highest one is kept in the table
`expanded` as long as the message has recipients. The retry clock goes on where it was: a forward does not restart it.

On failure: `ValueError` when a message has no numbers left; nothing of the settlement is applied.
"""

import sqlite3
from dataclasses import dataclass

from router.model.envelope import QueuedMessage, QueuedRecipient
from router.model.outcome import Outcome
from router.spool.accepting import RECIPIENT, recipient_row
from router.spool.batch import OPENED, Batch
from router.spool.numbering import LAST_PLACE, MAX_RECIPIENTS, place_of, recipient_number, recipient_range

_CHUNK = 1000


def expand(
    batch: Batch, message: QueuedMessage, outcome: Outcome, clock_start: float, own: int
) -> list[QueuedRecipient]:
    """Insert `outcome.opens`, due at once; the rows of the table are all changed before anything is counted."""
    first = _take_places(batch.connection, message.number, outcome)
    opened = [
        QueuedRecipient(
            number=recipient_number(message.number, first + at),
            address=new.address,
            notify=new.notify,
            orcpt=new.orcpt,
            lane=new.hint,
            mailbox=new.mailbox,
            due=outcome.at,
            clock_start=clock_start,
            draining=new.draining,
            via=new.via,
            kept=new.kept,
            through=new.through,
        )
        for at, new in enumerate(outcome.opens)
    ]
    rows = [recipient_row(new, one, own) for new, one in zip(outcome.opens, opened, strict=True)]
    batch.insert(RECIPIENT, rows)
    batch.pages += len(rows)
    batch.count(OPENED, len(rows), own=own)
    return opened


def forget_places(batch: Batch, message: QueuedMessage, closed: list[int]) -> None:
    """
    The message has no recipients left. What is left behind, where the last one was not opened by a forward, goes from
    time to time (`ForgetPlaces`).
    """
    if any(place_of(number) >= MAX_RECIPIENTS for number in closed):
        batch.connection.execute("DELETE FROM expanded WHERE message = ?", (message.number,))


@dataclass(frozen=True, slots=True)
class ForgetPlaces:
    """One chunk of the places of messages that are gone, whoever left them last; how many there were."""

    lazy: bool = True
    essential: bool = True

    def apply(self, batch: Batch) -> int:
        return batch.connection.execute(
            "DELETE FROM expanded WHERE message IN (SELECT message FROM expanded"
            " WHERE message NOT IN (SELECT id FROM messages) LIMIT ?)",
            (_CHUNK,),
        ).rowcount


def _take_places(connection: sqlite3.Connection, message: int, outcome: Outcome) -> int:
    row = connection.execute("SELECT last FROM expanded WHERE message = ?", (message,)).fetchone()
    if row is None:
        # A spool of a former version may have given a client's recipients places of the upper half.
        highest = "SELECT max(id) FROM recipients WHERE id BETWEEN ? AND ?"
        found = connection.execute(highest, recipient_range(message)).fetchone()[0] or 0
        row = (max(MAX_RECIPIENTS - 1, place_of(found), place_of(outcome.recipient)),)
    last = row[0] + len(outcome.opens)
    if last > LAST_PLACE:
        raise ValueError(f"message {message} cannot have {len(outcome.opens)} recipients more")
    connection.execute(
        "INSERT INTO expanded (message, last) VALUES (?, ?) ON CONFLICT DO UPDATE SET last = excluded.last",
        (message, last),
    )
    return int(row[0]) + 1
