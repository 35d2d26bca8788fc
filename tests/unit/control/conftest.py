"""A fresh control database with a few mailboxes, and workers that are only callbacks."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from router.control import users_csv
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.follower import Follower
from router.control.importing import ImportResult, UserImport
from router.control.operations import Operations
from router.control.requests import Request
from router.model.change import Blocking, ChangeSet, Snapshot

STORES = ("cliff", "sunray", "zimbra")
DOMAINS = ("example.edu", "mcs.example.edu")
ANN, BOB, CAT = "ann@example.edu", "bob@example.edu", "cat@mcs.example.edu"
ACT = Act("tester", "because", 1000.0)
PEOPLE = f"""\
address,home,aliases
{ANN},cliff,a.ann@example.edu ann@mcs.example.edu
{BOB},cliff,b.bob@example.edu
{CAT},sunray,
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state' / 'control.db'}"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, made once: running the migrations for every test would take most of the time."""
    path = tmp_path_factory.mktemp("control") / "state" / "control.db"
    ControlDatabase.open(f"sqlite:///{path}", create=True).close()
    return path


@pytest.fixture
def empty(url: str, template: Path, tmp_path: Path) -> Iterator[ControlDatabase]:
    (tmp_path / "state").mkdir(mode=0o700)
    shutil.copy(template, tmp_path / "state" / "control.db")
    database = ControlDatabase.open(url)
    yield database
    database.close()


def import_people(database: ControlDatabase, directory: Path, text: str) -> ImportResult:
    path = directory / "users.csv"
    path.write_text(text)
    file = users_csv.read(path, STORES, DOMAINS)
    return UserImport(database, file, ACT, sleep=lambda _: None).apply()


@pytest.fixture
def load(empty: ControlDatabase, tmp_path: Path) -> Callable[[str], ImportResult]:
    """Import a users.csv given as text."""
    return lambda text: import_people(empty, tmp_path, text)


@pytest.fixture(scope="session")
def peopled(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with PEOPLE, made once."""
    directory = tmp_path_factory.mktemp("people")
    path = Path(shutil.copy(template, directory / "control.db"))
    database = ControlDatabase.open(f"sqlite:///{path}")
    import_people(database, directory, PEOPLE)
    database.close()
    return path


@pytest.fixture
def database(empty: ControlDatabase, peopled: Path) -> ControlDatabase:
    assert empty.path is not None
    with closing(sqlite3.connect(peopled)) as source, closing(sqlite3.connect(empty.path)) as target:
        source.backup(target)
    return empty


@pytest.fixture
def operations(database: ControlDatabase) -> Operations:
    return Operations(database, STORES)


@dataclass
class Worker:
    """What a worker's callbacks saw, and what they answer."""

    follower: Follower
    seen: list[ChangeSet] = field(default_factory=list)
    outages: list[bool] = field(default_factory=list)
    flying: list[Blocking] = field(default_factory=list)
    doubtful: list[Blocking] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    broken: bool = False

    def on_changes(self, found: ChangeSet) -> Sequence[Blocking]:
        self.came.set()
        if self.broken:
            raise RuntimeError("a bug")
        self.seen.append(found)
        return [one for one in self.flying if found.holds.get(one.mailbox) is not None]

    def on_outage(self, down: bool) -> None:
        self.outages.append(down)
        self.came.set()

    async def on_join(self, snapshot: Snapshot) -> Sequence[Blocking]:
        self.snapshots.append(snapshot)
        return self.doubtful if snapshot.takeover else ()

    async def on_request(self, request: Request) -> object:
        self.requests.append(request)
        if request.kind == "explode":
            raise ValueError("secret")
        return {"did": request.kind, "spool": request.spool}

    async def join(self, slot: int = 0, incarnation: str = "", spool: int = 0, fingerprint: str = "f") -> Snapshot:
        return await self.follower.join(slot, incarnation or f"inc-{slot}", 4000 + slot, spool or slot + 1, fingerprint)


@pytest.fixture
async def worker(database: ControlDatabase) -> AsyncIterator[Callable[[], Worker]]:
    """Make workers; they are stopped at the end."""
    made: list[Worker] = []

    def make() -> Worker:
        def changes(found: ChangeSet) -> Sequence[Blocking]:
            return one.on_changes(found)

        async def joining(snapshot: Snapshot) -> Sequence[Blocking]:
            return await one.on_join(snapshot)

        def outage(down: bool) -> None:
            one.on_outage(down)

        async def doing(request: Request) -> object:
            return await one.on_request(request)

        follower = Follower(
            database,
            on_changes=changes,
            on_outage=outage,
            on_request=doing,
            on_join=joining,
            poll=0.005,
        )
        one = Worker(follower)
        made.append(one)
        return one

    yield make
    for one in made:
        await one.follower.stop()


@pytest.fixture
def flight() -> Callable[..., Blocking]:
    """A delivery under way, as a worker reports it."""

    def make(mailbox: str, entry: int = 1, store: str = "cliff", stage: str = "dot") -> Blocking:
        return Blocking(entry, mailbox, 0, store, f"Q{entry}", stage, 990.0)

    return make


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for what another thread brings about."""

    async def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - the other thread knows no event of this loop
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture
def act() -> Act:
    return ACT
