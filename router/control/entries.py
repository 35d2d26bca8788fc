"""
The mirror's own tables: entries and domains of directories as they were last read, and which addresses they claim.

Guarantees: what is stored is what the directory says, with nothing of ours mixed in. An entry is found by its folded
DN; one that is known in the same version and with the same meaning is not written again, and an older state never
replaces a newer one, unless a sweep brings it and nobody has read the entry since the sweep began (a directory that
was restored from a backup has older versions, and is the truth all the same). Where versions prove nothing, an answer
to a lookup does not replace what was written after its question was put (barrier rule 4).
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from router.control import schema
from router.control.rows import RUN, domain_of, from_json, in_run, slices, storable, to_json
from router.control.versions import older, reached
from router.model.directory import DomainEntry, Entry, Role, Standing, Unplaced

_E, _C, _D = schema.directory_entries, schema.directory_claims, schema.directory_domains
_ROWS = select(
    _E.c.number, _E.c.name, _E.c.version, _E.c.digest, _E.c.key, _E.c.addresses, _E.c.generation, _E.c.seen_at
).where(_E.c.source == bindparam("of"), in_run(_E.c.name))
_OF_KEYS = select(_E).where(in_run(_E.c.key)).order_by(_E.c.name)
_CLAIMANTS = select(_C.c.address, _E.c.key).join(_E, _E.c.number == _C.c.entry).where(in_run(_C.c.address))
_MOST = select(func.max(_E.c.number))
_ENTER, _CLAIM = insert(_E), insert(_C)
_NOW: Mapping[str, float] = MappingProxyType({})
START = ""
"""Cursor of a domain whose people have all yet to be placed anew."""


@dataclass(frozen=True, slots=True)
class Known:
    """An entry as stored."""

    number: int
    source: str
    entry: Entry
    digest: str = ""
    seen_at: float = 0.0
    """Wall-clock seconds of the last time that it was new or changed."""


@dataclass(slots=True)
class Taken:
    """What reading some entries came to. `keys` and `addresses` have to be placed anew."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    keys: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    """Former keys of entries that have another one now."""
    seen: list[int] = field(default_factory=list)
    """Numbers of all entries that were there before."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How entries are read: of which source, in which generation, whether by a sweep. `salt` goes into each digest."""

    source: str
    generation: int
    salt: str = ""
    sweeping: bool = False


def folded(dn: str) -> str:
    """What is compared of a DN: servers of one directory may spell it differently."""
    return storable(dn.lower())


