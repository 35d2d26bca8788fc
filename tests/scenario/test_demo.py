"""The demo, small: its verdict must be good, and must go red when a store, a journal or a directory tells otherwise."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.admin.cli.demo import stay
from router.demo.demo import Demo, Options
from router.demo.movers import Move
from router.demo.report import report
from router.demo.show import Quiet
from router.demo.verdict import DemoVerdict
from router.ledger.arrival import Arrival
from router.ledger.verdict import Rule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SMALL = Options(users=40, seconds=5.0, rate=80.0, parallel=6, copy=0.1)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "router", "demo", *arguments]


# --- the command


def test_the_command_moves_people_and_accounts_for_every_message() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "router", "--json", "demo", "--users", "40", "--seconds", "5", "--rate", "80"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["ok"]
    assert found["moved"] == 40
    assert found["rolled_back"] == 2
    assert (found["lost"], found["duplicated"], found["violations"], found["problems"]) == (0, 0, [], [])
    assert found["accepted"] == found["delivered"] == found["journal_deliveries"] > 80
    assert found["refused_recipients"] > 0
    assert all(count > 0 for count in found["messages_at_stores"].values())
    assert len([one for one in found["mailboxes"] if one["moved_at"] > 0]) == 40
    assert len([one for one in found["mailboxes"] if one["home"] == "old"]) == 2
    assert 0 < found["barrier_seconds"]["median"] <= found["barrier_seconds"]["max"]
    assert found["directory"] is None


def test_an_interrupt_leaves_no_process_and_no_file() -> None:
    with subprocess.Popen(
        command("--users", "20", "--seconds", "60"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        begun = ""
        for line in process.stdout:
            begun += line
            if line.startswith("moving"):
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(90) == 130
    directory = re.search(r"(/\S+/sluice-demo-[^/]+)/users.csv", begun)
    assert directory is not None
    assert not Path(directory[1]).exists()
    assert processes_about(directory[1]) == []


def test_kept_it_goes_on_running_until_it_is_told_to_end() -> None:
    with subprocess.Popen(
        command("--users", "10", "--seconds", "1", "--keep"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        text = "".join(said)
        config = Path(re.findall(r"sluice --config (\S+) (?:route|queue list|status)", text)[0])
        try:
            assert text.count(f"sluice --config {config}") == 3
            workers = [line for line in processes_about(str(config.parent)) if line.startswith("sluice-worker")]
            assert len(workers) == 2
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(90) == 0
    assert config.exists()
    assert processes_about(str(config.parent)) == []
    shutil.rmtree(config.parent)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A background job of a shell ignores SIGINT, and so does all that it starts."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
def test_a_ctrl_c_as_soon_as_it_is_offered_is_no_failure() -> None:
    said = []

    def say(line: str) -> None:
        said.append(line)
        signal.raise_signal(signal.SIGINT)

    stay(["Ctrl-C here ends it", "never said"], say)
    assert said == ["Ctrl-C here ends it"]


# --- the verdict can be red


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """A demo whose traffic is over and whose processes still run; tests tamper with copies of its records."""
    one = Demo(SMALL, Quiet())
    try:
        one.set_up()
        one.move_people()
        assert one.judge().ok, "\n".join(report(one.judge(), 0.0))
        yield one
    finally:
        one.close()


@pytest.fixture
def records(demo: Demo) -> Iterator[Path]:
    """The records of the new store, to be tampered with."""
    path = demo.stage.stores["new"].records
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


def rules(verdict: DemoVerdict) -> set[Rule]:
    return set(verdict.ledger.counts())


def test_a_message_that_a_store_lost_silently_is_named_by_its_tag(demo: Demo, records: Path) -> None:
    lines = records.read_text().splitlines()
    gone = Arrival.from_json(lines.pop(len(lines) // 2))
    records.write_text("\n".join(lines) + "\n")
    verdict = demo.judge()
    assert not verdict.ok
    assert verdict.ledger.balance.lost == len(gone.recipients)
    assert rules(verdict) == {Rule.LOST, Rule.DISAGREEMENT}
    text = "\n".join(report(verdict, 0.0))
    assert f"lost: {gone.tag} for {gone.recipients[0][0]}" in text
    assert "verdict: NOT ok" in text


def test_a_message_that_arrived_twice_is_found(demo: Demo, records: Path) -> None:
    records.write_text(records.read_text() + records.read_text().splitlines()[-1] + "\n")
    verdict = demo.judge()
    assert not verdict.ok
    assert verdict.ledger.balance.extra >= 1
    assert Rule.DUPLICATED in rules(verdict)


def test_one_octet_changed_is_found(demo: Demo, records: Path) -> None:
    lines = records.read_text().splitlines()
    other = replace(Arrival.from_json(lines[-1]), digest="0" * 64)
    records.write_text("\n".join([*lines[:-1], other.to_json()]) + "\n")
    verdict = demo.judge()
    assert not verdict.ok
    assert rules(verdict) == {Rule.ALTERED}


def test_mail_at_a_store_while_its_mailbox_is_copied_is_found(demo: Demo, records: Path) -> None:
    by_mailbox: dict[str, Move] = {move.mailbox: move for move in demo._movers.moves if move.source == "old"}
    lines = records.read_text().splitlines()
    for number, line in enumerate(lines):
        arrival = Arrival.from_json(line)
        move = by_mailbox.get(demo.cast.mailbox_of(arrival.recipients[0][0]))
        if move is not None:
            early = (move.quiet + move.copied) / 2
            lines[number] = replace(arrival, began=early, at=early).to_json()
            break
    records.write_text("\n".join(lines) + "\n")
    verdict = demo.judge()
    assert not verdict.ok
    assert Rule.IN_WINDOW in rules(verdict)


def test_mail_at_the_store_that_its_mailbox_has_left_is_found(demo: Demo, records: Path) -> None:
    arrival = Arrival.from_json(records.read_text().splitlines()[-1])
    old = demo.stage.stores["old"].records
    before = old.read_bytes()
    lines = records.read_text().splitlines()
    records.write_text("\n".join(lines[:-1]) + "\n")
    try:
        old.write_bytes(before + (replace(arrival, store="old").to_json() + "\n").encode())
        verdict = demo.judge()
    finally:
        old.write_bytes(before)
    assert not verdict.ok
    assert rules(verdict) == {Rule.MISROUTED}


def test_a_mailbox_at_another_home_than_its_move_says_is_found(demo: Demo) -> None:
    moves = demo._movers.moves
    last = moves[-1]
    moves[-1] = replace(last, target="old" if last.target == "new" else "new")
    try:
        verdict = demo.judge()
    finally:
        moves[-1] = last
    assert not verdict.ok
    assert any(
        f"{last.mailbox} should be at {'old' if last.target == 'new' else 'new'}" in one for one in verdict.problems
    )


def test_a_move_that_failed_is_named(demo: Demo) -> None:
    moves = demo._movers.moves
    last = moves[-1]
    moves[-1] = replace(last, error="not quiet; waits for a worker")
    try:
        verdict = demo.judge()
    finally:
        moves[-1] = last
    assert not verdict.ok
    assert verdict.problems == (f"move of {last.mailbox} to {last.target}: not quiet; waits for a worker",)


# --- helpers


def processes_about(text: str) -> list[str]:
    """Names and command lines of running processes whose command line has this text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found += [(entry / "comm").read_text().strip() + ": " + line] if text in line else []
    return found
