"""
Reading mailboxes: by address, by filter, counted per home.

Guarantees: all readers see an import either wholly or not at all. While an import is visible but not yet merged, its
rows stand in the staging tables and take precedence here (`importing` tells the story). Each function is one or two
indexed statements; lists are paged. An address that is in dispute, or whose mailbox cannot be placed, is found and
said to be so; an absent one in a domain that a directory seems to have lost is said to be doubtful.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, FromClause, Select, and_, func, select, union_all

from router.control import losses, schema
from router.control.rows import RUN, from_json, in_run, slices, to_json
from router.model.mailbox import Found, Hold, Mailbox, Status

_M, _A, _H = schema.mailboxes, schema.addresses, schema.holds
_SM, _SA = schema.staged_mailboxes, schema.staged_addresses
_HOLD_COLUMNS = (
    _H.c.number,
    _H.c.opened_at,
    _H.c.opened_epoch,
    _H.c.reason,
    _H.c.actor,
    _H.c.batch,
    _H.c.deadline,
    _H.c.target.label("hold_target"),
    _H.c.quiet_at,
    _H.c.origin,
)


@dataclass(frozen=True, slots=True)
class Record:
    """A mailbox with what only commands ask for."""

    mailbox: Mailbox
    addresses: tuple[str, ...]
    """All address keys, the canonical one included, sorted."""
    division: str = ""
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which mailboxes; empty fields match everything. `held` None: both."""

    home: str = ""
    domain: str = ""
    batch: str = ""
    status: Status | None = None
    held: bool | None = None


def visible_import(connection: Connection) -> int:
    """The number of the import that is visible but not merged, 0 when there is none (nearly always)."""
    return int(connection.execute(_VISIBLE).scalar_one())


def find(connection: Connection, keys: Sequence[str]) -> Found:
    """The mailboxes of address keys and the epoch of this transaction; absent keys are unknown."""
    epoch, visible = connection.execute(_EPOCH_AND_VISIBLE).one()
    found: dict[str, Mailbox] = {}
    disputed: dict[str, str] = {}
    for run in slices(keys):
        if visible:
            owned = owners(connection, run)
            known = by_key(connection, set(owned.values()))
            found.update({address: known[key] for address, key in owned.items() if key in known})
            marked = select(_A.c.address, _A.c.disputed).where(_A.c.address.in_(run), _A.c.disputed != "")
            disputed.update({key: why for key, why in connection.execute(marked) if key in found})
        else:
            for row in connection.execute(_BY_ADDRESS, {RUN: run}):
                found[row.address] = _mailbox(row)
                if row.disputed:
                    disputed[row.address] = row.disputed
    for address, mailbox in found.items():
        if mailbox.problem and mailbox.hold is None:
            disputed.setdefault(address, mailbox.problem)
    absent = [key for key in keys if key not in found]
    return Found(epoch, found, disputed, losses.doubtful(connection, absent) if absent else {})


def owners(connection: Connection, addresses: Iterable[str]) -> dict[str, str]:
    """Address key to mailbox key, for those that anybody owns."""
    visible = visible_import(connection)
    found: dict[str, str] = {}
    for run in slices(list(addresses)):
        found.update({row[0]: row[1] for row in connection.execute(_OWNERS, {RUN: run})})
        if not visible:
            continue
        staged = select(_SA.c.address, _SA.c.mailbox).where(_SA.c.import_number == visible, _SA.c.address.in_(run))
        for address, mailbox in connection.execute(staged):
            if mailbox is None:
                found.pop(address, None)
            else:
                found[address] = mailbox
    return found


def by_key(connection: Connection, keys: Iterable[str], *, settled: bool = False) -> dict[str, Mailbox]:
    """Mailboxes by their own keys. `settled`: what a visible import says about them has been merged just now."""
    visible = 0 if settled else visible_import(connection)
    found: dict[str, Mailbox] = {}
    for run in slices(list(keys)):
        for row in connection.execute(_of_keys(visible, run), {RUN: run}):
            found[row.key] = _mailbox(row)
    return found


