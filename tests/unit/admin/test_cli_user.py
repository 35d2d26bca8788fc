"""user import, list, show, set and history; audit, backup and config on the same site."""

import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.control import mailboxes, members
from router.control.database import ControlDatabase
from router.control.members import Member
from router.model.mailbox import Status

Sluice = Callable[..., Any]
"""Runs the command: `Result` of conftest."""

ANN, BOB = "ann@example.edu", "bob@example.edu"
BECAUSE = ("--reason", "because")
HEADER = "address,home,aliases,status,size_bytes\n"


def record(database: ControlDatabase, key: str) -> mailboxes.Record:
    found = database.run_read(partial(mailboxes.record, key=key))
    assert found is not None
    return found


def csv(tmp_path: Path, *rows: str) -> str:
    path = tmp_path / "users.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return str(path)


def test_import(sluice: Sluice, database: ControlDatabase, tmp_path: Path) -> None:
    file = csv(tmp_path, "ann@example.edu,cliff,a.ann@example.edu,active,1000", "new@example.edu,zimbra,,,")
    dry = sluice("user", "import", file, "--dry-run")
    assert dry.status == 0
    assert "1 would be created, 0 would be changed, 1 as they were" in dry.out
    assert database.run_read(partial(mailboxes.record, key="new@example.edu")) is None
    found = sluice("user", "import", file, "--json")
    assert found.status == 0
    assert {name: found.json[name] for name in ("created", "changed", "unchanged", "dry_run")} == {
        "created": 1, "changed": 0, "unchanged": 1, "dry_run": False,
    }  # fmt: skip
    assert record(database, "new@example.edu").mailbox.home == "zimbra"
    assert sluice("user", "import", file, "--json").json["epoch"] is None


def test_every_error_of_an_import_is_told_with_its_line_and_nothing_is_changed(
    sluice: Sluice, database: ControlDatabase, tmp_path: Path
) -> None:
    file = csv(
        tmp_path,
        "new@example.edu,zimbra,,,",
        "x@elsewhere.org,cliff,,,",
        "y@example.edu,nowhere,,,",
        "z@example.edu,cliff,bob@example.edu,,",
    )
    found = sluice("user", "import", file)
    assert found.status == 65
    assert f"{file}:3:" in found.err
    assert f"{file}:4:" in found.err
    assert database.run_read(partial(mailboxes.record, key="new@example.edu")) is None
    against = sluice("user", "import", csv(tmp_path, "z@example.edu,cliff,bob@example.edu,,"))
    assert against.status == 65
    assert ":2: bob@example.edu belongs to bob@example.edu" in against.err


def test_an_import_that_is_not_there_is_66(sluice: Sluice) -> None:
    assert sluice("user", "import", "/nowhere/users.csv").status == 66


def test_an_import_not_applied_everywhere_is_75(sluice: Sluice, database: ControlDatabase, tmp_path: Path) -> None:
    member = Member("inc", "elsewhere", 0, 4711, 1, 0, "f")
    database.run_write(partial(members.register, member=member))
    found = sluice("user", "import", csv(tmp_path, "new@example.edu,zimbra,,,"), "--timeout", "0s")
    assert found.status == 75
    assert "pid 4711" in found.out


def test_list(sluice: Sluice) -> None:
    plain = sluice("user", "list")
    assert plain.out.splitlines()[0].split() == ["MAILBOX", "HOME", "STATUS", "HOLD", "TARGET", "MOVED", "SOURCE"]
    assert len(plain.out.splitlines()) == 6
    found = sluice("user", "list", "--home", "cliff", "--status", "active", "--limit", "2", "--json").lines
    assert [one["mailbox"] for one in found] == [ANN, BOB]
    members = {"version", "mailbox", "source", "kind", "home", "status", "target", "moved_at", "problem", "hold"}
    assert set(found[0]) == members
    sluice("hold", ANN, *BECAUSE)
    held = sluice("user", "list", "--held", "--json").lines
    assert [one["hold"]["reason"] for one in held] == ["because"]
    assert len(sluice("user", "list", "--not-held", "--json").lines) == 4


def test_show(sluice: Sluice) -> None:
    sluice("hold", ANN, *BECAUSE)
    plain = sluice("user", "show", "A.Ann@alias.example.edu").out
    assert "a.ann@example.edu" in plain
    assert "quiet since" in plain
    one = sluice("user", "show", ANN, "--json").json["mailboxes"][0]
    assert one["addresses"] == ["a.ann@example.edu", ANN]
    assert one["size_bytes"] == 1000
    assert one["hold"]["actor"]


