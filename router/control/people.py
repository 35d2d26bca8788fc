"""
Writing the mailboxes that directories ask for: many rows at once, and the holds that begin and end with them.

Guarantees: a row is written only when it differs. A mailbox that nobody knows any more loses its row, or, where holds
of it are on record, keeps it as `removed` without a home. What the database said of a mailbox that a directory takes
over is kept, and comes back when the directory forgets it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from router.control import directory_holds, entries, schema
from router.control.desired import Desired
from router.control.rows import slices, storable, to_json
from router.control.turn import Turn
from router.model.directory import Entry, Role, Standing
from router.model.mailbox import LIST, Mailbox, Status

_M, _H, _A = schema.mailboxes, schema.holds, schema.addresses
_E, _S = schema.directory_entries, schema.directory_stands


class Crew:
    """The mailboxes of one turn, gathered and then written."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._fresh: list[dict[str, Any]] = []
        self._changed: list[dict[str, Any]] = []
        self._opening: list[tuple[str, Desired, Status]] = []
        self._ending: list[tuple[Mailbox, Desired]] = []
        self._handed: list[tuple[Mailbox, str]] = []
        self.gone: list[str] = []
        """Mailboxes to bury once their addresses have been settled."""
        self.problems: dict[str, str] = {}
        self.doubts: dict[str, str] = {}

    def make(self, key: str, mailbox: Mailbox | None, wanted: Desired) -> None:
        """Have this mailbox be as wanted."""
        self.problems[key], self.doubts[key] = wanted.problem, wanted.doubt
        kept = Status.ACTIVE if mailbox is None else mailbox.status
        if mailbox is None:
            self._fresh.append({"key": key, "moved_at": None, **_values(wanted, kept)})
            self._turn.tell_mailboxes([key])
            if wanted.held:
                self._opening.append((key, wanted, wanted.status(kept)))
            return
        if mailbox.hold is None and wanted.held:
            self._opening.append((key, wanted, wanted.status(kept)))
        elif mailbox.hold is not None and not wanted.held:
            self._ending.append((mailbox, wanted))
        values = _values(wanted, kept)
        if values != _present(mailbox):
            moved = self._turn.now if wanted.home != mailbox.home else mailbox.moved_at
            self._changed.append({"which": key, "moved_at": moved, **values})
            self._turn.tell_mailboxes([key])

    def displace(self, mailbox: Mailbox) -> None:
        """A directory that is believed more takes over what the database knew."""
        role = Role.GROUP if mailbox.kind == LIST else Role.PERSON
        standing = Standing(mailbox.status.value)
        entry = Entry(mailbox.key, role, mailbox.key, (), "", mailbox.home, standing=standing)
        entries.store_displaced(self._turn.connection, schema.DATABASE, entry, self._turn.now)

    def restore(self, key: str) -> None:
        """No directory that is believed more knows it: the database's own counts again."""
        same = (_E.c.source == schema.DATABASE) & (_E.c.name == entries.folded(key))
        self._turn.connection.execute(delete(_E).where(same))

    def hand_over(self, mailbox: Mailbox, heir: str) -> None:
        """A mailbox that a directory held goes by another name now, by which it is held, or not."""
        self._handed.append((mailbox, heir))

    def released(self) -> list[str]:
        """Mailboxes whose hold ends in this turn."""
        return [mailbox.key for mailbox, _ in self._ending]

    def write(self) -> None:
        """Write the rows, then the holds that rest on them."""
        connection = self._turn.connection
        if self._fresh:
            connection.execute(insert(_M), self._fresh)
        if self._changed:
            connection.execute(update(_M).where(_M.c.key == bindparam("which")), self._changed)
        for mailbox, wanted in self._ending:
            directory_holds.end(self._turn, mailbox, wanted)
        for mailbox, heir in self._handed:
            directory_holds.hand_over(self._turn, mailbox, heir)
        directory_holds.begin(self._turn, self._opening)


def bury(turn: Turn, keys: Sequence[str]) -> None:
    """These mailboxes are in no directory any more, and their addresses have been settled."""
    connection = turn.connection
    for run in slices(keys):
        kept = set(connection.execute(select(_H.c.mailbox).where(_H.c.mailbox.in_(run)).distinct()).scalars())
        kept |= set(connection.execute(select(_A.c.mailbox).where(_A.c.mailbox.in_(run)).distinct()).scalars())
        _strip(turn, kept)
        connection.execute(delete(_S).where(_S.c.mailbox.in_(run)))
        connection.execute(delete(_M).where(_M.c.key.in_([key for key in run if key not in kept])))
    turn.tell_mailboxes(keys)


def _strip(turn: Turn, keys: Iterable[str]) -> None:
    empty = {"home": "", "status": Status.REMOVED.value, "forwards": "[]", "keeps": 1, "route": "", "problem": ""}
    turn.connection.execute(update(_M).where(_M.c.key.in_(sorted(keys))).values(**empty))


def _values(wanted: Desired, kept: Status) -> dict[str, Any]:
    return {
        "home": wanted.home,
        "status": wanted.status(kept).value,
        "source": wanted.source,
        "kind": wanted.kind,
        "forwards": to_json(list(wanted.forwards)),
        "keeps": int(wanted.keeps),
        "route": wanted.route,
        "problem": storable(wanted.problem),
    }


def _present(mailbox: Mailbox) -> dict[str, Any]:
    return {
        "home": mailbox.home,
        "status": mailbox.status.value,
        "source": mailbox.source,
        "kind": mailbox.kind,
        "forwards": to_json(list(mailbox.forwards)),
        "keeps": int(mailbox.keeps),
        "route": mailbox.route,
        "problem": mailbox.problem,
    }
