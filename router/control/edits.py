"""
Changing a mailbox by hand: home, status, addresses, target.

Guarantees: each edit is one transaction with its changes and its audit row; setting what is set already changes
nothing and takes no epoch. A held mailbox keeps its home and its addresses unless forced; a forced move of addresses
is a change of both mailboxes and runs the barrier of each held one again (barrier.md 11). What a directory says of a
mailbox is not changed here.

On failure: `NotFound`, `Conflict`; nothing of the edit stays.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, update

from router.control import audit, changes, claims, holds, mailboxes, schema, staging
from router.control.audit import Act
from router.control.mailboxes import Record
from router.control.rows import domain_of
from router.control.states import Event
from router.errors import Conflict, NotFound
from router.model.change import ChangeKind
from router.model.mailbox import Mailbox, Status

_M, _A = schema.mailboxes, schema.addresses


@dataclass(frozen=True, slots=True)
class Edit:
    """What to set; None leaves a thing as it is. `aliases` are all address keys besides the canonical one."""

    home: str | None = None
    status: Status | None = None
    aliases: frozenset[str] | None = None
    target: str | None = None
    division: str | None = None


def edit(connection: Connection, key: str, wanted: Edit, act: Act, *, force: bool = False) -> tuple[Record, Record]:
    """Apply an edit; the mailbox before and after. Raises `NotFound`, `Conflict`."""
    mailbox = holds.require(connection, key)
    before = mailboxes.records(connection, [key])[key]
    values = _values(mailbox, before, wanted, force=force)
    added, removed = _address_changes(before, wanted)
    if added or removed or values.keys() & {"home", "status"}:
        _require_ours(mailbox)
    if not (values or added or removed):
        return before, before
    if added or removed:
        holds.rule(mailbox, Event.SET_ADDRESSES, force=force)
    losers = _losers(connection, added, force=force)
    if "home" in values:
        values["moved_at"] = act.at
    if values:
        connection.execute(update(_M).where(_M.c.key == key).values(**values))
    _write_addresses(connection, key, added, removed)
    _announce(connection, [mailbox, *losers], added | removed, act)
    claims.settle_claimed(connection, added | removed, act.at)
    after = mailboxes.records(connection, [key])[key]
    audit.write(connection, act, "set", key, facts(before), facts(after))
    return before, after


def _require_ours(mailbox: Mailbox) -> None:
    """What comes from a directory is changed there, or by a move, which writes it there."""
    if mailbox.source != schema.DATABASE:
        raise Conflict(
            f"{mailbox.key} comes from the directory {mailbox.source}: change its status and addresses there, "
            "and its home there or with `sluice move`"
        )


def facts(record: Record) -> dict[str, object]:
    """A mailbox as the audit keeps it."""
    mailbox = record.mailbox
    return {
        "home": mailbox.home,
        "status": mailbox.status.value,
        "target": mailbox.target,
        "division": record.division,
        "addresses": list(record.addresses),
    }


def _values(mailbox: Mailbox, before: Record, wanted: Edit, *, force: bool) -> dict[str, object]:
    values: dict[str, object] = {}
    if wanted.home is not None and wanted.home != mailbox.home:
        holds.rule(mailbox, Event.SET_HOME, force=force)
        values["home"] = wanted.home
    if wanted.status is not None and wanted.status is not mailbox.status:
        holds.rule(mailbox, Event.SET_STATUS)
        values["status"] = wanted.status.value
    if wanted.target is not None and wanted.target != mailbox.target:
        values["target"] = wanted.target
    if wanted.division is not None and wanted.division != before.division:
        values["division"] = wanted.division
    return values


def _address_changes(before: Record, wanted: Edit) -> tuple[frozenset[str], frozenset[str]]:
    if wanted.aliases is None:
        return frozenset(), frozenset()
    old, new = frozenset(before.addresses), wanted.aliases | {before.mailbox.key}
    return new - old, old - new


def _losers(connection: Connection, added: Collection[str], *, force: bool) -> list[Mailbox]:
    """The mailboxes that lose an address to this edit, settled. Raises `Conflict`."""
    staging.settle(connection, (), added)
    owned = mailboxes.owners(connection, added)
    losers = mailboxes.by_key(connection, set(owned.values()))
    for address, owner in owned.items():
        if losers[owner].source != schema.DATABASE:
            raise Conflict(f"{address} belongs to {owner}, which comes from the directory {losers[owner].source}")
        if address == owner:
            raise Conflict(f"{address} is a mailbox of its own")
        if not force:
            raise Conflict(f"{address} belongs to {owner}; moving it needs --force")
        holds.rule(losers[owner], Event.SET_ADDRESSES, force=force)
    return list(losers.values())


def _write_addresses(connection: Connection, key: str, added: Collection[str], removed: Collection[str]) -> None:
    if added or removed:
        connection.execute(delete(_A).where(_A.c.address.in_([*added, *removed])))
    if added:
        rows = [{"address": one, "mailbox": key, "domain": domain_of(one)} for one in sorted(added)]
        connection.execute(insert(_A), rows)


def _announce(connection: Connection, touched: Iterable[Mailbox], addresses: Collection[str], act: Act) -> None:
    epoch = changes.take_epoch(connection)
    touched = list(touched)
    changes.record(connection, epoch, ChangeKind.MAILBOX, [one.key for one in touched], act.at)
    changes.record(connection, epoch, ChangeKind.ADDRESS, sorted(addresses), act.at)
    for one in touched:
        if one.hold is not None and addresses:
            holds.reopen(connection, one.hold, epoch)


def resolve(connection: Connection, addresses: Collection[str]) -> dict[str, str]:
    """Address key to mailbox key for what an operator typed. Raises `NotFound` naming every unknown one."""
    found = mailboxes.owners(connection, addresses)
    missing = sorted(set(addresses) - set(found))
    if missing:
        shown = ", ".join(missing[:20]) + (" …" if len(missing) > 20 else "")
        raise NotFound(f"no mailbox has the address {shown}")
    return found
