"""
The control database of a simulated site: SQLite in memory behind the product's `ControlDatabase`.

One transaction is one event, as SQLite orders them; between two of them others get their turn. Statements are the
product's own; what SQLAlchemy would compile anew for each is compiled once (that is most of its time).

Guarantees: what was committed is there for everybody and stays whatever dies; a transaction that raises leaves
nothing. An outage and a locked database look as they do to the product.

On failure: `ControlUnavailable` during an outage, `DatabaseBusy` for a member while somebody writes.
"""

import sqlite3
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from sqlalchemy import Connection, Delete, Insert, Select, Update, create_engine
from sqlalchemy.pool import StaticPool

from router.control.database import ControlDatabase, DatabaseBusy
from router.control.migrate import migrate
from router.errors import ControlUnavailable
from support.simulation.fibers import Fiber, Killed
from support.simulation.scheduler import Process, Scheduler

PEOPLE = ("ann", "bea", "cem")
DOMAIN = "example.edu"
KEYS = tuple(f"{name}@{DOMAIN}" for name in PEOPLE)
ALIAS = f"annie@{DOMAIN}"
"""Of ann."""
STORES = ("old", "new", "third")


class Rows:
    """A result, as far as the product looks at one."""

    def __init__(self, cursor: sqlite3.Cursor, make: Callable[..., Any] | None) -> None:
        self._rows = [make(row) for row in cursor.fetchall()] if make is not None else []
        self.rowcount = cursor.rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        return self._rows

    def first(self) -> Any:
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        (row,) = self._rows
        return row

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalars(self) -> "Rows":
        found = object.__new__(Rows)
        found._rows, found.rowcount = [row[0] for row in self._rows], self.rowcount
        return found


_GIVEN = object()
"""In place of the value of a parameter that has none of its own."""


