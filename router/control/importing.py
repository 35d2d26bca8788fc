"""
Importing `users.csv` while mail flows.

How: rows that differ are staged in slices, each in a short transaction that readers never see; what other commands
changed meanwhile is looked at again; then one row makes all of it visible at once, and slices move it into the real
tables without any reader noticing. Slices are sized by the time they take, and as long a pause follows each.

Guarantees: nothing half-applied, whatever dies when. Every error of the file against the database is reported at
once. Rows that change nothing cost no epoch, and mailboxes absent from the file are untouched. The home and the
addresses of a held mailbox are never changed by an import, and a mailbox that a release took to another home is never
taken back by one: a file from before the move would undo it silently. Home, status and addresses of a mailbox that
comes from a directory are changed there and not by an import; what a directory does not know (target, size) is.

On failure: `ImportRefused` with all messages, `Conflict` when a later import took over, `ControlUnavailable`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select, update

from router.control import audit, changes, mailboxes, schema, staging
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.mailboxes import Record
from router.control.rows import domain_of, slices
from router.control.slicer import LARGEST, SMALLEST, Slicer
from router.control.users_csv import ImportRefused, UserFile, UserRow
from router.errors import Conflict
from router.model.change import ChangeKind
from router.model.mailbox import Mailbox

TOLD_ONE_BY_ONE = 300
"""Changed mailboxes told by name; above, all members drop what they know instead."""
_ROUNDS = 20
_T, _SITE, _HOLDS = schema.changes, schema.site, schema.holds


@dataclass(frozen=True, slots=True)
class ImportResult:
    """How many mailboxes are new, changed, and the same as before. `epoch` is 0 when nothing changed."""

    created: int
    changed: int
    unchanged: int
    epoch: int = 0


@dataclass(slots=True)
class _Plan:
    """What the rows looked at so far amount to. Entering a key again replaces what was known of it."""

    created: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    errors: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def enter(self, keys: Sequence[str], part: "_Plan") -> None:
        """Replace what is known of these keys."""
        self.created.difference_update(keys)
        self.changed.difference_update(keys)
        for key in keys:
            self.errors.pop(key, None)
        self.created |= part.created
        self.changed |= part.changed
        self.addresses |= part.addresses
        self.errors.update(part.errors)

    def refuse(self) -> None:
        """Raise `ImportRefused` when there are errors."""
        if self.errors:
            messages = sorted(pair for pairs in self.errors.values() for pair in pairs)
            raise ImportRefused([message for _, message in messages])


@dataclass(frozen=True, slots=True)
class _Slice:
    """What a few rows amount to, and what to stage for them."""

    plan: _Plan
    mailboxes: list[dict[str, Any]]
    addresses: list[dict[str, Any]]


class UserImport:
    """One import of one file. `sleep` separates the slices; all of it runs in the caller's thread."""

    def __init__(
        self, database: ControlDatabase, file: UserFile, act: Act, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._database = database
        self._file = file
        self._rows = {row.key: row for row in file.rows}
        self._act = act
        self._slicer = Slicer(sleep)
        self._plan = _Plan()
        self._number = 0

    def dry_run(self) -> ImportResult:
        """Check the file against the database and count, writing nothing. Raises `ImportRefused`."""
        for run in _runs(self._file.rows, LARGEST):
            part = self._database.run_read(partial(self._examine, run=run)).plan
            self._plan.enter([row.key for row in run], part)
        self._plan.refuse()
        return self._result(0)

    def apply(self) -> ImportResult:
        """Import the file. Raises `ImportRefused`, `Conflict`; then nothing was changed."""
        finish(self._database, self._slicer.sleep)
        self._number, epoch = self._database.run_write(_begin)
        try:
            self._stage(self._file.rows)
            self._plan.refuse()
            result = self._show(epoch)
        except BaseException:
            self._discard()
            raise
        finish(self._database, self._slicer.sleep)
        return result

    def _stage(self, rows: Sequence[UserRow]) -> None:
        position = 0
        while position < len(rows):
            run = rows[position : position + self._slicer.size]
            self._slicer.run(self._database, partial(self._stage_slice, run=run))
            position += len(run)

    def _stage_slice(self, connection: Connection, run: Sequence[UserRow]) -> bool:
        self._require_turn(connection)
        found = self._examine(connection, run)
        staging.forget(connection, self._number, [row.key for row in run])
        staging.put(connection, self._number, found.mailboxes, found.addresses)
        self._plan.enter([row.key for row in run], found.plan)
        return True

    def _show(self, epoch: int) -> ImportResult:
        """Look again at what changed since `epoch`; make all visible as soon as little is left to look at."""
        for _ in range(_ROUNDS):
            touched, newest = self._database.run_read(partial(self._touched, since=epoch))
            if len(touched) > SMALLEST:
                self._stage(touched)
                self._plan.refuse()
                epoch = newest
                continue
            shown = self._database.run_write(partial(self._make_visible, epoch=epoch))
            if shown is not None:
                return shown
            finish(self._database, self._slicer.sleep)
        raise Conflict("mailboxes of the file keep changing; try again when it is quieter")

    def _make_visible(self, connection: Connection, epoch: int) -> ImportResult | None:
        self._require_turn(connection)
        touched, _ = self._touched(connection, epoch)
        if mailboxes.visible_import(connection) or len(touched) > SMALLEST * 2:
            return None
        if touched:
            self._stage_slice(connection, touched)
            self._plan.refuse()
        if not self._plan.created and not self._plan.changed:
            connection.execute(update(_SITE).values(staging_import=0))
            return self._result(0)
        taken = self._announce(connection)
        connection.execute(update(_SITE).values(visible_import=self._number, staging_import=0))
        return self._result(taken)

    def _announce(self, connection: Connection) -> int:
        epoch = changes.take_epoch(connection)
        named = self._plan.created | self._plan.changed
        if len(named) > TOLD_ONE_BY_ONE or len(self._plan.addresses) > 10 * TOLD_ONE_BY_ONE:
            changes.record(connection, epoch, ChangeKind.RESYNC, [""], self._act.at)
        else:
            changes.record(connection, epoch, ChangeKind.MAILBOX, sorted(named), self._act.at)
            changes.record(connection, epoch, ChangeKind.ADDRESS, sorted(self._plan.addresses), self._act.at)
        counts = {"created": len(self._plan.created), "changed": len(self._plan.changed), "epoch": epoch}
        audit.write(connection, self._act, "import", "", None, {"file": self._file.path.name, **counts})
        return epoch

    def _touched(self, connection: Connection, since: int) -> tuple[list[UserRow], int]:
        """Rows of the file that somebody's change after `since` may concern, and the epoch of this look."""
        newest = changes.current_epoch(connection)
        query = select(_T.c.kind, _T.c.key).where(_T.c.epoch > since)
        found = [] if newest == since else connection.execute(query).all()
        if since < changes.floor(connection) or any(row.kind == ChangeKind.RESYNC.value for row in found):
            return list(self._file.rows), newest
        keys = {self._file.claims.get(row.key, row.key) for row in found}
        return [self._rows[key] for key in sorted(keys) if key in self._rows], newest

    def _require_turn(self, connection: Connection) -> None:
        if connection.execute(select(_SITE.c.staging_import)).scalar_one() != self._number:
            raise Conflict("another import was started meanwhile")

    def _discard(self) -> None:
        mine = _SITE.c.staging_import == self._number
        self._database.run_write(lambda c: c.execute(update(_SITE).where(mine).values(staging_import=0)).rowcount)
        finish(self._database, self._slicer.sleep)

    def _result(self, epoch: int) -> ImportResult:
        created, changed = len(self._plan.created), len(self._plan.changed)
        return ImportResult(created, changed, len(self._file.rows) - created - changed, epoch)

    def _examine(self, connection: Connection, run: Sequence[UserRow]) -> _Slice:
        known = mailboxes.records(connection, [row.key for row in run])
        owned = mailboxes.owners(connection, [one for row in run for one in (row.key, *(row.aliases or ()))])
        moves = self._moves(connection, run, known)
        found = _Slice(_Plan(), [], [])
        for row in run:
            self._compare(row, known.get(row.key), owned, moves, found)
        return found

    def _moves(self, connection: Connection, run: Sequence[UserRow], known: Mapping[str, Record]) -> dict[str, float]:
        """When each mailbox of the run whose home the file would change came to that home by a release."""
        changing = [row.key for row in run if row.key in known and known[row.key].mailbox.home != row.home]
        found: dict[str, float] = {}
        for keys in slices(changing):
            query = (
                select(_HOLDS.c.mailbox, func.max(_HOLDS.c.closed_at))
                .where(_HOLDS.c.mailbox.in_(keys), _HOLDS.c.closed_at.is_not(None))
                .where(_HOLDS.c.released_to != _HOLDS.c.home_before)
                .group_by(_HOLDS.c.mailbox)
            )
            found.update({key: at for key, at in connection.execute(query) if known[key].mailbox.moved_at == at})
        return found

    def _compare(
        self, row: UserRow, old: Record | None, owned: dict[str, str], moves: Mapping[str, float], found: _Slice
    ) -> None:
        values, names = _wanted(row, old, self._act.at)
        complaints = self._complaints(row, old, names, owned)
        if old is not None and row.key in moves:
            day = time.strftime("%Y-%m-%d", time.gmtime(moves[row.key]))
            complaints.append(
                f"{row.key} was moved to {old.mailbox.home} on {day}; an import does not move it back: "
                f"correct the row, or use `sluice user set --home {row.home}`"
            )
        if complaints:
            found.plan.errors[row.key] = [(row.line, self._file.say(row, text)) for text in complaints]
        elif old is None or values != _values(old) or names != set(old.addresses):
            (found.plan.created if old is None else found.plan.changed).add(row.key)
            found.mailboxes.append({"key": row.key, **values})
            moved = names ^ set(() if old is None else old.addresses)
            found.plan.addresses |= moved
            found.addresses.extend(self._address_rows(row.key, names, moved))

    def _address_rows(self, key: str, names: set[str], moved: set[str]) -> list[dict[str, Any]]:
        """Addresses gained, and addresses lost to nobody; those lost to another row are staged as its gain."""
        rows: list[dict[str, Any]] = []
        for address in sorted(moved):
            gained = address in names
            if gained or address not in self._file.claims:
                owner = key if gained else None
                rows.append({"address": address, "mailbox": owner, "row_key": key, "domain": domain_of(address)})
        return rows

    def _complaints(self, row: UserRow, old: Record | None, names: set[str], owned: dict[str, str]) -> list[str]:
        found = []
        if old is not None and old.mailbox.hold is not None:
            if old.mailbox.home != row.home:
                found.append(f"{row.key} is on hold; its home cannot be changed by an import")
            if names != set(old.addresses):
                found.append(f"{row.key} is on hold; its addresses cannot be changed by an import")
        if old is not None and old.mailbox.source != schema.DATABASE:
            same = old.mailbox.home == row.home and row.status in {None, old.mailbox.status}
            if not same or names != set(old.addresses):
                found.append(f"{row.key} comes from the directory {old.mailbox.source}: home, status and addresses too")
        for address in sorted(names):
            owner = owned.get(address, row.key)
            if owner != row.key and not self._gives_up(owner, address):
                found.append(f"{address} belongs to {owner}")
        return found

    def _gives_up(self, owner: str, address: str) -> bool:
        """Whether the file has a row for the present owner that no longer lists this address."""
        other = self._rows.get(owner)
        return other is not None and other.aliases is not None and address != owner and address not in other.aliases


def finish(database: ControlDatabase, sleep: Callable[[float], None] = time.sleep) -> None:
    """Merge a visible import to its end and remove abandoned staging, in slices. Safe at any time, by anybody."""
    slicer = Slicer(sleep)
    for step in (staging.merge_slice, staging.discard_slice):
        while not slicer.run(database, partial(step, size=slicer.size)):
            pass


def _begin(connection: Connection) -> tuple[int, int]:
    connection.execute(update(_SITE).values(last_import=_SITE.c.last_import + 1))
    connection.execute(update(_SITE).values(staging_import=_SITE.c.last_import))
    number = int(connection.execute(select(_SITE.c.last_import)).scalar_one())
    return number, changes.current_epoch(connection)


def _wanted(row: UserRow, old: Record | None, now: float) -> tuple[dict[str, Any], set[str]]:
    """The values and addresses that the mailbox has after this row."""
    values = _values(old) if old is not None else _values(None)
    if old is not None and old.mailbox.home != row.home:
        values["moved_at"] = now
    values["home"] = row.home
    if row.status is not None:
        values["status"] = row.status.value
    if row.size is not None:
        values["size_bytes"] = None if row.size < 0 else row.size
    if row.division is not None:
        values["division"] = row.division
    if row.target is not None:
        values["target"] = row.target
    kept = set(old.addresses) if old is not None else set()
    return values, {row.key, *(kept if row.aliases is None else row.aliases)}


def _values(record: Record | None) -> dict[str, Any]:
    mailbox = record.mailbox if record is not None else Mailbox("", "")
    return {
        "home": mailbox.home,
        "status": mailbox.status.value,
        "moved_at": mailbox.moved_at,
        "target": mailbox.target,
        "division": record.division if record is not None else "",
        "size_bytes": record.size_bytes if record is not None else None,
        **mailboxes.beside(mailbox),
    }


def _runs(rows: Sequence[UserRow], size: int) -> Sequence[Sequence[UserRow]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
