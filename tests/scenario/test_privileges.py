"""
Root is given up before the first octet from outside is read, and nothing below the state directory is anybody else's.

Real root starts the relay on a privileged port with an account to run as; what it is then is read from /proc. Needs
root, as the tests of `tests/crash` do, and fails without.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.site import Site, StoreAt

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.load import Fate, Load
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ACCOUNT = "nobody"
ANN, BEA = "ann@example.edu", "bea@example.edu"
HUNG = Behaviour(hang=frozenset({Stage.CONNECT}))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account may pass through: pytest's own are for root alone."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root: it looks at what becomes of root's rights")
    with tempfile.TemporaryDirectory(prefix="sluice-rights-") as found:
        Path(found).chmod(0o755)
        yield Path(found)


@pytest.fixture
def readable(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Interpreter, packages and code where the account may read them: a developer's are often below `/root`."""
    sources = {"python": sys.base_prefix, "venv": sys.prefix, "code": str(Path(__file__).resolve().parents[2])}
    with contextlib.ExitStack() as mounted:
        for name, source in sources.items():
            (place / name).mkdir()
            subprocess.run(["mount", "--bind", source, str(place / name)], check=True)
            mounted.callback(subprocess.run, ["umount", "--lazy", str(place / name)], check=True)
        packages = place / "venv" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        program = Path(os.path.realpath(sys.executable)).relative_to(os.path.realpath(sys.base_prefix))
        monkeypatch.setattr(sys, "executable", str(place / "python" / program))
        monkeypatch.setenv("PYTHONHOME", str(place / "python"))
        monkeypatch.setenv("PYTHONPATH", f"{place / 'code'}:{packages}")
        monkeypatch.setenv("LD_LIBRARY_PATH", str(place / "python" / "lib"))
        monkeypatch.chdir(place)
        yield


def privileged_port() -> int:
    for number in range(1023, 600, -1):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", number))
            except OSError:
                continue
            return number
    pytest.fail("no port below 1024 is free")


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: " ".join(value.split()) for key, _, value in (line.partition(":") for line in lines)}


def children(pid: int) -> list[int]:
    found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for one in found for below in children(one)]


def too_open(top: Path) -> list[str]:
    """What others than the owner may read, write or pass through, and what is somebody else's."""
    owner = top.stat().st_uid
    found = []
    for path in (top, *top.rglob("*")):
        one = path.lstat()
        if one.st_uid != owner or stat.S_IMODE(one.st_mode) & 0o077:
            found.append(f"{path.relative_to(top)} {stat.filemode(one.st_mode)} {one.st_uid}")
    return found


@pytest.mark.usefixtures("readable")
async def test_inv_78_root_is_given_up_and_mail_is_private(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = privileged_port()
    async with RecordingStore("old") as store:
        monkeypatch.setenv("SLUICE_ALLOW_ROOT", "no")
        site = Site(
            place,
            [StoreAt("old", store.port)],
            settings={"user": ACCOUNT, "listen": [{"address": "127.0.0.1", "port": port}]},
            environment={"SLUICE_ALLOW_ROOT": "no"},
            fresh=True,
        )
        # Everything that whoever starts it may leave to it: a mask that hides nothing, and groups with rights.
        before, groups = os.umask(0), os.getgroups()
        os.setgroups([0, *groups])
        try:
            async with site:
                await asyncio.to_thread(site.import_users, {ANN: "old", BEA: "old"})
                rights(site)
                await traffic(site, port, store)
                assert too_open(site.state_dir) == []
        finally:
            os.umask(before)
            os.setgroups(groups)
        shutil.rmtree(site.state_dir)


def rights(site: Site) -> None:
    entry = pwd.getpwnam(ACCOUNT)
    groups = set(os.getgrouplist(ACCOUNT, entry.pw_gid))
    processes = [site.relay.pid, *children(site.relay.pid)]
    assert len(processes) >= 2
    for pid in processes:
        found = status(pid)
        assert set(found["Uid"].split()) == {str(entry.pw_uid)}, found["Name"]
        assert set(found["Gid"].split()) == {str(entry.pw_gid)}
        assert {int(one) for one in found["Groups"].split()} == groups
        assert found["NoNewPrivs"] == "1"
        assert {int(found[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0}


async def traffic(site: Site, port: int, store: RecordingStore) -> None:
    """Mail of every size, delivered, held and waiting, so that there is a file of each kind."""
    assert (await site.hold(BEA)).quiet
    plan = Plan(["a@outside.example"], [ANN, BEA], (2,), (800, 200_000), connections=2, run="rights")
    for behaviour in (Behaviour(), HUNG):
        store.behaviour = behaviour
        said = await Load("127.0.0.1", port, plan).run(6)
        assert {fate for one in said for fate in one.fates} == {Fate.ACKNOWLEDGED}
    assert list(site.state_dir.glob("spool/*/bodies/*"))


async def test_inv_78_root_without_an_account_does_not_serve(place: Path) -> None:
    site = Site(place, [StoreAt("old", 9)], environment={"SLUICE_ALLOW_ROOT": "no"})
    command = ["-m", "router", "--config", str(site.config), "serve"]
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command),
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"SLUICE_ALLOW_ROOT": "no"},
        )
        _, said = await asyncio.wait_for(process.communicate(), 90)
    finally:
        site.close()
    assert process.returncode == 78
    assert b"started as root" in said
    assert not site.state_dir.exists()
