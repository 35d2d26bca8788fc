"""
Small bodies read together with the works that they belong to, so that a delivery need not ask for each.

Guarantees: a body that is handed out matches its checksum; not more octets of them than asked for, and those of the
first works first. On failure: a body that is damaged, or cannot be read, is not there; whoever needs it reads it alone
and finds out why.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from router.errors import BodyDamaged
from router.model.envelope import QueuedMessage, Work
from router.spool.bodies import verify_inline
from router.spool.failures import is_damage


def with_bodies(connection: sqlite3.Connection, works: Sequence[Work], octets: int) -> list[Work]:
    """The works in their order, the first ones with bodies in `inline`: of those in rows, at most `octets` in all."""
    wanted = _first(works, octets)
    bodies = _bodies(connection, wanted) if wanted else {}
    return [Work(bodies.get(work.message.number, work.message), work.recipients) for work in works]


def _first(works: Sequence[Work], octets: int) -> list[QueuedMessage]:
    found: dict[int, QueuedMessage] = {}
    for message in [work.message for work in works if not work.message.body_file]:
        if message.number not in found:
            octets -= message.size
            if octets < 0:
                break
            found[message.number] = message
    return list(found.values())


def _bodies(connection: sqlite3.Connection, messages: Sequence[QueuedMessage]) -> dict[int, QueuedMessage]:
    marks = ",".join("?" * len(messages))
    query = f"SELECT id, body FROM messages WHERE id IN ({marks})"  # noqa: S608 - nothing but marks
    try:
        rows = dict(connection.execute(query, [one.number for one in messages]).fetchall())
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return {}
    found: dict[int, QueuedMessage] = {}
    for one in messages:
        try:
            found[one.number] = replace(one, inline=verify_inline(one, rows.get(one.number)))
        except BodyDamaged:
            continue
    return found
