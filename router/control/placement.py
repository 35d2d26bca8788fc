"""
From what the directories say to mailboxes: rows, holds and addresses are made to agree with the mirror.

Guarantees: placing a mailbox again changes nothing unless something is new. A hold stated by a directory is opened
and ended here, with origin 'directory'; nobody else ends it. It goes over to the mailbox that its own has become when
an entry gets another canonical address and keeps the former one. Nothing of a mailbox that a command holds is changed:
what the directory says meanwhile is drift, an alarm; what its own becomes under another name waits for the release
(`succession`). All of it happens in the caller's one transaction.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from router.control import claims, domains, entries, holds, mailboxes, people, schema, staging, succession, written
from router.control.claims import by_command
from router.control.desired import Desired, believed, desire, drift
from router.control.directory_alarms import DOUBT, DRIFT, PROBLEM, Alarms, open_kinds
from router.control.entries import Known
from router.control.following import LAST
from router.control.turn import Turn
from router.control.versions import reached
from router.control.written import Stage, Stand, Write
from router.model.directory import DomainEntry, Standing
from router.model.mailbox import Hold, Mailbox

_RANKS = select(schema.directories.c.name, schema.directories.c.rank)


@dataclass(frozen=True, slots=True)
class _Facts:
    """All that is known of the mailboxes being placed."""

    mailboxes: Mapping[str, Mailbox]
    entries: Mapping[str, list[Known]]
    domains: Mapping[tuple[str, str], DomainEntry]
    stands: Mapping[str, Stand]
    writes: Mapping[int, Write]
    ranks: Mapping[str, int]
    kept: Mapping[str, set[str]]
    """Mailboxes that wait for a release, with the held ones that they are or may be."""

    def heirs(self, key: str) -> list[str]:
        """Those that wait for the release of this mailbox."""
        return sorted(one for one, holders in self.kept.items() if key in holders)


def ranks(connection: Connection) -> dict[str, int]:
    """The place of each source in the configuration."""
    return {row.name: row.rank for row in connection.execute(_RANKS)}


def place(turn: Turn, keys: Iterable[str], addresses: Iterable[str] = (), never: Collection[str] = ()) -> set[str]:
    """
    Bring these mailboxes and addresses up to date with the mirror. `never` are mailboxes that are never held.

    What changed is told to the turn; the caller finishes it. Returns the mailboxes that several entries of one
    directory are: duplicates, or one that was renamed.
    """
    wanted, moving = set(keys), set(addresses)
    open_holds = mailboxes.open_hold_of(turn.connection, wanted | moving)
    wanted |= open_holds.keys()  # also those whose name somebody else may have got
    all_entries, kept = succession.together(turn.connection, wanted, open_holds)
    wanted = wanted.union(all_entries, *kept.values())
    staging.settle(turn.connection, wanted, moving)
    facts = _gather(turn.connection, wanted, all_entries, kept)
    crew = people.Crew(turn)
    drifting = {}
    for key in sorted(wanted):
        mailbox = facts.mailboxes.get(key)
        mine = facts.entries.get(key)
        if mine is None:
            drifting[key] = _without_entry(turn, crew, mailbox, facts.heirs(key))
        elif _is_less_believed(mailbox, mine, facts.ranks):
            continue
        elif mailbox is not None and by_command(mailbox.hold):
            drifting[key] = _frozen(turn, facts, mailbox, mine)
        else:
            _place_one(crew, facts, mailbox, mine, never)
            drifting[key] = ""
    crew.write()
    # What a directory took from them while they were on hold, or gave, counts from now on.
    free = claims.of_mailboxes(turn, [*crew.gone, *crew.released()])
    _reopen(turn, claims.settle(turn, moving.union(*free.values())))
    people.bury(turn, crew.gone)
    _alarm(turn, wanted, crew, drifting)
    return {key for key, mine in facts.entries.items() if len(believed(mine, facts.ranks)) > 1}


def place_whole(turn: Turn, keys: Collection[str], never: Collection[str] = ()) -> None:
    """The same with every address that these mailboxes have, or that an entry of theirs claims (after a release)."""
    addresses: set[str] = set().union(*claims.of_mailboxes(turn, keys).values())
    for mine in entries.of_keys(turn.connection, keys).values():
        addresses.update(address for one in mine for address in one.entry.addresses)
    place(turn, keys, addresses, never)


def _gather(
    connection: Connection, keys: Collection[str], mine: Mapping[str, list[Known]], kept: Mapping[str, set[str]]
) -> _Facts:
    known = mailboxes.by_key(connection, keys, settled=True)
    held = [one.hold.number for one in known.values() if one.hold is not None and by_command(one.hold)]
    names = {key.rpartition("@")[2] for key in mine}
    stands = _still_standing(connection, mine)
    writes = written.of_holds(connection, held)
    return _Facts(known, mine, domains.named(connection, names), stands, writes, ranks(connection), kept)


def _still_standing(connection: Connection, mine: Mapping[str, list[Known]]) -> dict[str, Stand]:
    """What we wrote and the mirror has not caught up with; what it has caught up with is forgotten."""
    found = {}
    for key, what in written.stands(connection, mine).items():
        left = what
        for one in mine[key]:
            if one.source == what.source:
                left = left.after(one.entry, one.digest)
        if left != what:
            written.stand(connection, left)
        if left.home or left.standing:
            found[key] = left
    return found


def _is_less_believed(mailbox: Mailbox | None, mine: list[Known], ranks: Mapping[str, int]) -> bool:
    """Whether the mailbox is the database's own, and the database comes before any of these directories."""
    if mailbox is None or mailbox.source != schema.DATABASE:
        return False
    best = min(ranks.get(one.source, LAST) for one in mine)
    return ranks.get(schema.DATABASE, LAST) <= best


