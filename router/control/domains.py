"""
What directories say of whole domains, and how far a change of it has come to the people in it.

Guarantees: a domain's new state is stored together with a cursor that stands before its first person; whoever places
the people moves the cursor in the same transaction, so a crash in between loses nobody. A domain that was on hold and
is no longer in the directory stays on hold: an entry that is missing is no order to release anybody.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from router.control import schema
from router.control.entries import START, Reading, digest
from router.control.rows import RUN, from_json, in_run, slices, storable, to_json
from router.control.versions import older
from router.model.directory import DomainEntry, Standing

_D, _E = schema.directory_domains, schema.directory_entries
_ONE = select(_D).where(_D.c.source == bindparam("of"), _D.c.domain == bindparam("named"))
_NAMED = select(_D).where(in_run(_D.c.domain))


@dataclass(frozen=True, slots=True)
class Pending:
    """A domain whose people have yet to be placed anew, from behind `cursor` on."""

    source: str
    domain: str
    cursor: str


def by_name(items: Iterable[DomainEntry]) -> list[DomainEntry]:
    """One for each name of each domain: what is said of it holds for people under all of them."""
    found = {}
    for item in items:
        for name in (item.domain, *item.also):
            found[name] = replace(item, domain=name)
    return list(found.values())


def take_in(connection: Connection, items: Iterable[DomainEntry], reading: Reading) -> list[str]:
    """Store what is said of domains; the names of those of which something new was said."""
    news = []
    for item in by_name(items):
        row = connection.execute(_ONE, {"of": reading.source, "named": item.domain}).first()
        if row is not None and (not _is_news(item, row, reading)):
            _seen(connection, reading, item.domain)
            continue
        values = _values(item, reading)
        moved = row is None or any(getattr(row, name) != values[name] for name in ("home", "standing", "problem"))
        cursor = START if moved else row.cursor if row is not None else None
        if row is None:
            connection.execute(insert(_D).values(source=reading.source, domain=item.domain, cursor=cursor, **values))
        else:
            connection.execute(update(_D).where(*_same(reading.source, item.domain)).values(cursor=cursor, **values))
        news.append(item.domain)
    return news


def is_news(connection: Connection, item: DomainEntry, reading: Reading) -> bool:
    """Whether storing it would change anything."""
    row = connection.execute(_ONE, {"of": reading.source, "named": item.domain}).first()
    return row is None or _is_news(item, row, reading) or row.generation < reading.generation


def _is_news(item: DomainEntry, row: Any, reading: Reading) -> bool:
    if row.version == item.version and row.digest == digest(item, reading.salt):
        return False
    return (reading.sweeping and row.generation < reading.generation) or not older(item.version, row.version)


def _seen(connection: Connection, reading: Reading, domain: str) -> None:
    connection.execute(update(_D).where(*_same(reading.source, domain)).values(generation=reading.generation))


def still_there(connection: Connection, source: str, generation: int, dns: Sequence[str]) -> None:
    """Entries of these names were read and made no sense: what was known of their domains stays."""
    same = (_D.c.source == source) & _D.c.dn.in_([storable(dn) for dn in dns])
    connection.execute(update(_D).where(same).values(generation=generation))


def end_sweep(connection: Connection, source: str, generation: int) -> list[str]:
    """Forget domains that the sweep has not seen; those on hold stay, and are returned."""
    unseen = select(_D).where(_D.c.source == source, _D.c.generation < generation, _D.c.dn != "")
    kept = []
    for row in connection.execute(unseen).all():
        if row.standing == Standing.HOLD.value:
            kept.append(row.domain)
            continue
        values = {"dn": "", "version": "", "digest": "", "home": "", "standing": "active", "problem": "", "doubt": ""}
        connection.execute(update(_D).where(*_same(source, row.domain)).values(cursor=START, shown="[]", **values))
    return kept


def named(connection: Connection, names: Iterable[str]) -> dict[tuple[str, str], DomainEntry]:
    """What every directory says of these domains, by source and domain."""
    found = {}
    for run in slices(list(names)):
        for row in connection.execute(_NAMED, {RUN: run}):
            found[row.source, row.domain] = _entry(row)
    return found


def pending(connection: Connection, source: str) -> Pending | None:
    """A domain of this source whose people have yet to be placed anew."""
    query = select(_D.c.domain, _D.c.cursor).where(_D.c.source == source, _D.c.cursor.is_not(None)).limit(1)
    row = connection.execute(query).first()
    return None if row is None else Pending(source, row.domain, row.cursor)


def next_people(connection: Connection, where: Pending, size: int) -> Sequence[str]:
    """The next mailboxes of the domain behind the cursor, and the cursor moved behind them; none: it is done."""
    query = (
        select(_E.c.key)
        .where(_E.c.source == where.source, _E.c.domain == where.domain, _E.c.key > where.cursor)
        .distinct()
        .order_by(_E.c.key)
        .limit(size)
    )
    keys = list(connection.execute(query).scalars())
    cursor = keys[-1] if len(keys) == size else None
    connection.execute(update(_D).where(*_same(where.source, where.domain)).values(cursor=cursor))
    return keys


def _same(source: str, domain: str) -> tuple[Any, Any]:
    return _D.c.source == source, _D.c.domain == domain


def _values(item: DomainEntry, reading: Reading) -> dict[str, Any]:
    return {
        "dn": storable(item.dn),
        "version": item.version,
        "digest": digest(item, reading.salt),
        "home": item.home,
        "standing": item.standing.value,
        "shown": storable(to_json(list(item.shown))),
        "problem": storable(item.problem),
        "doubt": storable(item.doubt),
        "generation": reading.generation,
    }


def _entry(row: Any) -> DomainEntry:
    shown = tuple((name, value) for name, value in from_json(row.shown) or ())
    return DomainEntry(row.dn, row.domain, row.version, Standing(row.standing), row.home, shown, row.problem, row.doubt)
