"""
Whose an address is, when several may say so: entries of directories claim it, imports and commands have put it there.

Guarantees: an address of one mailbox only is its own. One that several mailboxes have is disputed: it stays where it
is and is answered by 451 4.3.5, never given to one by choice. What belongs to a mailbox that a command holds is left
exactly as it is; what a directory wants to give to such a mailbox is disputed until its release. The same goes for
one that a directory held and knows no longer.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from router.control import entries, following, mailboxes, schema
from router.control.directory_alarms import DISPUTE, Alarms
from router.control.rows import RUN, domain_of, in_run, slices
from router.control.turn import Turn
from router.model.mailbox import Hold

_A = schema.addresses
_TITLES = select(_A.c.address, _A.c.mailbox, _A.c.source, _A.c.disputed).where(in_run(_A.c.address))
_OF_MAILBOXES = select(_A.c.address, _A.c.mailbox).where(in_run(_A.c.mailbox))


@dataclass(frozen=True, slots=True)
class Title:
    """A row of `addresses`, as it is or as it should be."""

    mailbox: str
    source: str = schema.DIRECTORY
    disputed: str = ""


def title(address: str, now: Title | None, claimed: Collection[str], frozen: Collection[str]) -> Title | None:
    """
    Whose the address should be. Pure.

    `claimed` are the mailboxes whose entries have it, `frozen` those that a command holds.
    """
    if now is not None and now.mailbox in frozen:
        return now
    owners = set(claimed)
    ours = now is not None and now.source == schema.DATABASE
    if now is not None and ours:
        owners.add(now.mailbox)
    if not owners:
        return None
    source = schema.DATABASE if ours else schema.DIRECTORY
    owner = now.mailbox if now is not None and (len(owners) > 1 or now.mailbox in owners) else min(owners)
    if len(owners) > 1:
        return Title(owner, source, f"{address} belongs to {' and '.join(sorted(owners))}")
    (only,) = owners
    if only in frozen:
        why = f"{address} was given to {only} while that mailbox is on hold"
        return Title(now.mailbox if now is not None else only, source, why)
    return Title(only, source)


def settle(turn: Turn, addresses: Iterable[str]) -> dict[str, Hold]:
    """
    Bring the rows of these addresses up to date, with their changes and alarms; the open holds of those mailboxes that
    gained or lost any.

    Every mailbox that an entry names must have its row already.
    """
    wanted = sorted(set(addresses))
    if not wanted:
        return {}
    present = _titles(turn, wanted)
    claimed = entries.claimants(turn.connection, wanted)
    named = {one.mailbox for one in present.values()}.union(*claimed.values())
    holds = mailboxes.open_hold_of(turn.connection, named)
    frozen = frozen_of(turn, holds)
    should = {one: title(one, present.get(one), claimed.get(one, ()), frozen) for one in wanted}
    moved = {one for one in wanted if should[one] != present.get(one)}
    _write(turn, {one: should[one] for one in moved}, present)
    _alarm(turn, {one: should[one] for one in wanted})
    turn.tell_addresses(moved)
    touched = {one.mailbox for address in moved for one in (present.get(address), should[address]) if one is not None}
    return {key: hold for key, hold in holds.items() if key in touched}


def settle_claimed(connection: Connection, addresses: Collection[str], now: float) -> None:
    """After an import or a command has moved addresses: those that directories claim, too, are settled."""
    claimed = entries.claimants(connection, addresses) if addresses and following.any_directory(connection) else {}
    if claimed:
        turn = Turn(connection, now)
        settle(turn, claimed)
        turn.finish()


def by_command(hold: Hold | None) -> bool:
    """Whether nothing but a command may change what is held here."""
    return hold is not None and hold.origin != schema.DIRECTORY


def frozen_of(turn: Turn, holds: Mapping[str, Hold]) -> set[str]:
    """Held mailboxes that stay as they are: those that a command holds, and those whose entry is gone."""
    by_directory = [key for key, hold in holds.items() if not by_command(hold)]
    known = entries.of_keys(turn.connection, by_directory) if by_directory else {}
    return {key for key in holds if key not in known}


def of_mailboxes(turn: Turn, keys: Iterable[str]) -> dict[str, set[str]]:
    """The addresses whose rows name these mailboxes, by mailbox."""
    found: dict[str, set[str]] = {}
    for run in slices(list(keys)):
        for address, mailbox in turn.connection.execute(_OF_MAILBOXES, {RUN: run}):
            found.setdefault(mailbox, set()).add(address)
    return found


def _titles(turn: Turn, addresses: Iterable[str]) -> dict[str, Title]:
    found = {}
    for run in slices(list(addresses)):
        for row in turn.connection.execute(_TITLES, {RUN: run}):
            found[row.address] = Title(row.mailbox, row.source, row.disputed)
    return found


def _write(turn: Turn, should: Mapping[str, Title | None], present: Mapping[str, Title]) -> None:
    gone = [{"which": one} for one, then in should.items() if then is None]
    fresh: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for one, then in should.items():
        if then is None:
            continue
        values = {"mailbox": then.mailbox, "source": then.source, "disputed": then.disputed}
        if one in present:
            changed.append({"which": one, **values})
        else:
            fresh.append({"address": one, "domain": domain_of(one), **values})
    same = _A.c.address == bindparam("which")
    if gone:
        turn.connection.execute(delete(_A).where(same), gone)
    if changed:
        turn.connection.execute(update(_A).where(same), changed)
    if fresh:
        turn.connection.execute(insert(_A), fresh)


def _alarm(turn: Turn, should: Mapping[str, Title | None]) -> None:
    box = Alarms(turn, DISPUTE, list(should))
    for one, then in should.items():
        box.set(one, then.disputed if then is not None else "")
