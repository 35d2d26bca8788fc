"""A new spool's directory is on disk before anything is kept in it (PRC7, inv_1: the parent too when new)."""

import socket
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from router.control import changes, members, schema
from router.control.database import ControlDatabase
from router.control.directory_alarms import DOWN, FOLLOWER, open_keys
from router.control.members import Member
from router.daemon import site as module
from router.daemon.site import Site
from router.settings.schema import Settings
from router.spool.schema import sync_directory


def test_inv_1_directories_of_new_spools_are_synced_after_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    synced: list[tuple[Path, list[str]]] = []

    def sync(directory: Path) -> None:
        synced.append((directory, sorted(path.name for path in directory.iterdir())))
        sync_directory(directory)

    monkeypatch.setattr(module, "sync_directory", sync)
    given = {
        "hostname": "mx.example.edu",
        "state_dir": str(state),
        "stores": {},
        "domains": {},
        "listen": [],
        "postmaster": "root@example.edu",
    }
    site = Site.open(Settings.model_validate(given))
    try:
        assert site.spools(2) == [1, 2]
    finally:
        site.close()
    assert [place for place, _ in synced[:2]] == [state, tmp_path]
    assert "spool" in synced[0][1]
    assert "state" in synced[1][1]
    assert synced[-2:] == [(state / "spool", ["0001"]), (state / "spool", ["0001", "0002"])]


def test_alarms_of_directories_that_the_configuration_does_not_name_end(tmp_path: Path) -> None:
    given = {
        "hostname": "mx.example.edu",
        "state_dir": str(tmp_path / "state"),
        "stores": {},
        "domains": {},
        "listen": [],
        "postmaster": "root@example.edu",
    }
    one = {"ldap": {"name": "one", "uri": "ldap://127.0.0.1", "base": "dc=x"}}
    site = Site.open(Settings.model_validate(given))
    try:
        for key in ("one", "former", FOLLOWER):
            site.alarm(DOWN, key, "no answer")
        site.publish(Settings.model_validate(given | {"directory": ["database", one]}))
        database = ControlDatabase.open(f"sqlite:///{tmp_path / 'state' / 'control.db'}")
        try:
            assert database.run_read(lambda c: open_keys(c, DOWN, "")) == {"one", FOLLOWER}
            site.publish(Settings.model_validate(given))
            assert database.run_read(lambda c: open_keys(c, DOWN, "")) == set()
        finally:
            database.close()
    finally:
        site.close()


def test_silent_members_are_those_of_this_node_that_are_behind(tmp_path: Path) -> None:
    given = {
        "hostname": "mx.example.edu",
        "state_dir": str(tmp_path / "state"),
        "stores": {},
        "domains": {},
        "listen": [],
        "postmaster": "root@example.edu",
    }
    site = Site.open(Settings.model_validate(given))
    try:
        epoch = site._database.run_write(changes.take_epoch)
        here = socket.gethostname()
        for slot, (node, applied) in enumerate([(here, epoch), (here, epoch - 1), ("elsewhere", epoch - 1)]):
            member = Member(f"inc-{slot}", node, slot, 100 + slot, slot + 1)
            site._database.run_write(partial(members.register, member=member))
            mine = schema.members.c.incarnation == member.incarnation
            with site._database.write() as connection:
                connection.execute(update(schema.members).where(mine).values(applied=applied))
        assert site.silent_members() == {101: epoch - 1}
    finally:
        site.close()