def _place_one(
    crew: "people.Crew", facts: _Facts, mailbox: Mailbox | None, mine: list[Known], never: Collection[str]
) -> None:
    key = mine[0].entry.key
    named = {key, *(address for one in mine for address in one.entry.addresses)}  # the postmaster's may be an alias
    holdable = named.isdisjoint(never)
    wanted = desire(believed(mine, facts.ranks), facts.domains, facts.stands.get(key), holdable=holdable)
    if key in facts.kept:
        wanted = replace(wanted, problem=succession.why(facts.kept[key]))
    if mailbox is not None and mailbox.source != wanted.source:
        if mailbox.source == schema.DATABASE:
            crew.displace(mailbox)
        elif wanted.source == schema.DATABASE:
            crew.restore(key)
    crew.make(key, mailbox, wanted)


def _without_entry(turn: Turn, crew: "people.Crew", mailbox: Mailbox | None, heirs: Sequence[str]) -> str:
    """No directory knows it: the database's own stays, and so does one on hold; the others are gone."""
    if mailbox is None or mailbox.source == schema.DATABASE:
        return ""
    if mailbox.hold is not None:
        ours = by_command(mailbox.hold)
        heir = " and ".join(heirs) if ours else _heir_of(turn.connection, mailbox)
        if not heir:
            return f"its entry is not in {mailbox.source} any more; its mail stays on hold"
        if ours:
            return f"it is {heir} in {mailbox.source} now; its mail stays on hold"
        crew.hand_over(mailbox, heir)
    crew.gone.append(mailbox.key)
    return ""


def _heir_of(connection: Connection, mailbox: Mailbox) -> str:
    """The one mailbox of the same directory that has its name among its addresses now, or ''."""
    found = entries.claimants(connection, [mailbox.key]).get(mailbox.key, set()) - {mailbox.key}
    known = entries.of_keys(connection, found)
    heirs = [key for key, mine in known.items() if any(one.source == mailbox.source for one in mine)]
    return heirs[0] if len(heirs) == 1 else ""


def _frozen(turn: Turn, facts: _Facts, mailbox: Mailbox, mine: list[Known]) -> str:
    """How the directory differs from what a command holds, in words; nothing is changed."""
    first = believed(mine, facts.ranks)
    wanted = desire(first, facts.domains, facts.stands.get(mailbox.key))
    write = facts.writes.get(mailbox.hold.number) if mailbox.hold is not None else None
    if write is not None:
        succession.follow(turn.connection, write, mine)
    ours, away = _how_far(turn, write, first[0], wanted)
    found = drift(wanted, mailbox, ours=ours, away=away)
    if write is not None and write.state is Stage.RELEASING and wanted.home == write.home:
        found = [text for text in found if not text.startswith("home ")]
    claimed = {address for one in mine for address in one.entry.addresses}
    present = claims.of_mailboxes(turn, [mailbox.key]).get(mailbox.key, set())
    found += [f"address {address} added" for address in sorted(claimed - present)]
    found += [f"address {address} taken away" for address in sorted(_from_directories(turn, present - claimed))]
    said = [f"{wanted.dn} says: {'; '.join(found)}"] if found else []
    said += [f"{heir} seems to be the same, and its mail waits" for heir in facts.heirs(mailbox.key)]
    return "; ".join(said)


def _how_far(turn: Turn, write: Write | None, first: Known, wanted: Desired) -> tuple[bool, bool]:
    """Whether the hold that we wrote has been read, and whether it may have been written and was not read yet."""
    if write is None or write.state is Stage.NOTED:
        return False, False
    if write.state is not Stage.HELD:
        return False, True
    if write.seen:
        return True, False
    if reached(first.entry.version, write.version) or wanted.own is Standing.HOLD:
        written.mark_seen(turn.connection, write.hold)
        return True, False
    return False, True


def _from_directories(turn: Turn, addresses: Collection[str]) -> set[str]:
    table = schema.addresses.c
    query = select(table.address).where(table.address.in_(list(addresses)), table.source == schema.DIRECTORY)
    return set(turn.connection.execute(query).scalars()) if addresses else set()


def _reopen(turn: Turn, touched: Mapping[str, Hold]) -> None:
    """An address moved onto or off a held mailbox: its barrier runs again (barrier.md 11)."""
    for key, hold in touched.items():
        if not by_command(hold):  # of the others no address moves: what they are given is in dispute until the end
            turn.tell_mailboxes([key])
            holds.reopen(turn.connection, hold, turn.epoch)


def _alarm(turn: Turn, keys: Collection[str], crew: "people.Crew", drifting: Mapping[str, str]) -> None:
    said = ((PROBLEM, crew.problems), (DOUBT, crew.doubts), (DRIFT, drifting))
    present = open_kinds(turn.connection, [kind for kind, _ in said], keys)
    for kind, texts in said:
        if kind not in present and not any(texts.values()):
            continue  # none to raise, none to clear
        box = Alarms(turn, kind, keys)
        for key in sorted(keys):
            if key in texts or key in crew.gone:
                box.set(key, texts.get(key, ""))
