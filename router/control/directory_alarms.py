"""
Alarms about people of directories: raised once for each trouble, cleared when it is over.

Guarantees: an alarm that says the same as before is neither counted nor written again. However wrong a directory is,
at most `NAMED` alarms of one kind are open by name; the rest is one alarm with the key `*`.
"""

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, func, select

from router.control import alarms, schema
from router.control.rows import RUN, in_run, slices
from router.control.turn import Turn

DRIFT = "directory-drift"
"""A directory says otherwise of a mailbox that a command holds. Key: the mailbox."""
DISPUTE = "directory-dispute"
"""Several mailboxes have one address. Key: the address."""
PROBLEM = "directory-problem"
"""An entry that makes no sense, so that its mail waits. Key: the mailbox, or source and DN where there is none."""
DOUBT = "directory-doubt"
"""Something is wrong with an entry without being in the way. Key: the mailbox, or the domain."""
DOWN = "directory-down"
"""A directory cannot be read. Key: the directory."""
FOLLOWER = "the follower"
"""Key of the same alarm where the process that follows all of them has ended."""
NAMED = 100
OTHERS = "*"

_T = schema.alarms
_KINDS = select(_T.c.kind).where(
    _T.c.kind.in_(bindparam("kinds", expanding=True)), _T.c.cleared_at.is_(None), in_run(_T.c.key)
)
_OPEN = select(_T.c.key, _T.c.text).where(_T.c.kind == bindparam("of"), _T.c.cleared_at.is_(None), in_run(_T.c.key))


class Alarms:
    """The alarms of one kind about some keys, within one transaction."""

    def __init__(self, turn: Turn, kind: str, keys: Collection[str]) -> None:
        self._turn = turn
        self._kind = kind
        self._open: dict[str, str] = {}
        self._named = -1
        for run in slices(list(keys)):
            self._open.update({row.key: row.text for row in turn.connection.execute(_OPEN, {"of": kind, RUN: run})})

    def set(self, key: str, text: str) -> None:
        """What is wrong with `key` now; '' when nothing is."""
        known = self._open.get(key)
        if not text:
            if known is not None:
                alarms.clear_alarm(self._turn.connection, self._kind, key, self._turn.now)
        elif known is None and self._count() >= NAMED:
            alarms.raise_alarm(self._turn.connection, self._kind, OTHERS, f"and more, such as {text}", self._turn.now)
        elif known != text:
            self._named += known is None
            alarms.raise_alarm(self._turn.connection, self._kind, key, text, self._turn.now)

    def _count(self) -> int:
        if self._named < 0:
            query = select(func.count()).select_from(_T).where(_T.c.kind == self._kind, _T.c.cleared_at.is_(None))
            self._named = int(self._turn.connection.execute(query).scalar_one())
        return self._named


def open_kinds(connection: Connection, kinds: Collection[str], keys: Collection[str]) -> set[str]:
    """Those of the kinds of which an alarm is open about any of the keys."""
    found: set[str] = set()
    for run in slices(list(keys)):
        found.update(connection.execute(_KINDS, {"kinds": list(kinds), RUN: run}).scalars())
    return found


def open_keys(connection: Connection, kind: str, prefix: str) -> set[str]:
    """Keys of the open alarms of a kind that begin like this."""
    query = select(_T.c.key).where(_T.c.kind == kind, _T.c.cleared_at.is_(None))
    return set(connection.execute(query.where(_T.c.key.startswith(prefix, autoescape=True))).scalars())


def tidy(turn: Turn) -> None:
    """After a sweep: the alarm for all the others goes when nobody is left who has none by name."""
    troubled = {
        PROBLEM: select(func.count()).select_from(schema.mailboxes).where(schema.mailboxes.c.problem != ""),
        DISPUTE: select(func.count()).select_from(schema.addresses).where(schema.addresses.c.disputed != ""),
        DOUBT: select(func.count()).select_from(schema.directory_entries).where(schema.directory_entries.c.doubt != ""),
    }
    for kind, query in troubled.items():
        if int(turn.connection.execute(query).scalar_one()) < NAMED // 2:
            alarms.clear_alarm(turn.connection, kind, OTHERS, turn.now)
