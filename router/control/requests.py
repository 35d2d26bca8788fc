"""
Work that only a spool's owner may do, written down as a row that the owner executes and answers.

Guarantees: a request is answered at most once; one that was taken by an owner that died is new again for its
successor, which knows by its name what its forerunner has done of it (`router.spool.once`; a flush may be repeated).
Requests that belong together are drafts, which no owner sees, until one transaction makes all of them new.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from router.control import schema
from router.control.rows import RUN, from_json, in_run, slices, to_json

_T = schema.requests
DRAFT, NEW, DONE, FAILED = "draft", "new", "done", "failed"
DRAFTS_KEPT = 86400.0
"""Seconds after which drafts are those of a command that was killed."""
ANSWERS_KEPT = 7 * 86400.0
"""Seconds after which nobody waits for an answer any more; what was done stands in the audit and in the journals."""
_WAITING = (
    select(_T)
    .where(in_run(_T.c.spool), _T.c.state == NEW, _T.c.number > bindparam("after"))
    .order_by(_T.c.number)
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the owner of one spool; `answer` is a JSON value once `state` is done or failed."""

    number: int
    spool: int
    kind: str
    payload: Any
    state: str
    created_at: float
    created_by: str
    answered_at: float | None
    answer: Any


def create(
    connection: Connection, spool: int, kind: str, payload: object, created_by: str, now: float, *, state: str = NEW
) -> int:
    """Ask the owner of a spool, or draft it; returns the request's number."""
    row = {"spool": spool, "kind": kind, "payload": to_json(payload), "created_by": created_by, "created_at": now}
    row["state"] = state
    return int(connection.execute(insert(_T).values(**row).returning(_T.c.number)).scalar_one())


def ask(connection: Connection, drafts: Sequence[int], now: float) -> None:
    """Make these drafts new, all at once; those that nobody will ask for any more go, and so do old answers."""
    connection.execute(delete(_T).where(_T.c.state == DRAFT, _T.c.created_at < now - DRAFTS_KEPT))
    connection.execute(delete(_T).where(_T.c.answered_at < now - ANSWERS_KEPT))
    for run in slices(drafts):
        connection.execute(update(_T).where(_T.c.number.in_(run), _T.c.state == DRAFT).values(state=NEW))


def waiting(connection: Connection, spools: Sequence[int], after: int = 0, limit: int = 50) -> Sequence[Request]:
    """Unanswered requests for these spools with numbers above `after`, oldest first."""
    rows = connection.execute(_WAITING, {RUN: list(spools), "after": after, "most": limit})
    return [_request(row) for row in rows]


def answer(connection: Connection, number: int, value: object, now: float, *, failed: bool = False) -> bool:
    """Write the answer; False when it was answered before."""
    values = {"state": FAILED if failed else DONE, "answer": to_json(value), "answered_at": now}
    return connection.execute(update(_T).where(_T.c.number == number, _T.c.state == NEW).values(**values)).rowcount > 0


def get(connection: Connection, numbers: Sequence[int]) -> Sequence[Request]:
    """Requests by number, for who waits for their answers."""
    return [_request(row) for row in connection.execute(select(_T).where(_T.c.number.in_(numbers)))]


def _request(row: Row[Any]) -> Request:
    return Request(
        row.number,
        row.spool,
        row.kind,
        from_json(row.payload),
        row.state,
        row.created_at,
        row.created_by,
        row.answered_at,
        from_json(row.answer),
    )
