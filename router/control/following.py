"""
One row per directory: its place in the configuration, how far it was read, when, and what is wrong with it.

Guarantees: these rows take no epoch, since no route depends on them; members see them move (`Tail`) and count from
there how old a directory's data are.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, bindparam, insert, select, update

from router.control import schema
from router.model.directory import Cookie, DirectoryState

_T = schema.directories
_STATES = select(_T).where(_T.c.name != schema.DATABASE).order_by(_T.c.rank, _T.c.name)
_GENERATION = select(_T.c.generation).where(_T.c.name == bindparam("of"))
_ANY = select(_T.c.name).where(_T.c.name != schema.DATABASE).limit(1)
_SEPARATOR = "\n"
LAST = 1_000_000
"""Rank of a source that the configuration does not name (any more)."""


def enrol(connection: Connection, sources: Sequence[str]) -> None:
    """
    Write down the order of the configuration's sources, the database among them.

    All others come last: a directory that was given another name must not contend with itself for its people.
    """
    known = _ranks(connection)
    for name, rank in _wanted(known, sources).items():
        if name not in known:
            connection.execute(insert(_T).values(name=name, rank=rank))
        elif known[name] != rank:
            connection.execute(update(_T).where(_T.c.name == name).values(rank=rank))


def enrolled(connection: Connection, sources: Sequence[str]) -> bool:
    """Whether that order is written down already."""
    known = _ranks(connection)
    return known == _wanted(known, sources)


def _ranks(connection: Connection) -> dict[str, int]:
    return {row.name: row.rank for row in connection.execute(select(_T.c.name, _T.c.rank))}


def _wanted(known: Iterable[str], sources: Sequence[str]) -> dict[str, int]:
    return {**dict.fromkeys(known, LAST), **{name: rank for rank, name in enumerate(sources)}}


def any_directory(connection: Connection) -> bool:
    """Whether the site has any directory besides the database."""
    return connection.execute(_ANY).first() is not None


def states(connection: Connection) -> tuple[DirectoryState, ...]:
    """All directories, the database excepted, in the order of the configuration."""
    return tuple(
        DirectoryState(row.name, row.followed_at, row.swept_at, row.people, row.fault, row.cookie)
        for row in connection.execute(_STATES)
    )


def generation(connection: Connection, source: str) -> int:
    """The number of the sweep that began last."""
    return int(connection.execute(_GENERATION, {"of": source}).scalar() or 0)


def begin_generation(connection: Connection, source: str) -> int:
    """A sweep begins; its number."""
    connection.execute(update(_T).where(_T.c.name == source).values(generation=_T.c.generation + 1))
    return generation(connection, source)


def put(connection: Connection, source: str, **values: object) -> None:
    """Set columns of the row."""
    connection.execute(update(_T).where(_T.c.name == source).values(**values))


def as_text(cookie: Cookie) -> str:
    """A cookie as it is stored."""
    return f"{cookie.server}{_SEPARATOR}{cookie.value}"


def as_cookie(text: str) -> Cookie:
    """What `as_text` made; an empty cookie of anything else."""
    server, found, value = text.partition(_SEPARATOR)
    return Cookie(server, value) if found else Cookie()
