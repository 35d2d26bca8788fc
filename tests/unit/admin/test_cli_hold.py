"""hold, release and move on a real database, with workers that are rows, alive or dead by their spool's lock."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.admin.cli.hold_operations import DeadMembers
from router.control import holds, mailboxes, members
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.members import Member, Suspect
from router.model.address import parse_address
from router.model.change import Blocking
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient
from router.spool.lock import SpoolLock
from router.spool.spool import Spool

Sluice = Callable[..., Any]
"""Runs the command: `Result` of conftest."""

ANN, BOB = "ann@example.edu", "bob@example.edu"
BECAUSE = ("--reason", "because")
Register = Callable[..., Member]


@pytest.fixture
def register(database: ControlDatabase, state: Path) -> Register:
    """A worker's row that has applied nothing yet, with its spool's directory and lock file."""

    def make(spool: int = 1, node: str | None = None) -> Member:
        place = state / "spool" / f"{spool:04d}"
        place.mkdir(parents=True, mode=0o700)
        (place / "lock").touch()
        member = Member(f"inc-{spool}", node or socket.gethostname(), spool, 4711, spool, 0, "f")
        database.run_write(partial(members.register, member=member))
        return member

    return make


@pytest.fixture
def alive(register: Register, state: Path) -> Iterator[Member]:
    """A worker that holds its lock and acknowledges nothing."""
    member = register()
    lock = SpoolLock(state / "spool" / "0001")
    lock.acquire()
    yield member
    lock.release()


def held(database: ControlDatabase, key: str) -> Any:
    return database.run_read(partial(mailboxes.open_hold_of, keys=[key])).get(key)


def home(database: ControlDatabase, key: str) -> str:
    return database.run_read(partial(mailboxes.by_key, keys=[key]))[key].home


def test_a_hold_without_a_daemon_is_quiet_at_once(sluice: Sluice, database: ControlDatabase) -> None:
    found = sluice("hold", "a.ann@alias.example.edu", "--max", "2h", *BECAUSE)
    assert found.status == 0
    assert "ann@example.edu: quiet at Sluice" in found.out
    assert "out of our sight" in found.out
    hold = held(database, ANN)
    assert hold.reason == "because"
    assert hold.deadline - hold.opened_at == pytest.approx(7200, abs=5)


def test_the_same_verb_again_joins(sluice: Sluice, database: ControlDatabase) -> None:
    first = sluice("hold", ANN, *BECAUSE, "--json").json["holds"][0]
    second = sluice("hold", ANN, "--reason", "again", "--json").json["holds"][0]
    assert first == second
    assert held(database, ANN).reason == "because"


def test_the_document_of_a_hold(sluice: Sluice) -> None:
    found = sluice("hold", ANN, *BECAUSE, "--json")
    assert {"version", "holds", "remark", "exit"} == set(found.json)
    one = found.json["holds"][0]
    assert {"mailbox", "hold", "home", "quiet", "quiet_at", "opened_at", "deadline", "reason", "actor", "ended",
            "error", "source", "unwritten", "drift", "waiting_for", "in_doubt"} == set(one)  # fmt: skip
    assert (one["mailbox"], one["home"], one["quiet"], one["ended"]) == (ANN, "cliff", True, False)


@pytest.mark.slow
def test_a_living_worker_is_waited_for_and_named(sluice: Sluice, alive: Member, database: ControlDatabase) -> None:
    found = sluice("hold", ANN, "--timeout", "700ms", *BECAUSE, "--json")
    assert found.status == 75
    one = found.json["holds"][0]
    assert not one["quiet"]
    assert [(w["cause"], w["pid"]) for w in one["waiting_for"]] == [("epoch", 4711)]
    assert held(database, ANN) is not None
    plain = sluice("hold", ANN, "--timeout", "0s", *BECAUSE)
    assert plain.status == 75
    assert "NOT quiet" in plain.out
    assert "out of our sight" not in plain.out
    assert found.json["remark"] == ""
    assert "pid 4711" in plain.out


def test_a_delivery_under_way_is_named(sluice: Sluice, alive: Member, database: ControlDatabase) -> None:
    sluice("hold", ANN, "--timeout", "0s", *BECAUSE)
    hold = held(database, ANN)
    row = Blocking(1, ANN, hold.number, "cliff", "Q77\x1b[2J", "dot", 990.0)
    database.run_write(
        partial(members.acknowledge, incarnation=alive.incarnation, epoch=hold.opened_epoch, rows=[row], now=1000.0)
    )
    found = sluice("hold", ANN, "--timeout", "0s", *BECAUSE)
    assert found.status == 75
    assert "delivery of Q77" in found.out
    assert "to cliff, dot since" in found.out
    assert "\x1b" not in found.out


@pytest.mark.slow
def test_a_dead_worker_is_counted_out_after_settle_and_its_mail_is_in_doubt(
    sluice: Sluice, register: Register, database: ControlDatabase
) -> None:
    register()
    found = sluice("hold", ANN, "--timeout", "60s", *BECAUSE, "--json")
    assert found.status == 0
    assert found.json["holds"][0]["quiet"]
    assert database.run_read(members.all_members) == []


@pytest.mark.slow
def test_what_a_dead_worker_had_queued_is_in_doubt_and_holds_of_others_do_not_wait(
    sluice: Sluice, register: Register, database: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = register()
    monkeypatch.setattr(DeadMembers, "suspects", lambda _self, _dead: [Suspect(ANN, "Q9", "<m@x>", "cliff")])
    found = sluice("hold", ANN, BOB, "--timeout", "60s", *BECAUSE, "--json")
    assert found.status == 0
    ann, bob = found.json["holds"]
    assert [(one["queue_id"], one["message_id"], one["store"]) for one in ann["in_doubt"]] == [("Q9", "<m@x>", "cliff")]
    assert bob["in_doubt"] == []
    assert member not in database.run_read(members.all_members)
    told = sluice("release", ANN, *BECAUSE)
    assert "may arrive twice: Q9 Message-ID <m@x> to cliff" in told.out


async def test_what_was_queued_in_a_dead_workers_spool(tmp_path: Path) -> None:
    place = tmp_path / "spool" / "0001"
    place.mkdir(parents=True, mode=0o700)
    spool = await Spool.open(place, 1, create=True)
    await _keep(spool, NewRecipient(parse_address(ANN), hint="cliff", mailbox=ANN))
    await _keep(spool, NewRecipient(parse_address(BOB), mailbox=BOB, held=True))
    await _keep(spool, NewRecipient(parse_address("who@elsewhere.org"), hint="mx:elsewhere.org"))
    await spool.close()
    dead = DeadMembers(tmp_path, "here")
    member = Member("inc", "here", 0, 4711, 1)
    assert await asyncio.to_thread(dead.probe, member)
    found = await asyncio.to_thread(dead.suspects, member)
    assert [(one.mailbox, one.store) for one in found] == [(ANN, "cliff")]
    spool = await Spool.open(place, 1)
    assert not await asyncio.to_thread(dead.probe, member)
    await _keep(spool, NewRecipient(parse_address("nobody@example.edu")))
    found = await asyncio.to_thread(dead.suspects, member)
    assert [one.mailbox for one in found] == ["*"]
    await spool.close()


async def _keep(spool: Spool, recipient: NewRecipient) -> None:
    body = spool.open_body()
    await body.write(b"Subject: x\r\n\r\nx\r\n")
    await spool.accept(Envelope("", Client("192.0.2.1")), [recipient], body, HeaderFacts(), 1000.0)


@pytest.mark.slow
def test_a_worker_of_another_node_is_never_taken_for_dead(
    sluice: Sluice, register: Register, database: ControlDatabase
) -> None:
    register(node="elsewhere")
    assert sluice("hold", ANN, "--timeout", "700ms", *BECAUSE).status == 75
    assert len(database.run_read(members.all_members)) == 1


@pytest.mark.slow
def test_a_worker_whose_spool_is_missing_is_never_taken_for_dead(
    sluice: Sluice, register: Register, database: ControlDatabase, state: Path
) -> None:
    register()
    (state / "spool" / "0001" / "lock").unlink()
    assert sluice("hold", ANN, "--timeout", "700ms", *BECAUSE).status == 75
    assert len(database.run_read(members.all_members)) == 1


def test_a_hold_ended_by_somebody_else_is_1(sluice: Sluice, alive: Member, database: ControlDatabase) -> None:
    def end() -> None:
        while held(database, ANN) is None:
            waiting.wait(0.01)
        database.run_write(lambda connection: holds.release(connection, ANN, Act("other", "mine", 2.0)))

    waiting = threading.Event()
    other = threading.Thread(target=end)
    other.start()
    found = sluice("hold", ANN, "--timeout", "60s", *BECAUSE)
    other.join()
    assert found.status == 1
    assert "ended meanwhile by somebody else" in found.out


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("announce@example.edu", "is a list on lists"),
        ("announce-request@example.edu", "is a list on lists"),
        ("tickets@example.edu", "sluice store pause lists"),
        ("nobody@example.edu", "no mailbox has this address"),
        ("who@elsewhere.org", "not in a domain of ours"),
        ("no address", "a character is not allowed"),
    ],
)
def test_what_is_no_mailbox_is_refused_and_nothing_is_held(
    sluice: Sluice, database: ControlDatabase, address: str, text: str
) -> None:
    found = sluice("hold", ANN, address, *BECAUSE)
    assert found.status == 65
    assert text in found.err
    assert held(database, ANN) is None


@pytest.mark.parametrize("address", ["root@example.edu", "postmaster@example.edu", "Postmaster"])
def test_the_postmaster_is_never_held(sluice: Sluice, database: ControlDatabase, address: str) -> None:
    found = sluice("hold", address, *BECAUSE)
    assert found.status == 65
    assert "postmaster" in found.out
    assert held(database, "root@example.edu") is None


def test_nothing_acts_on_everything_without_all(sluice: Sluice, database: ControlDatabase) -> None:
    assert sluice("hold", *BECAUSE).status == 64
    assert sluice("hold", ANN, "--all", *BECAUSE).status == 64
    found = sluice("hold", "--all", "--dry-run", *BECAUSE, "--json").json
    assert found["dry_run"]
    assert "root@example.edu" not in [one["mailbox"] for one in found["holds"]]
    assert len(found["holds"]) == 4
    assert held(database, ANN) is None
    assert sluice("hold", "--all", *BECAUSE).status == 0
    assert held(database, ANN) is not None


def test_addresses_from_files_and_filters(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# wave 3\nbob@example.edu  # slow\n\nann@example.edu\n")
    for arguments in ((f"@{tmp_path / 'list'}",), ("--file", str(tmp_path / "list"))):
        found = sluice("hold", *arguments, "--dry-run", *BECAUSE, "--json").json["holds"]
        assert [one["mailbox"] for one in found] == [BOB, ANN]
    found = sluice("hold", "--home", "zimbra", "--dry-run", *BECAUSE, "--json").json["holds"]
    assert [one["mailbox"] for one in found] == ["dis@example.edu"]
    assert sluice("hold", "--home", "nowhere", "--dry-run", *BECAUSE).status == 65
    assert sluice("hold", "--domain", "nowhere.org", "--dry-run", *BECAUSE).status == 65
    assert sluice("hold", "@/nowhere/list", *BECAUSE).status == 66


def test_a_reason_is_required_and_printable(sluice: Sluice) -> None:
    assert sluice("hold", ANN).status == 64
    assert sluice("hold", ANN, "--reason", "  ").status == 64
    assert sluice("hold", ANN, "--reason", "a\x1b[2J").status == 64


def test_release_to_the_new_store(sluice: Sluice, database: ControlDatabase) -> None:
    sluice("hold", ANN, *BECAUSE)
    found = sluice("release", ANN, "--to", "zimbra", *BECAUSE)
    assert found.status == 0
    assert "released, home cliff -> zimbra" in found.out
    assert home(database, ANN) == "zimbra"
    again = sluice("release", ANN, "--to", "zimbra", *BECAUSE)
    assert again.status == 0
    assert "was not on hold" in again.out
    other = sluice("release", ANN, "--to", "cliff", *BECAUSE)
    assert other.status == 65


def test_release_without_a_store_leaves_the_home(sluice: Sluice, database: ControlDatabase) -> None:
    sluice("hold", ANN, BOB, *BECAUSE)
    found = sluice("release", "--all", *BECAUSE, "--json")
    assert found.status == 0
    assert [(r["mailbox"], r["home"], r["released"], r["applied"]) for r in found.json["releases"]] == [
        (ANN, "cliff", True, True),
        (BOB, "cliff", True, True),
    ]


def test_release_to_an_unknown_store_changes_nothing(sluice: Sluice, database: ControlDatabase) -> None:
    sluice("hold", ANN, *BECAUSE)
    assert sluice("release", ANN, "--to", "zimbro", *BECAUSE).status == 65
    assert held(database, ANN) is not None


def test_a_release_not_applied_everywhere_is_75(sluice: Sluice, alive: Member, database: ControlDatabase) -> None:
    sluice("hold", ANN, "--timeout", "0s", *BECAUSE)
    found = sluice("release", ANN, "--timeout", "0s", *BECAUSE)
    assert found.status == 75
    assert "NOT in force" in found.out
    assert "pid 4711" in found.out
    assert held(database, ANN) is None


def test_release_dry_run(sluice: Sluice, database: ControlDatabase) -> None:
    sluice("hold", ANN, *BECAUSE)
    found = sluice("release", ANN, "--to", "zimbra", "--dry-run", *BECAUSE, "--json").json
    assert found["releases"] == [{"mailbox": ANN, "held": True, "home_before": "cliff", "home": "zimbra"}]
    assert held(database, ANN) is not None


def test_move_runs_the_copy_while_quiet_and_flips(sluice: Sluice, database: ControlDatabase, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = tmp_path / "copy"
    shown = "env | grep ^SLUICE_ | grep -v -e CONFIG -e ALLOW_ROOT | sort"
    script.write_text(f"#!/bin/sh\n{shown} > {told}\ncat >> {told}\n")
    script.chmod(0o755)
    found = sluice("move", ANN, "--to", "zimbra", "--run", str(script), *BECAUSE)
    assert found.status == 0
    assert "moved, home cliff -> zimbra" in found.out
    assert "out of our sight" not in found.out
    assert found.err.count("out of our sight") == 1  # before the copy
    assert home(database, ANN) == "zimbra"
    assert held(database, ANN) is None
    assert told.read_text().splitlines() == [
        "SLUICE_ADDRESS=ann@example.edu",
        "SLUICE_ALIASES=a.ann@example.edu",
        "SLUICE_HOLD=1",
        "SLUICE_HOME=cliff",
        "SLUICE_TARGET=zimbra",
    ]
    again = sluice("move", ANN, "--to", "zimbra", "--run", "/bin/false", *BECAUSE)
    assert again.status == 0
    assert "there already" in again.out
    assert "out of our sight" not in again.out + again.err
    assert sluice("move", ANN, "--to", "zimbra", *BECAUSE, "--json").json["remark"] == ""


def test_what_is_out_of_sight_is_told_before_the_first_copy_and_not_afterwards(sluice: Sluice) -> None:
    found = sluice("move", ANN, BOB, "--to", "zimbra", "--run", "sh -c 'echo copying >&2'", *BECAUSE)
    assert found.err.count("out of our sight") == 1
    without = sluice("move", ANN, BOB, "--to", "cliff", *BECAUSE)
    assert without.status == 0
    assert "out of our sight" not in without.out + without.err
    failed = sluice("move", ANN, "--to", "zimbra", "--run", "false", *BECAUSE, "--json").json
    assert "out of our sight" in failed["remark"]  # it is quiet, and the copy is to be made again
    assert sluice("move", ANN, "--to", "zimbra", "--run", "true", *BECAUSE, "--json").json["remark"] == ""


def test_a_failing_copy_leaves_the_hold_and_begins_no_other(sluice: Sluice, database: ControlDatabase) -> None:
    found = sluice("move", BOB, ANN, "--to", "zimbra", "--run", "sh -c 'exit 3'", *BECAUSE, "--json")
    assert found.status == 1
    assert [(one["mailbox"], one["step"], one["copy_status"]) for one in found.json["moves"]] == [(BOB, "copy", 3)]
    assert found.json["not_begun"] == [ANN]
    assert held(database, BOB) is not None
    assert home(database, BOB) == "cliff"
    assert held(database, ANN) is None
    both = sluice("move", BOB, ANN, "--to", "zimbra", "--run", "/bin/false", "--keep-going", *BECAUSE)
    assert both.status == 1
    assert held(database, ANN) is not None
    assert sluice("move", BOB, ANN, "--to", "zimbra", "--run", "true", *BECAUSE).status == 0
    assert home(database, BOB) == home(database, ANN) == "zimbra"


def test_the_copy_command_is_no_shell(sluice: Sluice, tmp_path: Path) -> None:
    found = sluice("move", ANN, "--to", "zimbra", "--run", f"true; touch {tmp_path / 'x'}", *BECAUSE)
    assert found.status == 66
    assert not (tmp_path / "x").exists()
    assert (
        sluice("move", ANN, "--to", "zimbra", "--run", "true $(touch " + str(tmp_path / "x") + ")", *BECAUSE).status
        == 0
    )
    assert not (tmp_path / "x").exists()


def test_move_refuses_before_anything_is_held(sluice: Sluice, database: ControlDatabase) -> None:
    assert sluice("move", ANN, "--to", "zimbra", "--run", "/no/such/program", *BECAUSE).status == 66
    assert sluice("move", ANN, "--to", "zimbra", "--run", "'open", *BECAUSE).status == 64
    assert sluice("move", ANN, "--to", "zimbro", *BECAUSE).status == 65
    assert held(database, ANN) is None


def test_a_move_that_is_not_quiet_in_time_copies_nothing(sluice: Sluice, alive: Member, tmp_path: Path) -> None:
    found = sluice("move", ANN, "--to", "zimbra", "--run", f"touch {tmp_path / 'x'}", "--timeout", "0s", *BECAUSE)
    assert found.status == 75
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_who_ends_the_hold_during_the_copy_wins(sluice: Sluice, database: ControlDatabase, config: Path) -> None:
    copy = f"python3 -m router -c {config} release {ANN} --reason mine"

    found = sluice("move", ANN, "--to", "zimbra", "--run", copy.replace("python3", sys.executable), *BECAUSE)
    assert found.status == 1
    assert home(database, ANN) == "cliff"
