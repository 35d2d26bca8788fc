"""A site in a temporary directory: configuration, control database with people, spools, and the command line."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from router.admin.cli.app import run
from router.control import users_csv
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.follower import Follower
from router.control.importing import UserImport
from router.control.requests import Request
from router.daemon.requests import RequestDesk
from router.deliver.claims import Claims
from router.deliver.inflight import InFlight
from router.deliver.recall import Recall
from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient, Work
from router.model.outcome import Disposition, Outcome
from router.model.reply import HopReply
from router.settings.loader import load
from router.spool.options import SpoolOptions
from router.spool.spool import Spool
from router.spool.upkeep import Pace

ANN, BOB = "ann@example.edu", "bob@example.edu"
ALIAS = "a.nn@example.edu"
BODY = b"Subject: hello\r\n\r\nA line.\r\n\x1b[2Jnot a command\r\n"
QUIET = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0, pace=Pace(period=3600))
CONFIG = """
hostname: mx.example.edu
state_dir: {state}
workers: 2
listen: [{{address: "127.0.0.1", port: 0}}]
postmaster: root@example.edu
stores:
  cliff: {{role: old, hosts: ["127.0.0.1:{port}"], tls: "off"}}
  zimbra: {{role: new, hosts: ["127.0.0.1:1"], tls: "off"}}
domains:
  example.edu: {{unknown: reject}}
"""


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def records(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def rcpt(address: str, *, lane: str = "cliff", held: bool = False, notify: str = "") -> NewRecipient:
    parsed = parse_address(address)
    return NewRecipient(parsed, notify=notify, hint=lane, mailbox=parsed.key, held=held)


class Site:
    """The site; its spools are opened and closed by who fills them."""

    def __init__(self, root: Path, port: int = 1) -> None:
        self.state = root / "state"
        self.config = root / "sluice.yaml"
        self.configure(port)

    def configure(self, port: int) -> None:
        self.config.write_text(CONFIG.format(state=self.state, port=port))

    def directory(self, number: int = 1) -> Path:
        return self.state / "spool" / f"{number:04d}"

    def open_database(self) -> ControlDatabase:
        return ControlDatabase.open(f"sqlite:///{self.state / 'control.db'}")

    @property
    def fingerprint(self) -> str:
        return load(self.config).fingerprint

    @asynccontextmanager
    async def spool(self, number: int = 1) -> AsyncIterator[Spool]:
        spool = await Spool.open(self.directory(number), number, create=True, options=QUIET)
        try:
            yield spool
        finally:
            await spool.close()

    async def put(
        self, spool: Spool, *recipients: NewRecipient, sender: str = "someone@outside.example", at: float = 1000.0,
        body: bytes = BODY, message_id: str = "<m1@outside.example>",
    ) -> Work:  # fmt: skip
        writer = spool.open_body()
        await writer.write(body)
        envelope = Envelope(sender, Client("192.0.2.1", 25, "c.example", "helo.example", "ESMTP"), envid="xyz")
        return await spool.accept(envelope, recipients or (rcpt(ANN),), writer, HeaderFacts(message_id, 1), at)

    async def conclude(self, spool: Spool, work: Work, disposition: Disposition, text: str, **more: Any) -> None:
        """The same outcome for every recipient of the work."""
        reply = HopReply(250 if disposition is Disposition.DELIVERED else 451, "2.0.0", text, "old[127.0.0.1]:25")
        outcomes = [
            Outcome(one.number, disposition, 2000.0, reply, lane="cliff", mailbox=one.mailbox, due=9e9, **more)
            for one in work.recipients
        ]
        await spool.settle(work.message, outcomes)

    def fill(self, story: Callable[[Spool], Awaitable[Any]], number: int = 1) -> Any:
        """Open a spool, let the story put things in, close it."""

        async def tell() -> Any:
            async with self.spool(number) as spool:
                return await story(spool)

        return asyncio.run(tell())

    @asynccontextmanager
    async def worker(self, number: int = 1, slot: int = 0, *, deaf: bool = False) -> AsyncIterator[Spool]:
        """A spool with an owner that answers requests, as a worker does (`deaf`: takes none)."""
        database = self.open_database()
        async with self.spool(number) as spool:
            recall = Recall(Claims(), InFlight(lambda _ended: None))
            desk = RequestDesk(spool.desk, lambda: None, lambda _lane: None, recall)

            async def answer(request: Request) -> object:
                return await (asyncio.Event().wait() if deaf else desk(request))

            follower = Follower(
                database, on_changes=lambda _: (), on_outage=lambda _: None, on_request=answer, poll=0.005
            )
            await follower.join(slot, f"worker-{slot}", os.getpid(), number, self.fingerprint)
            try:
                yield spool
            finally:
                await follower.stop()
                database.close()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A control database with two people, made once."""
    root = tmp_path_factory.mktemp("admin-queue")
    path = root / "control.db"
    database = ControlDatabase.open(f"sqlite:///{path}", create=True)
    people = root / "users.csv"
    people.write_text(f"address,home,aliases\n{ANN},cliff,{ALIAS}\n{BOB},zimbra,\n")
    file = users_csv.read(people, ("cliff", "zimbra"), ("example.edu",))
    UserImport(database, file, Act("tester", "test", 900.0), sleep=lambda _: None).apply()
    database.close()
    return path


@pytest.fixture
def site(tmp_path: Path, template: Path) -> Site:
    (tmp_path / "state" / "spool").mkdir(mode=0o700, parents=True)
    shutil.copy(template, tmp_path / "state" / "control.db")
    return Site(tmp_path)


@pytest.fixture
def sluice(site: Site, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Result]:
    """Run a command line; call it from a thread where the loop must go on."""

    def call(*arguments: str) -> Result:
        capsysbinary.readouterr()
        status = run(["--config", str(site.config), *arguments])
        out, err = capsysbinary.readouterr()
        return Result(status, out.decode(), err.decode())

    return call


class Kit:
    """For tests, which cannot import their neighbours (import mode importlib)."""

    ANN, BOB, ALIAS, BODY = ANN, BOB, ALIAS, BODY
    rcpt = staticmethod(rcpt)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit
