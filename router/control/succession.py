"""
Mailboxes that are, or may be, what a command holds under another name: their mail waits for the release.

An entry may get another canonical address while it is on hold, or be deleted and added anew under another DN. The
mirror then sees a mailbox that nobody holds, with a home from before the move.

Guarantees: the entry that was there when the hold began is known by its DN, whatever becomes of its addresses. An
entry that has an address of a held mailbox counts as its successor unless it was in force before; and in any case
once it has the mailbox's own name and the mailbox has no entry any more. Doubt lets mail wait, never more.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from router.control import entries, mailboxes, schema, written
from router.control.entries import Known, folded
from router.control.rows import RUN, in_run, slices
from router.control.written import Stage, Write
from router.errors import Conflict
from router.model.mailbox import Mailbox, Status

_H, _W, _A = schema.holds, schema.directory_writes, schema.addresses
_HELD = (
    select(_H.c.mailbox, _W.c.source, _W.c.dn)
    .select_from(_H.outerjoin(_W, _W.c.hold == _H.c.number))
    .where(_H.c.closed_at.is_(None), _H.c.origin != schema.DIRECTORY)
)
_OWNERS = select(_A.c.address, _A.c.mailbox).where(in_run(_A.c.address))
_ADDRESSES = select(_A.c.address).where(in_run(_A.c.mailbox))


@dataclass(frozen=True, slots=True)
class _Held:
    """What commands hold: all mailboxes, and those of which an entry is known, by its source and folded DN."""

    mailboxes: frozenset[str]
    by_entry: Mapping[tuple[str, str], str]


def kept_back(connection: Connection, keys: Iterable[str]) -> dict[str, set[str]]:
    """Those of the mailboxes that wait for a release, each with the held ones that it is or may be."""
    mine = entries.of_keys(connection, keys)
    held = _held(connection) if mine else None
    if held is None or not held.mailboxes:
        return {}
    found: dict[str, set[str]] = {}
    for key, known in mine.items():
        holders = {held.by_entry.get((one.source, folded(one.entry.dn)), key) for one in known} - {key}
        if holders:
            found[key] = holders
    for key, holder in _by_address(connection, mine, held.mailboxes):
        found.setdefault(key, set()).add(holder)
    return found


def successors(connection: Connection, held: Iterable[str]) -> dict[str, set[str]]:
    """The same seen from the mailboxes that commands hold: for each of them those that wait for its release."""
    wanted = set(held)
    found: dict[str, set[str]] = {}
    for key, holders in kept_back(connection, _candidates(connection, wanted)).items():
        for holder in holders & wanted:
            found.setdefault(holder, set()).add(key)
    return found


def concerned(connection: Connection, keys: Collection[str]) -> set[str]:
    """Mailboxes that must be looked at together with these: held ones and their possible successors."""
    held = [key for key, hold in mailboxes.open_hold_of(connection, keys).items() if hold.origin != schema.DIRECTORY]
    return set().union(_candidates(connection, held), *kept_back(connection, keys).values())


def why(holders: Iterable[str]) -> str:
    """What is said of a mailbox that waits."""
    return f"its entry belongs to {' and '.join(sorted(holders))}, which a command holds"


def refuse(key: str, holders: Collection[str]) -> None:
    """Raises `Conflict` when the mailbox waits for the release of others: it is not held for itself."""
    if holders:
        names = " and ".join(sorted(holders))
        raise Conflict(f"the entry of {key} belongs to {names}, which is on hold: release that first")


def note(connection: Connection, mailbox: Mailbox, number: int) -> None:
    """Remember which entry is on hold, in the transaction that opens the hold; nothing is written there yet."""
    if mailbox.source == schema.DATABASE or written.of_hold(connection, number) is not None:
        return
    mine = [one for one in entries.of_keys(connection, [mailbox.key]).get(mailbox.key, ()) if _is_of(one, mailbox)]
    if mine:
        dn = mine[0].entry.dn
        written.put(connection, Write(number, mailbox.key, mailbox.source, dn, Stage.NOTED, None, None, ""))


def follow(connection: Connection, write: Write, mine: Iterable[Known]) -> None:
    """The entry on hold has another DN: it is the only one of the same name, and the former DN is nobody's now."""
    same = [one for one in mine if one.source == write.source]
    if len(same) != 1 or folded(same[0].entry.dn) == folded(write.dn):
        return
    if not entries.of_dn(connection, write.source, write.dn):
        written.put(connection, replace(write, dn=same[0].entry.dn))


def _held(connection: Connection) -> _Held:
    rows = connection.execute(_HELD).all()
    by_entry = {(row.source, folded(row.dn)): row.mailbox for row in rows if row.dn}
    return _Held(frozenset(row.mailbox for row in rows), by_entry)


def _candidates(connection: Connection, held: Collection[str]) -> set[str]:
    """Whoever has an entry or an address of the held mailboxes."""
    if not held:
        return set()
    addresses = set(held)
    for run in slices(sorted(held)):
        addresses.update(connection.execute(_ADDRESSES, {RUN: run}).scalars())
    found: set[str] = set().union(*entries.claimants(connection, addresses).values())
    for write in _writes(connection, held):
        found.update(one.entry.key for one in entries.of_dn(connection, write.source, write.dn))
    return found - set(held)


def _writes(connection: Connection, held: Collection[str]) -> list[Write]:
    numbers = [hold.number for hold in mailboxes.open_hold_of(connection, held).values()]
    return list(written.of_holds(connection, numbers).values())


def _by_address(
    connection: Connection, mine: Mapping[str, list[Known]], held: Collection[str]
) -> Iterable[tuple[str, str]]:
    """Mailboxes whose entries have an address of a held one that makes them its successor."""
    claimed: dict[str, set[str]] = {}
    for key, known in mine.items():
        for address in {address for one in known for address in one.entry.addresses}:
            claimed.setdefault(address, set()).add(key)
    shared = []
    for run in slices(sorted(claimed)):
        for address, holder in connection.execute(_OWNERS, {RUN: run}):
            shared += [(key, holder, address) for key in claimed[address] if holder in held and key != holder]
    if not shared:
        return []
    both = mailboxes.by_key(connection, {name for key, holder, _ in shared for name in (key, holder)})
    left = entries.of_keys(connection, {holder for _, holder, _ in shared})
    return {
        (key, holder)
        for key, holder, address in shared
        if not _in_force(both.get(key))
        or (address == holder and _has_gone(both[holder], left.get(holder, ()), mine[key]))
    }


def _in_force(mailbox: Mailbox | None) -> bool:
    """Whether mail goes to it: then it is not the one that was on hold."""
    return mailbox is not None and not mailbox.problem and mailbox.status is not Status.REMOVED


def _has_gone(holder: Mailbox, left: Iterable[Known], mine: Iterable[Known]) -> bool:
    """Whether the directory of a held mailbox has nothing of it any more but the name, which is another's."""
    return not any(_is_of(one, holder) for one in left) and any(_is_of(one, holder) for one in mine)


def _is_of(one: Known, mailbox: Mailbox) -> bool:
    return one.source == mailbox.source