class _Compiled:
    """A statement ready for the driver."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.plain = not (compiled.insert_prefetch or compiled.update_prefetch)
        self.lists = tuple(sorted(compiled.bind_names[one] for one in compiled.post_compile_params))
        self.processors = compiled._bind_processors
        names = [entry.keyname for entry in compiled._result_columns or ()]
        row: Any = namedtuple("Row", names, rename=True) if names else None  # noqa: PYI024
        self.make = row._make if names else None
        self.text = "" if compiled.positiontup or self.lists else compiled.string
        """Of one without parameters."""
        self._plan = [] if self.text or self.lists or not self.plain else self._binding()
        self._texts: dict[tuple[int, ...], Any] = {}

    def _binding(self) -> list[tuple[str, Any, Any]]:
        """For each place: the parameter's name, its value where none is given, and what makes it the driver's."""
        binds = {name: bind for bind, name in self.compiled.bind_names.items()}
        return [
            (binds[name].key, _GIVEN if binds[name].required else binds[name].value, self.processors.get(name))
            for name in self.compiled.positiontup or ()
        ]

    def execute(self, extracted: Any, parameters: Any) -> Rows:
        """Bind and run."""
        if self.text:
            return Rows(RAW.execute(self.text), self.make)
        if extracted is None and self._plan:
            return Rows(RAW.execute(self.compiled.string, self._bound(parameters or {})), self.make)
        values = self.compiled.construct_params(parameters, extracted_parameters=extracted, escape_names=False)
        if not self.lists:
            text, names = self.compiled.string, self.compiled.positiontup or ()
        else:
            text, names, parts = self._expanded(values)
            for name, own in parts.items():
                values.update(zip(own, values[name], strict=True))
        processors = self.processors
        bound = [processors[name](values[name]) if name in processors else values[name] for name in names]
        return Rows(RAW.execute(text, bound), self.make)

    def _bound(self, parameters: Any) -> list[Any]:
        bound = []
        for key, usual, processor in self._plan:
            value = parameters[key] if usual is _GIVEN or key in parameters else usual
            bound.append(value if processor is None else processor(value))
        return bound

    def _expanded(self, values: Any) -> Any:
        """For lists of these lengths."""
        lengths = tuple(len(values[name]) if isinstance(values[name], list | tuple) else -1 for name in self.lists)
        if lengths not in self._texts:
            state = self.compiled._process_parameters_for_postcompile(dict(values))
            parts = {
                key: own for key, own in state.parameter_expansion.items() if isinstance(values[key], list | tuple)
            }
            self._texts[lengths] = (state.statement, state.positiontup, parts)
        return self._texts[lengths]


_STATEMENTS: dict[Any, _Compiled] = {}
_CONSTANT: dict[int, tuple[Any, _Compiled]] = {}
"""Statements that the product builds once, by identity."""
_INSERTS: dict[int, tuple[Any, dict[tuple[str, ...], _Compiled]]] = {}
"""Those that insert rows, for each choice of columns."""


def _compile(statement: Any, dialect: Any, columns: Sequence[str] = ()) -> _Compiled:
    return _Compiled(
        statement._compiler(dialect, column_keys=list(columns), for_executemany=False, schema_translate_map=None)
    )


def _gather_constants(dialect: Any) -> None:
    for name, module in tuple(sys.modules.items()):
        for value in vars(module).values() if name.startswith("router.control") else ():
            if isinstance(value, Insert):
                _INSERTS[id(value)] = (value, {})
            elif isinstance(value, Select | Update | Delete):
                compiled = _compile(value, dialect)
                if compiled.plain:
                    _CONSTANT[id(value)] = (value, compiled)


def _each(statement: _Compiled, parameters: Any) -> Rows:
    """Once, or once for each of many rows; the last result."""
    for row in parameters if isinstance(parameters, list) else (parameters,):
        result = statement.execute(None, row)
    return result


class QuickConnection(Connection):
    """Executes a statement that was seen before without SQLAlchemy's machinery; everything else as ever."""

    def execute(self, statement: Any, parameters: Any = None, **more: Any) -> Any:
        known = _CONSTANT.get(id(statement))
        if known is not None:
            return _each(known[1], parameters)
        insert = self._insert(statement, parameters)
        if insert is not None:
            return _each(insert, parameters)
        if isinstance(parameters, list | tuple) or not hasattr(statement, "_generate_cache_key"):
            return super().execute(statement, parameters, **more)
        key = statement._generate_cache_key()
        if key is None:
            return super().execute(statement, parameters, **more)
        found = _STATEMENTS.get(key[0])
        if found is None:
            dialect = self.dialect
            found = _Compiled(
                statement._compiler(
                    dialect, cache_key=key, column_keys=[], for_executemany=False, schema_translate_map=None
                )
            )
            _STATEMENTS[key[0]] = found
        if not found.plain:
            return super().execute(statement, parameters, **more)
        return found.execute(key[1], parameters)

    def _insert(self, statement: Any, parameters: Any) -> _Compiled | None:
        """What is known of one that inserts rows."""
        _, known = _INSERTS.get(id(statement), (None, None))
        if known is None or not parameters:
            return None
        columns = tuple(parameters[0] if isinstance(parameters, list) else parameters)
        if columns not in known:
            known[columns] = _compile(statement, self.dialect, columns)
        return known[columns] if known[columns].plain else None


RAW = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=512)