def digest(item: Entry | DomainEntry, salt: str) -> str:
    """What the item means: with the same version and digest there is nothing new in it."""
    return hashlib.blake2b((salt + repr(item)).encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()


def fresh(connection: Connection, items: Sequence[Entry], reading: Reading) -> tuple[list[Entry], list[int]]:
    """Those of the entries that are new or say something new, and the numbers of those known already."""
    rows = _rows(connection, reading.source, [folded(item.dn) for item in items])
    news = [item for item in items if _is_news(item, rows.get(folded(item.dn)), reading)]
    return news, [row.number for row in rows.values()]


def take_in(
    connection: Connection, items: Sequence[Entry], reading: Reading, now: float, asked: Mapping[str, float] = _NOW
) -> Taken:
    """Store the entries; the last one of a DN counts. `asked` is when, by DN, lookups were put that brought them."""
    wanted = {folded(item.dn): item for item in items}
    rows = _rows(connection, reading.source, list(wanted))
    taken = Taken(seen=[row.number for row in rows.values()])
    numbered: list[tuple[int, Entry, Any]] = []
    following = _next_number(connection)
    for name, item in wanted.items():
        row = rows.get(name)
        if not _is_news(item, row, reading) or _is_late(item, row, asked.get(item.dn, math.inf)):
            taken.unchanged += 1
        elif row is None:
            numbered.append((following, item, None))
            following += 1
        else:
            numbered.append((row.number, item, row))
    _write(connection, numbered, reading, now)
    _claim(connection, numbered, taken)
    return taken


def _is_news(item: Entry, row: Any, reading: Reading) -> bool:
    if row is None:
        return True
    if row.version == item.version and row.digest == digest(item, reading.salt):
        return False
    believed = reading.sweeping and row.generation < reading.generation
    return believed or not older(item.version, row.version)


def _is_late(item: Entry, row: Any, asked: float) -> bool:
    """Whether what is known was written after the question was put, and nothing proves the answer to be newer."""
    return row is not None and row.seen_at >= asked and not reached(item.version, row.version)


def _write(connection: Connection, numbered: Sequence[tuple[int, Entry, Any]], reading: Reading, now: float) -> None:
    created = [{"number": n, **_values(item, reading, now)} for n, item, row in numbered if row is None]
    changed = [{"which": n, **_values(item, reading, now)} for n, item, row in numbered if row is not None]
    if created:
        connection.execute(_ENTER, created)
    if changed:
        connection.execute(update(_E).where(_E.c.number == bindparam("which")), changed)


def _claim(connection: Connection, numbered: Sequence[tuple[int, Entry, Any]], taken: Taken) -> None:
    gained, lost = [], []
    for number, item, row in numbered:
        before = set() if row is None else set(from_json(row.addresses) or ())
        now = set(item.addresses)
        gained += [{"address": one, "entry": number} for one in now - before]
        lost += [{"one": one, "number": number} for one in before - now]
        taken.created += row is None
        taken.changed += row is not None
        taken.keys.update({item.key} if row is None else {item.key, row.key})
        if row is not None and row.key != item.key:
            taken.renamed[row.key] = item.key
        # With another key, each of its addresses belongs to another mailbox.
        taken.addresses |= (now ^ before) if row is None or row.key == item.key else (now | before)
    if lost:
        connection.execute(delete(_C).where(_C.c.address == bindparam("one"), _C.c.entry == bindparam("number")), lost)
    if gained:
        connection.execute(_CLAIM, gained)


def spoil(connection: Connection, items: Sequence[Unplaced], reading: Reading, now: float) -> Taken:
    """
    Entries that make no sense any more. What is known of them stays, with a problem: their people are not unknown.

    The next sensible reading of such an entry is news, whatever its version.
    """
    said = {folded(item.dn): storable(item.problem) for item in items}
    rows = _rows(connection, reading.source, list(said))
    taken = Taken(seen=[row.number for row in rows.values()])
    values = {"version": "", "digest": "", "generation": reading.generation, "seen_at": now}
    spoilt = [{"which": row.number, "problem": said[name], **values} for name, row in rows.items()]
    if spoilt:
        connection.execute(update(_E).where(_E.c.number == bindparam("which")), spoilt)
        taken.keys.update(row.key for row in rows.values())
    return taken


def outdated(connection: Connection, source: str, answer: Sequence[Entry]) -> list[int]:
    """
    Numbers of entries that an answer to a lookup proves to be gone: it has the same mailbox under another DN, with
    all their addresses and in no older state. That is what a renamed entry looks like until the next sweep.
    """
    there = {folded(one.dn) for one in answer}
    found = of_keys(connection, {one.key for one in answer})
    return [
        old.number
        for new in answer
        for old in found.get(new.key, [])
        if old.source == source
        and folded(old.entry.dn) not in there
        and set(old.entry.addresses) <= set(new.addresses)
        and not older(new.version, old.entry.version)
    ]


def remove(connection: Connection, source: str, numbers: Sequence[int], before: int) -> Taken:
    """Forget entries, unless they were read again since generation `before` began."""
    taken = Taken()
    for run in slices(numbers):
        query = select(_E.c.number, _E.c.key, _E.c.addresses).where(_E.c.number.in_(run), _E.c.source == source)
        gone = connection.execute(query.where(_E.c.generation < before)).all()
        for row in gone:
            taken.keys.add(row.key)
            taken.addresses.update(from_json(row.addresses) or ())
        claimed = [{"one": one, "n": row.number} for row in gone for one in from_json(row.addresses) or ()]
        if claimed:
            connection.execute(
                delete(_C).where(_C.c.address == bindparam("one"), _C.c.entry == bindparam("n")), claimed
            )
        connection.execute(delete(_E).where(_E.c.number.in_([row.number for row in gone])))
        taken.changed += len(gone)
    return taken


def of_keys(connection: Connection, keys: Iterable[str]) -> dict[str, list[Known]]:
    """All entries of mailboxes, by key; in each the order of their DNs."""
    found: dict[str, list[Known]] = {}
    for run in slices(list(keys)):
        for row in connection.execute(_OF_KEYS, {RUN: run}):
            found.setdefault(row.key, []).append(known(row))
    return found


def of_dn(connection: Connection, source: str, dn: str) -> list[Known]:
    """The entry of that DN, whatever mailbox it is now; none or one."""
    query = select(_E).where(_E.c.source == source, _E.c.name == folded(dn))
    return [known(row) for row in connection.execute(query)]


def claimants(connection: Connection, addresses: Iterable[str]) -> dict[str, set[str]]:
    """For each address the mailboxes whose entries claim it."""
    found: dict[str, set[str]] = {}
    for run in slices(list(addresses)):
        for address, key in connection.execute(_CLAIMANTS, {RUN: run}):
            found.setdefault(address, set()).add(key)
    return found


def count(connection: Connection, source: str) -> int:
    """How many entries of the source are known."""
    return int(connection.execute(select(func.count()).select_from(_E).where(_E.c.source == source)).scalar_one())


def store_displaced(connection: Connection, source: str, entry: Entry, now: float) -> None:
    """Keep what another source said of a mailbox before a more believed one took it over."""
    reading = Reading(source, 0)
    row = _rows(connection, source, [folded(entry.dn)]).get(folded(entry.dn))
    _write(connection, [(row.number if row else _next_number(connection), entry, row)], reading, now)


def known(row: Any) -> Known:
    """A row as a value."""
    entry = Entry(
        dn=row.dn,
        role=Role(row.role),
        key=row.key,
        addresses=tuple(from_json(row.addresses) or ()),
        version=row.version,
        home=row.home,
        host=row.host,
        standing=Standing(row.standing),
        forwards=tuple(from_json(row.forwards) or ()),
        keeps=bool(row.keeps),
        route=row.route,
        shown=tuple((name, value) for name, value in from_json(row.shown) or ()),
        problem=row.problem,
        doubt=row.doubt,
    )
    return Known(row.number, row.source, entry, row.digest, row.seen_at)


def _rows(connection: Connection, source: str, names: Sequence[str]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for run in slices(names):
        found.update({row.name: row for row in connection.execute(_ROWS, {"of": source, RUN: run})})
    return found


def _next_number(connection: Connection) -> int:
    return int(connection.execute(_MOST).scalar() or 0) + 1


def _values(item: Entry, reading: Reading, now: float) -> dict[str, Any]:
    return {
        "source": reading.source,
        "name": folded(item.dn),
        "dn": storable(item.dn),
        "key": item.key,
        "domain": domain_of(item.key),
        "role": item.role.value,
        "version": item.version,
        "digest": digest(item, reading.salt),
        "home": item.home,
        "host": storable(item.host),
        "standing": item.standing.value,
        "forwards": to_json(list(item.forwards)),
        "keeps": int(item.keeps),
        "route": item.route,
        "addresses": to_json(list(item.addresses)),
        "shown": storable(to_json(list(item.shown))),
        "problem": storable(item.problem),
        "doubt": storable(item.doubt),
        "generation": reading.generation,
        "seen_at": now,
    }
