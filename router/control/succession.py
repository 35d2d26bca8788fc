"""
Mailboxes that are, or may be, what a command holds under another name: their mail waits for the release.

An entry may get another canonical address while it is on hold, or be deleted and added anew under another DN. The
mirror then sees a mailbox that nobody holds, with a home from before the move.

Guarantees: the entry that was there when the hold began is known by its DN, whatever becomes of its addresses. An
entry that has an address of a held mailbox counts as its successor unless it was in force before; and in any case
once it has the mailbox's own name and the mailbox has no entry any more. Doubt lets mail wait, never more.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from sqlalchemy import Connection, select

from router.control import entries, mailboxes, schema, written
from router.control.entries import Known, folded
from router.control.rows import RUN, in_run, slices
from router.control.written import Stage, Write
from router.errors import Conflict
from router.model.mailbox import Hold, Mailbox, Status

_H, _W, _A = schema.holds, schema.directory_writes, schema.addresses
_BY_COMMAND = (_H.c.closed_at.is_(None), _H.c.origin != schema.DIRECTORY)
_ANY = select(_H.c.number).where(*_BY_COMMAND).limit(1)
_OF_ENTRIES = (
    select(_H.c.mailbox, _W.c.source, _W.c.dn).join(_W, _W.c.hold == _H.c.number).where(*_BY_COMMAND, in_run(_W.c.dn))
)
_OWNERS = select(_A.c.address, _A.c.mailbox).where(in_run(_A.c.address))
_ADDRESSES = select(_A.c.address).where(in_run(_A.c.mailbox))


def kept_back(connection: Connection, mine: Mapping[str, list[Known]]) -> dict[str, set[str]]:
    """
    Those mailboxes that wait for a release, each with the held ones that it is or may be.

    `mine` are all entries of each mailbox that is asked about.
    """
    if not mine or connection.execute(_ANY).first() is None:
        return {}
    found: dict[str, set[str]] = {}
    for key, holder in (*_by_entry(connection, mine), *_by_address(connection, mine)):
        found.setdefault(key, set()).add(holder)
    return found


def successors(connection: Connection, held: Iterable[str]) -> dict[str, set[str]]:
    """The same seen from the mailboxes that commands hold: for each of them those that wait for its release."""
    wanted = set(held)
    mine = entries.of_keys(connection, _candidates(connection, wanted))
    found: dict[str, set[str]] = {}
    for key, holders in kept_back(connection, mine).items():
        for holder in holders & wanted:
            found.setdefault(holder, set()).add(key)
    return found


def together(
    connection: Connection, keys: Collection[str], open_holds: Mapping[str, Hold]
) -> tuple[dict[str, list[Known]], dict[str, set[str]]]:
    """
    All entries of these mailboxes, whose open holds are given, and of those that must be looked at together with them:
    held ones and whoever may be their successor. And which of them wait, as `kept_back` has it.
    """
    mine = entries.of_keys(connection, keys)
    kept = kept_back(connection, mine)
    held = [key for key, hold in open_holds.items() if hold.origin != schema.DIRECTORY]
    more = _candidates(connection, held).union(*kept.values()).difference(keys)
    if more:
        mine |= entries.of_keys(connection, more)
        kept = kept_back(connection, mine)
    return mine, kept


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
        dn = folded(mine[0].entry.dn)
        written.put(connection, Write(number, mailbox.key, mailbox.source, dn, Stage.NOTED, None, None))


def follow(connection: Connection, write: Write, mine: Iterable[Known]) -> None:
    """The entry on hold has another DN: it is the only one of the same name, and the former DN is nobody's now."""
    same = [one for one in mine if one.source == write.source]
    if len(same) != 1 or folded(same[0].entry.dn) == folded(write.dn):
        return
    if not entries.of_dn(connection, write.source, write.dn):
        written.put(connection, replace(write, dn=folded(same[0].entry.dn)))


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


def _by_entry(connection: Connection, mine: Mapping[str, list[Known]]) -> Iterable[tuple[str, str]]:
    """Mailboxes that have the very entry of a held one."""
    names = {(one.source, folded(one.entry.dn)): key for key, known in mine.items() for one in known}
    for run in slices(sorted({name for _, name in names})):
        for row in connection.execute(_OF_ENTRIES, {RUN: run}):
            key = names.get((row.source, row.dn), row.mailbox)
            if key != row.mailbox:
                yield key, row.mailbox


def _by_address(connection: Connection, mine: Mapping[str, list[Known]]) -> Iterable[tuple[str, str]]:
    """Mailboxes whose entries have an address of a held one that makes them its successor."""
    claimed: dict[str, set[str]] = {}
    for key, known in mine.items():
        for address in {address for one in known for address in one.entry.addresses}:
            claimed.setdefault(address, set()).add(key)
    shared = []
    for run in slices(sorted(claimed)):
        for address, holder in connection.execute(_OWNERS, {RUN: run}):
            shared += [(key, holder, address) for key in claimed[address] if key != holder]
    holds = mailboxes.open_hold_of(connection, {holder for _, holder, _ in shared})
    shared = [one for one in shared if one[1] in holds and holds[one[1]].origin != schema.DIRECTORY]
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