def test_set(sluice: Sluice, database: ControlDatabase) -> None:
    found = sluice("user", "set", ANN, "--home", "zimbra", "--add-address", "annie@example.edu", *BECAUSE)
    assert found.status == 0
    assert "home cliff -> zimbra" in found.out
    assert record(database, "annie@example.edu").mailbox.key == ANN
    again = sluice("user", "set", ANN, "--home", "zimbra", "--add-address", "annie@example.edu", *BECAUSE)
    assert (again.status, again.out) == (0, "ann@example.edu: as it was\n")
    gone = sluice("user", "set", ANN, "--remove-address", "annie@example.edu", "--status", "disabled", *BECAUSE)
    assert gone.status == 0
    assert record(database, ANN).addresses == ("a.ann@example.edu", ANN)
    assert record(database, ANN).mailbox.status is Status.DISABLED


def test_set_dry_run(sluice: Sluice, database: ControlDatabase) -> None:
    found = sluice("user", "set", ANN, "--home", "zimbra", "--dry-run", *BECAUSE, "--json").json
    assert found["changes"] == [{"mailbox": ANN, "before": {"home": "cliff"}, "after": {"home": "zimbra"}}]
    assert record(database, ANN).mailbox.home == "cliff"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), 64),
        (("--home", "nowhere"), 65),
        (("--add-address", "x@elsewhere.org"), 65),
        (("--add-address", "bob@example.edu"), 65),
        (("--status", "odd"), 64),
    ],
)
def test_set_refuses(sluice: Sluice, database: ControlDatabase, arguments: tuple[str, ...], status: int) -> None:
    assert sluice("user", "set", ANN, *arguments, *BECAUSE).status == status
    assert record(database, ANN).mailbox.home == "cliff"


def test_the_home_of_a_held_mailbox_is_not_set(sluice: Sluice, database: ControlDatabase) -> None:
    sluice("hold", ANN, *BECAUSE)
    assert sluice("user", "set", ANN, "--home", "zimbra", *BECAUSE).status == 65
    assert record(database, ANN).mailbox.home == "cliff"


def test_history(sluice: Sluice) -> None:
    sluice("hold", ANN, "--reason", "one")
    sluice("release", ANN, "--to", "zimbra", "--reason", "two")
    found = sluice("user", "history", "a.ann@example.edu", "--json").json
    assert [(one["home_before"], one["released_to"], one["reason"]) for one in found["holds"]] == [
        ("cliff", "zimbra", "one")
    ]
    assert [one["verb"] for one in found["changes"]] == ["release", "hold"]
    assert "zimbra" in sluice("user", "history", ANN).out


def test_audit(sluice: Sluice) -> None:
    sluice("hold", ANN, "--reason", "one")
    sluice("release", ANN, "--reason", "two")
    changes = sluice("audit", "--key", "a.ann@example.edu", "--json").json["changes"]
    assert [(one["verb"], one["reason"]) for one in changes] == [("release", "two"), ("hold", "one")]
    assert set(changes[0]) == {"number", "at", "actor", "verb", "key", "reason", "before", "after"}
    assert changes[0]["before"]["hold"] == 1
    assert len(sluice("audit", "--limit", "1", "--json").json["changes"]) == 1
    assert sluice("audit", "--actor", "nobody", "--json").json["changes"] == []
    assert sluice("audit", "--before", str(changes[0]["number"]), "--json").json["changes"][0]["verb"] == "hold"
    assert sluice("audit", "--verb", "import").out.count("import") >= 1


def test_backup(sluice: Sluice, tmp_path: Path, state: Path) -> None:
    target = tmp_path / "copy.db"
    found = sluice("backup", str(target), "--json")
    assert found.status == 0
    assert found.json["octets"] == target.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o600
    copy = sqlite3.connect(target)
    assert copy.execute("SELECT count(*) FROM mailboxes").fetchone()[0] == 5
    copy.close()
    assert sluice("backup", str(tmp_path / "none" / "copy.db")).status == 73
    assert not (tmp_path / "none").exists()
    assert sluice("backup", str(tmp_path)).status == 73
    before = (state / "control.db").stat().st_ino
    assert sluice("backup", str(state / "control.db")).status == 73
    assert (state / "control.db").stat().st_ino == before


def test_config_show_is_the_same_configuration(sluice: Sluice, tmp_path: Path, config: Path) -> None:
    shown = tmp_path / "shown.yaml"
    for option in ((), ("--non-default",)):
        shown.write_text(sluice("config", "show", *option).out)
        same = sluice("config", "show", "--json", "--config", str(shown)).json
        assert same["fingerprint"] == sluice("config", "show", "--json").json["fingerprint"]
    shutil.copy(config, shown)
    with shown.open("a") as stream:
        stream.write("database: sqlite://sluice:geheim@/var/lib/sluice/other.db\n")
    found = sluice("config", "show", "--config", str(shown))
    assert "geheim" not in found.out