class _Site:
    """What all runs of this process share: one connection, and the database every run begins with."""

    _made: "_Site | None" = None

    def __init__(self) -> None:
        engine = create_engine("sqlite://", creator=lambda: RAW, poolclass=StaticPool)
        engine._connection_cls = QuickConnection
        self.connection = engine.connect()
        _gather_constants(engine.dialect)
        RAW.execute("BEGIN IMMEDIATE")
        migrate(self.connection)
        for number, key in enumerate(KEYS):
            values = (key, STORES[0], "active", 1)
            RAW.execute("INSERT INTO mailboxes (key, home, status, keeps) VALUES (?, ?, ?, ?)", values)
            for address in (key, *((ALIAS,) if number == 0 else ())):
                entry = (address, key, DOMAIN)
                RAW.execute("INSERT INTO addresses (address, mailbox, domain) VALUES (?, ?, ?)", entry)
        RAW.execute("COMMIT")
        tables = [name for (name,) in RAW.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
        self._tables = tuple(name for name in tables if name != "alembic_version")
        self._rows = {name: RAW.execute(f"SELECT * FROM {name}").fetchall() for name in self._tables}  # noqa: S608

    def begin_anew(self) -> None:
        """The database as every run finds it. Its tables stay: statements need not be prepared again."""
        if RAW.in_transaction:
            RAW.execute("ROLLBACK")
        RAW.execute("BEGIN")
        for name in self._tables:
            RAW.execute(f"DELETE FROM {name}")  # noqa: S608 - names of ours
            for row in self._rows[name]:
                RAW.execute(f"INSERT INTO {name} VALUES ({','.join('?' * len(row))})", row)  # noqa: S608
        RAW.execute("COMMIT")

    @classmethod
    def get(cls) -> "_Site":
        if cls._made is None:
            cls._made = cls()
        return cls._made


def prepared() -> None:
    """Make what all runs share now: for processes that are forked from here."""
    _Site.get()


class SharedState:
    """The one database of a run. `committed` is called after each write that changed something."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.site = _Site.get()
        self.site.begin_anew()
        self.commits = 0
        self.news = 0
        """Counts commits that a member's look would find something of."""
        self.down = False
        self.busy_until = 0.0
        self.committed: list[Callable[[], None]] = []
        self.pauses = 0.5
        self.pause = 0.004
        """How often others get their turn between two transactions of one process."""
        self._waiting: list[Callable[[], None]] = []
        self._newest: Any = None

    def raw(self, query: str, *values: object) -> list[Any]:
        """A look from outside, at what is committed."""
        return RAW.execute(query, values).fetchall()

    def changed(self) -> None:
        self.commits += 1
        newest = self.raw(
            "SELECT (SELECT value FROM counter WHERE name = 'epoch'), (SELECT count(*) FROM requests WHERE state ="
            " 'new'), (SELECT group_concat(followed_at || fault) FROM directories)"
        )
        if newest != self._newest:
            self._newest = newest
            self.news += 1
            waiting, self._waiting = self._waiting, []
            for wake in waiting:
                self.scheduler.after(self.scheduler.between(0.0, 0.02), _NOBODY, wake)
        for told in self.committed:
            told()

    def wait_for_news(self, wake: Callable[[], None]) -> None:
        self._waiting.append(wake)


_NOBODY = Process("nobody")


class SimDatabase(ControlDatabase):
    """One process's end of the control database. `patient`: it sees every commit (a command), not just news."""

    def __init__(self, shared: SharedState, process: Process, *, every: bool = False) -> None:
        self.path = None
        self._shared = shared
        self._process = process
        self._every = every

    def watch(self) -> Any:
        return SimWatch(self._shared, every=self._every)

    def close(self) -> None:
        return None

    def _run(self, work: Callable[[Connection], Any], patience: float, *, write: bool) -> Any:
        fiber = Fiber.current
        shared = self._shared
        if fiber is not None and shared.scheduler.random.random() < shared.pauses:
            fiber.sleep(shared.scheduler.between(0.0, shared.pause))
        return self._once(work, patience, write=write)

    def _once(self, work: Callable[[Connection], Any], patience: float, *, write: bool) -> Any:
        shared, fiber = self._shared, Fiber.current
        if not self._process.alive:
            raise Killed
        while shared.busy_until > shared.scheduler.now and write:
            left = shared.busy_until - shared.scheduler.now
            if fiber is None or left > patience:
                raise DatabaseBusy("the control database is locked")
            fiber.sleep(left + 0.002)
        if shared.down:
            raise ControlUnavailable("the control database cannot be opened: unable to open database file")
        return self._write(work) if write else self._read(work)

    def _read(self, work: Callable[[Connection], Any]) -> Any:
        """Without a transaction: nothing else happens meanwhile."""
        before = RAW.total_changes
        found = work(self._shared.site.connection)
        assert RAW.total_changes == before, "a change in a transaction that reads"
        return found

    def _write(self, work: Callable[[Connection], Any]) -> Any:
        before = RAW.total_changes
        RAW.execute("BEGIN")
        try:
            found = work(self._shared.site.connection)
        except BaseException:
            RAW.execute("ROLLBACK")
            raise
        RAW.execute("COMMIT")
        if RAW.total_changes != before:
            self._shared.changed()
        return found


class SimWatch:
    """`Watch`: whether anything was committed since the last look."""

    def __init__(self, shared: SharedState, *, every: bool) -> None:
        self._shared = shared
        self._every = every
        self._seen = -1

    def changed(self) -> bool:
        if self._shared.down:
            raise ControlUnavailable("the control database cannot be read: unable to open database file")
        found = self._shared.commits if self._every else self._shared.news
        changed, self._seen = found != self._seen, found
        return changed

    def close(self) -> None:
        return None

    def __enter__(self) -> Self:
        return self