def from_directories(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of the mailboxes that come from a directory."""
    if visible_import(connection):
        return {key for key, one in by_key(connection, keys).items() if one.source != schema.DATABASE}
    found: set[str] = set()
    for run in slices(keys):
        found.update(connection.execute(_ELSEWHERE, {RUN: run}).scalars())
    return found


def records(connection: Connection, keys: Iterable[str]) -> dict[str, Record]:
    """The same with addresses, division and size."""
    wanted = list(keys)
    visible = visible_import(connection)
    found: dict[str, Record] = {}
    for run in slices(wanted):
        for row in connection.execute(_of_keys(visible, run), {RUN: run}):
            found[row.key] = Record(_mailbox(row), (), row.division, row.size_bytes)
    owned: dict[str, set[str]] = {key: set() for key in found}
    for run in slices(list(found)):
        for address, mailbox in connection.execute(_addresses_of(visible, run), {RUN: run}):
            owned[mailbox].add(address)
    return {key: replace(record, addresses=tuple(sorted(owned[key]))) for key, record in found.items()}


def record(connection: Connection, key: str) -> Record | None:
    """One mailbox by any of its addresses."""
    key = owners(connection, [key]).get(key, key)
    return records(connection, [key]).get(key)


def listing(connection: Connection, wanted: Filter, *, after: str = "", limit: int = 500) -> Sequence[Mailbox]:
    """A page of mailboxes in the order of their keys; `after` is the last key of the page before."""
    source = _current(visible_import(connection))
    query = _with_holds(source).where(source.c.key > after).order_by(source.c.key).limit(limit)
    return [_mailbox(row) for row in connection.execute(_restrict(query, source, wanted))]


def count(connection: Connection, wanted: Filter) -> int:
    """How many mailboxes match."""
    source = _current(visible_import(connection))
    query = select(func.count()).select_from(_joined(source))
    return int(connection.execute(_restrict(query, source, wanted)).scalar_one())


def homes(connection: Connection) -> dict[str, int]:
    """How many mailboxes each store is home of: a store with any cannot leave the configuration."""
    source = _current(visible_import(connection))
    return _pairs(connection, select(source.c.home, func.count()).group_by(source.c.home))


def sources(connection: Connection) -> dict[str, int]:
    """How many mailboxes each source is believed about: a directory with any cannot leave the configuration."""
    return _pairs(connection, select(_M.c.source, func.count()).group_by(_M.c.source))


def populated(connection: Connection, domain: str) -> bool:
    """Whether anybody is known in the domain (promise 5: an empty domain answers 451)."""
    if connection.execute(select(_A.c.address).where(_A.c.domain == domain).limit(1)).first() is not None:
        return True
    visible = visible_import(connection)
    query = select(_SA.c.address).where(
        _SA.c.import_number == visible, _SA.c.domain == domain, _SA.c.mailbox.is_not(None)
    )
    return visible != 0 and connection.execute(query.limit(1)).first() is not None


def open_hold_of(connection: Connection, keys: Iterable[str]) -> dict[str, Hold]:
    """The open holds of mailboxes by key."""
    found: dict[str, Hold] = {}
    for run in slices(list(keys)):
        found.update(
            {row.mailbox: hold_of(row, row.hold_target) for row in connection.execute(_OPEN_HOLDS, {RUN: run})}
        )
    return found


def all_open_holds(connection: Connection) -> dict[str, Hold]:
    """Every open hold by mailbox key. Bounded by the mailboxes under way, not by the size of the site."""
    return {row.mailbox: hold_of(row, row.hold_target) for row in connection.execute(_ALL_OPEN)}


def _current(visible: int, keys: Sequence[str] | None = None) -> FromClause:
    """
    The mailboxes table, or its rows with those of a visible import laid over it.

    `keys` restricts both halves: SQLite does not always carry an outer condition into a compound. For the same reason
    the staged row is looked for per mailbox; a NOT IN would read all of them each time.
    """
    if not visible:
        return _M
    names = [column.name for column in _M.c]
    staged = select(_SM.c.key).where(_SM.c.import_number == visible, _SM.c.key == _M.c.key).correlate(_M)
    base = select(*(_M.c[name] for name in names)).where(~staged.exists())
    fresh = select(*(_SM.c[name] for name in names)).where(_SM.c.import_number == visible)
    if keys is not None:
        base, fresh = base.where(_M.c.key.in_(keys)), fresh.where(_SM.c.key.in_(keys))
    return union_all(base, fresh).subquery("current")


def _joined(source: FromClause) -> FromClause:
    return source.outerjoin(_H, and_(_H.c.mailbox == source.c.key, _H.c.closed_at.is_(None)))


def _with_holds(source: FromClause, *extra: Any) -> Select[Any]:
    return select(*source.c, *_HOLD_COLUMNS, *extra).select_from(_joined(source))


def _of_keys(visible: int, keys: Sequence[str]) -> Select[Any]:
    """To be executed with the keys as `RUN`."""
    if not visible:
        return _BY_KEY
    source = _current(visible, keys)
    return _with_holds(source).where(in_run(source.c.key))


def _addresses_of(visible: int, keys: Sequence[str]) -> Select[Any]:
    """To be executed with the keys as `RUN`."""
    base = _ADDRESSES_OF
    if not visible:
        return base
    touched = select(_SA.c.address).where(_SA.c.import_number == visible, _SA.c.address == _A.c.address).correlate(_A)
    fresh = select(_SA.c.address, _SA.c.mailbox).where(_SA.c.import_number == visible, _SA.c.mailbox.in_(keys))
    both = union_all(base.where(~touched.exists()), fresh).subquery()
    return select(both.c.address, both.c.mailbox)


def _restrict(query: Select[Any], source: FromClause, wanted: Filter) -> Select[Any]:
    if wanted.home:
        query = query.where(source.c.home == wanted.home)
    if wanted.domain:
        query = query.where(source.c.key.endswith(f"@{wanted.domain}", autoescape=True))
    if wanted.status is not None:
        query = query.where(source.c.status == wanted.status.value)
    if wanted.held is not None:
        query = query.where(_H.c.number.is_not(None) if wanted.held else _H.c.number.is_(None))
    if wanted.batch:
        query = query.where(source.c.key.in_(select(_H.c.mailbox).where(_H.c.batch == wanted.batch)))
    return query


def _pairs(connection: Connection, query: Select[Any]) -> dict[str, Any]:
    return {row[0]: row[1] for row in connection.execute(query)}


def _mailbox(row: Any) -> Mailbox:
    hold = None if row.number is None else hold_of(row, row.hold_target)
    return Mailbox(
        row.key,
        row.home,
        status_of(row.status),
        hold,
        row.moved_at,
        row.target,
        row.source,
        row.kind,
        () if row.forwards == "[]" else tuple(from_json(row.forwards) or ()),
        bool(row.keeps),
        row.route,
        row.problem,
    )


def beside(mailbox: Mailbox) -> dict[str, str | int]:
    """Those columns of a mailbox that only a directory fills."""
    return {
        "source": mailbox.source,
        "kind": mailbox.kind,
        "forwards": to_json(list(mailbox.forwards)),
        "keeps": int(mailbox.keeps),
        "route": mailbox.route,
        "problem": mailbox.problem,
    }


def hold_of(row: Any, target: str) -> Hold:
    """The hold of a row with the columns of `schema.holds`; beside those of a mailbox its target has another name."""
    return Hold(
        row.number,
        row.opened_at,
        row.opened_epoch,
        row.reason,
        row.actor,
        row.batch,
        row.deadline,
        target,
        row.quiet_at,
        row.origin,
    )


_BY_ADDRESS = (
    _with_holds(_M, _A.c.address, _A.c.disputed).join(_A, _A.c.mailbox == _M.c.key).where(in_run(_A.c.address))
)
_ADDRESSES_OF = select(_A.c.address, _A.c.mailbox).where(in_run(_A.c.mailbox))
_OWNERS = select(_A.c.address, _A.c.mailbox).where(in_run(_A.c.address))
_VISIBLE = select(schema.site.c.visible_import)
_EPOCH_AND_VISIBLE = select(schema.counter.c.value, _VISIBLE.scalar_subquery()).where(
    schema.counter.c.name == schema.EPOCH
)
_ELSEWHERE = select(_M.c.key).where(in_run(_M.c.key), _M.c.source != schema.DATABASE)
_BY_KEY = _with_holds(_M).where(in_run(_M.c.key))
_ALL_OPEN: Select[Any] = select(_H.c.mailbox, *_HOLD_COLUMNS).where(_H.c.closed_at.is_(None))
_OPEN_HOLDS: Select[Any] = select(_H.c.mailbox, *_HOLD_COLUMNS).where(_H.c.closed_at.is_(None), in_run(_H.c.mailbox))


def status_of(text: str) -> Status:
    """Sun's rule: missing is active, anything unknown is inactive, which is temporary (never a permanent refusal)."""
    try:
        return Status(text or "active")
    except ValueError:
        return Status.INACTIVE
