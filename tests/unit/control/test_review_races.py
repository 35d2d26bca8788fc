"""Commands of several processes at once, and imports that die anywhere."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from router.control import audit, changes, hold_records, holds, importing, mailboxes, schema, slicer, users_csv
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.importing import ImportResult, UserImport
from router.control.mailboxes import Filter
from router.control.operations import Operations
from router.errors import Conflict

ANN, BOB = "ann@example.edu", "bob@example.edu"
STORES, DOMAINS = ("cliff", "sunray", "zimbra"), ("example.edu", "mcs.example.edu")
Load = Callable[[str], ImportResult]


def operate(url: str, actor: str, rounds: int) -> None:
    """One operator: hold, move or give up, again and again, on the mailbox that the other one has, too."""
    database = ControlDatabase.open(url)
    operations = Operations(database, STORES)
    for number in range(rounds):
        act = Act(actor, f"round {number}", time.time())
        held = operations.hold([ANN], act)[0]
        to = ("cliff", "zimbra")[number % 2] if actor == "mover" else None
        done = operations.release([ANN], act, to, expected=held.hold)[0]
        # Either this command ended the hold that it had seen, or it was told that somebody else did.
        assert bool(done.error) != done.released, done
    database.close()


@pytest.mark.slow
def test_inv_28_two_operators_in_two_processes_never_both_end_a_hold(
    database: ControlDatabase, url: str, act: Act
) -> None:
    context = multiprocessing.get_context("spawn")
    before = database.run_read(changes.current_epoch)
    processes = [context.Process(target=operate, args=(url, actor, 25)) for actor in ("mover", "quitter")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    history = database.run_read(partial(hold_records.history, key=ANN, limit=1000))
    assert all(one.closed_at is not None for one in history)
    epochs = sorted(epoch for one in history for epoch in (one.hold.opened_epoch, one.closed_epoch or 0))
    after = database.run_read(changes.current_epoch)
    assert epochs == list(range(before + 1, after + 1)), (
        "one epoch for each opening and each end, none lost, none twice"
    )
    intervals = sorted((one.hold.opened_epoch, one.closed_epoch or 0) for one in history)
    assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(intervals))
    verbs = [row.verb for row in database.run_read(partial(audit.rows, key=ANN, limit=1000))]
    assert (verbs.count("hold"), verbs.count("release")) == (len(history), len(history))
    home = database.run_read(partial(mailboxes.by_key, keys=[ANN]))[ANN].home
    assert home == history[0].released_to


class Killed(BaseException):
    """As if the process had been killed: nobody tidies up."""


def small_steps(database: ControlDatabase, path: Path, text: str, sleep: Callable[[float], None]) -> UserImport:
    path.write_text(text)
    return UserImport(database, users_csv.read(path, STORES, DOMAINS), Act("i", "", 2000.0), sleep=sleep)


def test_import_killed_anywhere_is_wholly_there_or_not_at_all_and_can_be_done_again(
    database: ControlDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (importing, slicer):
        monkeypatch.setattr(module, "SMALLEST", 1)
        monkeypatch.setattr(module, "LARGEST", 1)
    monkeypatch.setattr(UserImport, "_discard", lambda _self: None)
    old, new = ("cliff", "sunray"), ("zimbra", "cliff")
    seen = set()
    for step in range(60):
        homes = new if step % 2 == 0 else old
        alias = f"step{step}@example.edu"
        rows = [f"{key},{home},{alias if key == BOB else ''}" for key, home in ((ANN, homes[0]), (BOB, homes[1]))]
        text = "\n".join(["address,home,aliases", *rows, f"new{step}@example.edu,cliff,n{step}@example.edu", ""])
        left = iter(range(step))

        def sleep(_seconds: float, left: Any = left) -> None:
            if next(left, None) is None:
                raise Killed

        before = picture(database, alias)
        done = False
        try:
            small_steps(database, tmp_path / "u.csv", text, sleep).apply()
            done = True
        except Killed:
            pass
        after = picture(database, alias)
        wanted = {ANN: homes[0], BOB: homes[1], alias: homes[1]}
        applied = {key: home for key, (home, _) in after.items()} == wanted
        assert applied or after == before, f"half of it is visible after step {step}"
        assert applied or not done
        seen.add((applied, done))
        small_steps(database, tmp_path / "u.csv", text, lambda _: None).apply()
        assert {key: home for key, (home, _) in picture(database, alias).items()} == wanted
        with database.read() as connection:
            for table in (schema.staged_mailboxes, schema.staged_addresses):
                assert connection.execute(select(func.count()).select_from(table)).scalar() == 0
        if done:
            break
    assert seen >= {(False, False), (True, False), (True, True)}


def picture(database: ControlDatabase, alias: str) -> dict[str, tuple[str, str]]:
    found = database.run_read(partial(mailboxes.find, keys=[ANN, BOB, alias])).mailboxes
    return {address: (mailbox.home, mailbox.key) for address, mailbox in found.items()}


IMPORT = """
import sys
from pathlib import Path
from router.control import users_csv
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.importing import UserImport
url, path = sys.argv[1:]
file = users_csv.read(Path(path), ("cliff", "sunray", "zimbra"), ("example.edu", "mcs.example.edu"))
database = ControlDatabase.open(url)
print("begun", flush=True)
UserImport(database, file, Act("i", "", 1.0)).apply()
"""


@pytest.mark.slow
def test_import_process_killed_at_any_time_leaves_all_or_nothing(
    database: ControlDatabase, url: str, tmp_path: Path, load: Load
) -> None:
    people = 1500
    whole = partial(mailboxes.count, wanted=Filter(home="zimbra"))
    path = tmp_path / "many.csv"
    for pause in (0.0, 0.1, 0.3, 0.6):
        home = "zimbra" if database.run_read(whole) == 0 else "sunray"
        path.write_text("address,home\n" + "".join(f"u{n}@example.edu,{home}\n" for n in range(people)))
        process = subprocess.Popen([sys.executable, "-c", IMPORT, url, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause)  # a random place, not a synchronisation
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert database.run_read(whole) in {0, people}
    result = load(path.read_text())
    assert result.created + result.changed + result.unchanged == people
    assert database.run_read(whole) in {0, people}
    assert database.run_read(mailboxes.visible_import) == 0


def test_hold_during_a_visible_import_settles_its_mailbox_first(
    database: ControlDatabase, load: Load, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    """A crash between visibility and merge; the hold's record must name the home that everybody sees."""
    with monkeypatch.context() as patched:
        patched.setattr("router.control.importing.finish", lambda *_: None)
        load(f"address,home\n{ANN},zimbra\n")
    hold = database.run_write(partial(holds.open_hold, key=ANN, act=act))
    assert database.run_read(partial(hold_records.get, number=hold.number)).home_before == "zimbra"
    with pytest.raises(Conflict):
        database.run_write(partial(holds.release, key=ANN, act=act, expected=hold.number + 1))
