"""Stores in the test's loop and a one-message client, for scenarios against the running relay."""

import asyncio
import smtplib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from support.site import Site, StoreAt
from support.trio import Trio

from router.admin.cli.app import run
from router.control import alarms
from router.demo.config import Port
from router.ledger.stores import RecordingStore

ROLES = {"old": "old", "new": "new", "lists": "other"}
TRIOS = 20
Submit = Callable[..., dict[str, tuple[int, bytes]]]
Until = Callable[..., Awaitable[None]]


def submit(site: Site, *recipients: str, tag: str = "t1", sender: str = "sender@outside.example") -> dict[str, str]:
    """One message by one connection; the refusals at RCPT. Blocks."""
    body = f"Message-ID: <{tag}@outside.example>\r\nX-Ledger: {tag}\r\nSubject: {tag}\r\n\r\nhello\r\n"
    with smtplib.SMTP("127.0.0.1", site.port, timeout=60) as client:
        refused = client.sendmail(sender, list(recipients), body.encode())
    return {address: f"{code} {text.decode()}" for address, (code, text) in refused.items()}


@pytest.fixture
def send() -> Callable[..., "asyncio.Future[dict[str, str]]"]:
    """`await send(site, recipient…, tag=…)`."""

    def call(site: Site, *recipients: str, **keys: str) -> "asyncio.Future[dict[str, str]]":
        return asyncio.ensure_future(asyncio.to_thread(submit, site, *recipients, **keys))

    return call


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """Of the three stores: the same for all tests of a file, so that a relay may outlive its stores."""
    kept = {name: Port() for name in ROLES}
    yield {name: port.number for name, port in kept.items()}
    for port in kept.values():
        port.release()


@pytest.fixture
async def stores(ports: dict[str, int]) -> AsyncIterator[dict[str, RecordingStore]]:
    """Three stores on loopback: old, new and lists. They are new for each test, and have no mail."""
    found = {name: RecordingStore(name) for name in ROLES}
    for store in found.values():
        await store.start(ports[store.name])
    yield found
    for store in found.values():
        await store.stop()


@pytest.fixture
def make_site(tmp_path: Path, places: list[StoreAt], stores: dict[str, RecordingStore]) -> Callable[..., Site]:
    """`async with make_site(workers=2) as site`: alice and bob live at old, carol at new."""

    def make(**keys: object) -> Site:
        users = {"alice@example.edu": "old", "bob@example.edu": "old", "carol@example.edu": "new"}
        return Site(tmp_path, places, users=users, **keys)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def places(ports: dict[str, int]) -> list[StoreAt]:
    """The three stores as a site is told of them."""
    return [StoreAt(name, ports[name], role=role) for name, role in ROLES.items()]


@pytest.fixture(scope="module")
def lasting_site(tmp_path_factory: pytest.TempPathFactory, places: list[StoreAt]) -> Iterator[Callable[..., Site]]:
    """`lasting_site(lists=…)`: one relay for all tests of a file, with as many trios as these need."""
    with ExitStack() as running:

        def start(**keys: object) -> Site:
            users: dict[str, str] = {}
            for number in range(TRIOS):
                users |= Trio.numbered(number).users
            return running.enter_context(Site(tmp_path_factory.mktemp("site"), places, users=users, **keys))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def site(lasting: Site, stores: dict[str, RecordingStore]) -> Iterator[Site]:
    """The relay of the file, which defines `lasting`; what a test leaves behind is taken away."""
    yield lasting
    leave_nothing(lasting)


def leave_nothing(site: Site) -> None:
    """No mail and no alarm for the next test."""
    with site.books() as books:
        if books.undelivered():
            assert (
                run(["--config", str(site.config), "queue", "delete", "--all", "--yes", "--reason", "the next test"])
                == 0
            )
    database = site.office.database
    for alarm in database.run_read(alarms.open_alarms):
        database.run_write(partial(alarms.clear_alarm, kind=alarm.kind, key=alarm.key, now=time.time()))


@pytest.fixture(scope="module")
def _numbers() -> Iterator[int]:
    return iter(range(TRIOS))


@pytest.fixture
def trio(_numbers: Iterator[int]) -> Trio:
    """People of a lasting site whom no other test of the file knows."""
    return Trio.numbered(next(_numbers))


@pytest.fixture
def until() -> Until:
    """`await until(predicate, what)`: ask, in a thread, again and again until it is true; an error after 90 seconds."""

    async def wait(predicate: Callable[[], object], what: str, patience: float = 90.0) -> None:
        end = time.monotonic() + patience
        while not await asyncio.to_thread(predicate):
            assert time.monotonic() < end, f"in {patience:.0f} seconds it did not happen that {what}"
            await asyncio.sleep(0.02)

    return wait
