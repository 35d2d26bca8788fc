"""route: what is said of each kind of address, and the three exit statuses."""

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from router.admin.cli.route_time import parse_moment
from router.control import stores
from router.control.audit import Act
from router.control.database import ControlDatabase

Sluice = Callable[..., Any]
"""Runs the command: `Result` of conftest."""

ANN = "ann@example.edu"
MEMBERS = {
    "address", "verdict", "action", "class", "mailbox", "status", "status_source", "moved_at", "protected_until",
    "hold", "extension", "steps", "store", "next_hop", "protocol", "rcpt", "paused", "reply", "loop", "remarks",
    "source", "live", "dn", "attributes", "age_s", "followed_at", "fault", "forwards", "keeps", "routing_address",
    "chain",
}  # fmt: skip


def one(sluice: Sluice, *arguments: str) -> tuple[int, dict[str, Any]]:
    found = sluice("route", *arguments, "--json")
    return found.status, found.json["routes"][0]


def test_a_mailbox(sluice: Sluice) -> None:
    status, found = one(sluice, "A.Ann+x@alias.example.edu")
    assert status == 0
    assert set(found) == MEMBERS
    assert (found["class"], found["mailbox"], found["status"], found["action"]) == ("mailbox", ANN, "active", "deliver")
    assert (found["store"], found["rcpt"], found["extension"]) == ("cliff", "A.Ann+x@alias.example.edu", "x")
    assert found["loop"].startswith("none")
    plain = sluice("route", "A.Ann+x@alias.example.edu").out
    for text in ("normalised: a.ann+x@alias.example.edu", "alias of example.edu", "next hop", "cliff (127.0.0.1:1)"):
        assert text in plain


@pytest.mark.parametrize(
    ("address", "status", "action", "reply"),
    [
        ("dis@example.edu", 2, "refuse", "550 5.2.1"),
        ("nobody@example.edu", 2, "refuse", "550 5.1.1"),
        ("who@elsewhere.org", 2, "refuse", "554 5.7.1"),
        ("no address", 2, "refuse", "501 5.1.3"),
        ("ida@example.edu", 1, "later", "450 4.2.1"),
        ("who@probe.example.edu", 1, "later", "450 4.1.1"),
        ("announce-request@example.edu", 0, "deliver", "250"),
        ("tickets@example.edu", 0, "deliver", "250"),
        ("postmaster@alias.example.edu", 0, "deliver", "250"),
    ],
)
def test_each_kind(sluice: Sluice, address: str, status: int, action: str, reply: str) -> None:
    got, found = one(sluice, address)
    assert (got, found["action"]) == (status, action)
    assert found["reply"].startswith(reply)


def test_the_worst_of_many_counts(sluice: Sluice) -> None:
    assert sluice("route", ANN, "ida@example.edu").status == 1
    found = sluice("route", ANN, "ida@example.edu", "nobody@example.edu")
    assert found.status == 2
    assert len(found.out.splitlines()) == 4


def test_a_held_mailbox_is_fine(sluice: Sluice) -> None:
    sluice("hold", ANN, "--reason", "because")
    status, found = one(sluice, ANN)
    assert (status, found["action"], found["status"]) == (0, "hold", "hold")
    assert found["hold"]["reason"] == "because"


def test_as_if(sluice: Sluice) -> None:
    assert one(sluice, ANN, "--as", "hold")[1]["action"] == "hold"
    assert one(sluice, ANN, "--as", "disabled")[0] == 2
    assert one(sluice, ANN, "--as", "inactive")[0] == 1
    assert "--as changes nothing" in one(sluice, "tickets@example.edu", "--as", "hold")[1]["remarks"][0]
    assert sluice("route", ANN, "--as", "odd").status == 64


def test_at_another_time(sluice: Sluice) -> None:
    sluice("hold", ANN, "--reason", "x")
    sluice("release", ANN, "--to", "zimbra", "--reason", "x")
    assert one(sluice, ANN)[1]["protected_until"] is not None
    assert one(sluice, ANN, "--at", "+8d")[1]["protected_until"] is None
    assert sluice("route", ANN, "--at", "soon").status == 64


def test_from_a_sender(sluice: Sluice) -> None:
    assert "no rule depends on it" in one(sluice, ANN, "--from", "a@b.org")[1]["remarks"][0]
    assert "null sender" in one(sluice, ANN, "--from", "<>")[1]["remarks"][0]
    assert sluice("route", ANN, "--from", "a b").status == 64


def test_a_paused_store_is_told(sluice: Sluice, database: ControlDatabase) -> None:
    database.run_write(partial(stores.pause, store="cliff", act=Act("t", "x", 1.0)))
    status, found = one(sluice, ANN)
    assert (status, found["paused"]) == (0, True)


def test_probing_a_silent_store_stays_temporary(sluice: Sluice) -> None:
    status, found = one(sluice, "who@probe.example.edu", "--probe")
    assert (status, found["verdict"]) == (1, "unresolved")


def test_many_from_a_file_are_said_once_each(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{ANN}\n{ANN}\nbob@example.edu\n")
    assert len(sluice("route", f"@{tmp_path / 'list'}", "--json").json["routes"]) == 2
    assert sluice("route").status == 64


def test_nothing_an_address_contains_reaches_the_terminal(sluice: Sluice) -> None:
    found = sluice("route", "\x1b[2J\u202e@example.edu", "x\r\ny@example.edu")
    assert found.status == 2
    assert all(line.isprintable() for line in found.out.splitlines())


def test_times() -> None:
    now = datetime(2026, 5, 1, 21, 0).astimezone().timestamp()
    assert parse_moment("+2h", now) == now + 7200
    assert parse_moment("-1d", now) == now - 86400
    assert time.localtime(parse_moment("22:30", now))[2:5] == (1, 22, 30)
    assert time.localtime(parse_moment("08:00", now))[2:5] == (2, 8, 0)
    assert parse_moment("2026-05-01T21:00:00+00:00", now) == 1777669200.0
    for text in ("", "x", "25:00", "+", "+x", "2026-13-01"):
        with pytest.raises(typer.BadParameter):
            parse_moment(text, now)
