"""A site whose people are in a real slapd: a configuration, a control database, the mirror, and no daemon."""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.people_ldif import sun_domain, sun_group, sun_people, sun_person
from support.slapd import BASE, READER, Slapd

from router.admin.cli.app import run
from router.admin.cli.directories import meaning_of
from router.control import alarms, mailboxes, members
from router.control.database import ControlDatabase
from router.control.members import Member
from router.control.mirrors import mirror_of
from router.daemon.directory_loop import DirectoryLoop
from router.directory.feed import LdapFeed
from router.model.mailbox import Mailbox
from router.settings.loader import load

CONFIG = """\
hostname: mx.example.edu
state_dir: {state}
listen: [{{address: "127.0.0.1", port: 2525}}]
postmaster: root@example.edu
stores:
  cliff: {{role: old, hosts: ["127.0.0.1:1"], settle: 200ms}}
  zimbra: {{role: new, hosts: ["127.0.0.1:2"], settle: 200ms}}
  lists: {{role: other, hosts: ["127.0.0.1:3"], settle: 200ms}}
domains:
  example.edu: {{unknown: reject}}
directory:
  - database
  - ldap:
      name: people
      uri: [{uri}]
      base: "{base}"
      bind_dn: "{reader}"
      password_file: {password}
      schema: sun
      homes: {{oldmail.example.edu: cliff, newmail.example.edu: zimbra}}
      lists: lists
      connect_timeout: 9s
      receive_timeout: 9s
      deadline: 9s
{more}
"""


@dataclass(frozen=True)
class Result:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Site:
    """`call` runs the command; `follow` does what the process that follows the directory does, once."""

    config: Path
    state: Path
    server: Slapd
    call: Callable[..., Result]
    database: ControlDatabase

    def __call__(self, *arguments: str) -> Result:
        return self.call(*arguments)

    def follow(self) -> None:
        settings = load(self.config)
        source = settings.ldaps["people"]
        mirror = mirror_of(self.database, settings, source.name)
        feed = LdapFeed(source, meaning_of(settings, source))
        loop = DirectoryLoop(source.name, feed, mirror, follow=1.0, sweep=900.0)
        try:
            loop.turn()
        finally:
            feed.close()

    def mailbox(self, key: str) -> Mailbox | None:
        return self.database.run_read(partial(mailboxes.by_key, keys=[key])).get(key)

    def alarms(self) -> dict[tuple[str, str], str]:
        return {(one.kind, one.key): one.text for one in self.database.run_read(alarms.open_alarms)}

    def run_worker(self) -> None:
        """The row of a worker that is there: this process."""
        member = Member("inc-1", socket.gethostname(), 1, os.getpid(), 1, 10**6, load(self.config).fingerprint)
        self.database.run_write(partial(members.register, member=member))

    def age(self, seconds: float, fault: str = "") -> None:
        """As if the directory had last been followed so long ago."""
        values = (time.time() - seconds, fault)
        text = "UPDATE directories SET followed_at = ?, fault = ?"
        self.database.run_write(lambda connection: connection.exec_driver_sql(text, values))

    def write(self, uri: str = "", more: str = "") -> None:
        """The configuration, with other servers or more keys of `ldap:`."""
        keys = {"state": self.state, "base": BASE, "reader": READER, "password": self.server.password_file}
        more = "".join(f"      {line}\n" for line in more.splitlines())
        self.config.write_text(CONFIG.format(uri=uri or self.server.uri, more=more, **keys))


def standard() -> list[str]:
    return [*sun_people(30), sun_person("root"), sun_domain("example.edu"), sun_group("staff")]


@pytest.fixture(scope="module")
def shared() -> Iterator[Slapd]:
    """One server for the tests of a file, each of which has people of its own."""
    with Slapd(standard()) as server:
        yield server


@pytest.fixture
def own() -> Iterator[Slapd]:
    """A server to be stopped."""
    with Slapd(standard()) as server:
        yield server


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, made once."""
    path = tmp_path_factory.mktemp("directory") / "state" / "control.db"
    ControlDatabase.open(f"sqlite:///{path}", create=True).close()
    return path


@pytest.fixture
def build(
    tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Slapd], Site]]:
    """`build(server)`: a site that reads this directory."""
    opened: list[ControlDatabase] = []

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        status = run(arguments)
        told = capsys.readouterr()
        return Result(status, told.out, told.err)

    def make(server: Slapd) -> Site:
        server.password_file.chmod(0o600)
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        shutil.copy(template, state / "control.db")
        (state / "control.db").chmod(0o600)
        opened.append(ControlDatabase.open(f"sqlite:///{state / 'control.db'}"))
        site = Site(tmp_path / "sluice.yaml", state, server, call, opened[-1])
        site.write()
        monkeypatch.setenv("SLUICE_CONFIG", str(site.config))
        monkeypatch.delenv("SLUICE_DEBUG", raising=False)
        return site

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def site(build: Callable[[Slapd], Site], shared: Slapd) -> Site:
    """The site of the shared server, followed once."""
    made = build(shared)
    made.follow()
    return made
