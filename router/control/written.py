"""
What we wrote into directories: the record of a hold's writes, and what stands until it has been read back.

Guarantees: a row of `writes` names the entry that is on hold, also where nothing is written. It is durable before the
directory is modified, and keeps the raw status found before, its absence included; it lives as long as its hold. A row
of `stands` is made in the transaction that ends a hold, and goes once the mirror has read that version of the entry or
a newer one; where versions prove nothing, once the directory shows the value that was written (barrier.md 12). It is of
the entry, under whatever name that has.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from router.control import schema
from router.control.rows import RUN, in_run, slices
from router.control.versions import reached
from router.model.directory import Entry, Standing

_W, _S = schema.directory_writes, schema.directory_stands
_STANDS = select(_S).where(in_run(_S.c.mailbox))


class Stage(StrEnum):
    """How far a hold has come in the directory."""

    NOTED = "noted"
    """Nothing was written, nor is about to be: it is only known which entry is on hold."""
    HOLDING = "holding"
    """The hold is about to be written; whether it was is not known."""
    HELD = "held"
    RELEASING = "releasing"
    """The release is about to be written; whether it was is not known."""
    UNHELD = "unheld"
    """The same for a hold that the directory was never told of: its status is not ours to change."""


@dataclass(frozen=True, slots=True)
class Write:
    """What was, or is about to be, written for one hold."""

    hold: int
    mailbox: str
    source: str
    dn: str
    """Folded (`entries.folded`)."""
    state: Stage
    status_before: str | None
    """The raw value that the hold replaced; None: the attribute was absent."""
    host_before: str | None
    home: str = ""
    """The store that a release is about to write as home."""
    host: str | None = None
    """How the directory spells that store."""
    version: str = ""
    """Of the entry with our hold in it."""
    seen: bool = False
    """The mirror has read our hold."""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Stand:
    """Home and standing that we wrote and that count until the mirror has caught up; '' : nothing of the kind."""

    mailbox: str
    source: str
    home: str = ""
    standing: str = ""
    version: str = ""
    by_value: bool = False
    """The home is not written by us: it stands until the directory shows it, whatever version that is."""
    base: str = ""
    """Digest of the entry as the mirror had it when this was written."""
    at: float = 0.0

    def after(self, entry: Entry, digest: str) -> "Stand":
        """What of it still stands once the entry was read as it is here."""
        seen = reached(entry.version, self.version)
        if seen is None:
            # What it showed before is no proof, though it may be the same: it must have changed, and show all of it.
            seen = digest != self.base and self._shown(entry)
        home_seen = entry.home == self.home if self.by_value else seen
        return replace(self, home="" if home_seen else self.home, standing="" if seen else self.standing)

    def _shown(self, entry: Entry) -> bool:
        home = self.by_value or not self.home or entry.home == self.home
        return home and (not self.standing or entry.standing == self.standing)


def of_hold(connection: Connection, number: int) -> Write | None:
    """What was written for a hold."""
    row = connection.execute(select(_W).where(_W.c.hold == number)).first()
    return None if row is None else _write(row)


def of_holds(connection: Connection, numbers: Iterable[int]) -> dict[int, Write]:
    """The same for several holds, by number."""
    found: dict[int, Write] = {}
    for run in slices(list(numbers)):
        found.update({row.hold: _write(row) for row in connection.execute(select(_W).where(_W.c.hold.in_(run)))})
    return found


def put(connection: Connection, write: Write) -> None:
    """Write it down, in place of what was known of that hold."""
    forget(connection, write.hold)
    names = [column.name for column in _W.c]
    values = {name: getattr(write, name) for name in names}
    connection.execute(insert(_W).values({**values, "state": write.state.value, "seen": int(write.seen)}))


def forget(connection: Connection, number: int) -> None:
    """The hold is over."""
    connection.execute(delete(_W).where(_W.c.hold == number))


def mark_seen(connection: Connection, number: int) -> None:
    """The mirror has read the hold that we wrote."""
    connection.execute(update(_W).where(_W.c.hold == number).values(seen=1))


def stands(connection: Connection, mailboxes: Iterable[str] | None = None) -> dict[str, Stand]:
    """What stands, by mailbox: of these mailboxes, or everything."""
    if mailboxes is None:
        return {row.mailbox: _stand(row) for row in connection.execute(select(_S))}
    found: dict[str, Stand] = {}
    for run in slices(list(mailboxes)):
        found.update({row.mailbox: _stand(row) for row in connection.execute(_STANDS, {RUN: run})})
    return found


def stand(connection: Connection, what: Stand) -> None:
    """Let it stand, in place of what stood before; one with nothing in it removes that."""
    connection.execute(delete(_S).where(_S.c.mailbox == what.mailbox))
    if what.home or what.standing:
        values = {column.name: getattr(what, column.name) for column in _S.c}
        connection.execute(insert(_S).values({**values, "by_value": int(what.by_value)}))


def follow(connection: Connection, source: str, renamed: Mapping[str, str]) -> None:
    """Entries go by other names now, by their former ones: what stands goes along."""
    moving = [one for one in stands(connection, renamed).values() if one.source == source]
    for one in moving:
        stand(connection, Stand(one.mailbox, source))
    for one in moving:
        stand(connection, replace(one, mailbox=renamed[one.mailbox]))


def _write(row: Any) -> Write:
    return Write(
        row.hold,
        row.mailbox,
        row.source,
        row.dn,
        Stage(row.state),
        row.status_before,
        row.host_before,
        row.home,
        row.host,
        row.version,
        bool(row.seen),
        row.at,
    )


def _stand(row: Any) -> Stand:
    return Stand(row.mailbox, row.source, row.home, row.standing, row.version, bool(row.by_value), row.base, row.at)


def own_standing(entry: Entry, what: Stand | None) -> Standing:
    """The standing of the entry's own attributes, as far as we know it."""
    return Standing(what.standing) if what is not None and what.standing else entry.standing
