"""A site on disk for the command line: a configuration, a control database with a few people, and no daemon."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from router.admin.cli.app import run
from router.control.database import ControlDatabase

CONFIG = """\
hostname: mx.example.edu
state_dir: {state}
listen: [{{address: "127.0.0.1", port: 2525}}]
postmaster: root@example.edu
relays: [192.0.2.53/32]
stores:
  cliff: {{role: old, hosts: ["127.0.0.1:{port}"], settle: 200ms}}
  zimbra: {{role: new, hosts: ["127.0.0.1:{port}"], settle: 200ms}}
  lists: {{role: other, hosts: ["127.0.0.1:{port}"], protocol: lmtp, settle: 200ms}}
domains:
  example.edu: {{unknown: reject}}
  probe.example.edu: {{unknown: probe, probe: [cliff]}}
  alias.example.edu: {{alias_of: example.edu}}
lists:
  - {{store: lists, manager: majordomo, addresses: [announce@example.edu]}}
services:
  tickets@example.edu: lists
"""
USERS = """\
address,home,aliases,status,size_bytes
root@example.edu,cliff,,active,
ann@example.edu,cliff,a.ann@example.edu,active,1000
bob@example.edu,cliff,,active,2000
ida@example.edu,cliff,,inactive,
dis@example.edu,zimbra,,disabled,
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

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Sluice = Callable[..., Result]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the people of USERS, made once."""
    root = tmp_path_factory.mktemp("site")
    (root / "state").mkdir(mode=0o700)
    (root / "users.csv").write_text(USERS)
    (root / "sluice.yaml").write_text(CONFIG.format(state=root / "state", port=1))
    ControlDatabase.open(f"sqlite:///{root / 'state' / 'control.db'}", create=True).close()
    assert run(["--config", str(root / "sluice.yaml"), "user", "import", str(root / "users.csv")]) == 0
    return root / "state" / "control.db"


@pytest.fixture
def state(tmp_path: Path, template: Path) -> Path:
    place = tmp_path / "state"
    place.mkdir(mode=0o700)
    shutil.copy(template, place / "control.db")
    (place / "control.db").chmod(0o600)
    return place


@pytest.fixture
def config(tmp_path: Path, state: Path) -> Path:
    path = tmp_path / "sluice.yaml"
    path.write_text(CONFIG.format(state=state, port=1))
    return path


@pytest.fixture
def sluice(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sluice:
    """Run the command in this process, with its configuration in the environment."""
    monkeypatch.setenv("SLUICE_CONFIG", str(config))
    monkeypatch.delenv("SLUICE_DEBUG", raising=False)

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        status = run(arguments)
        told = capsys.readouterr()
        return Result(status, told.out, told.err)

    return call


@pytest.fixture
def database(state: Path) -> Iterator[ControlDatabase]:
    opened = ControlDatabase.open(f"sqlite:///{state / 'control.db'}")
    yield opened
    opened.close()
