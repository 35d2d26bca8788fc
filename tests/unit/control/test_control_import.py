from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select

from router.control import audit, changes, edits, holds, mailboxes, schema, staging, users_csv
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.edits import Edit
from router.control.importing import ImportResult, UserImport, finish
from router.control.mailboxes import Filter, Record
from router.control.users_csv import ImportRefused
from router.errors import Conflict
from router.model.change import ChangeKind
from router.model.mailbox import Status

ANN, BOB, CAT = "ann@example.edu", "bob@example.edu", "cat@mcs.example.edu"
STORES, DOMAINS = ("cliff", "sunray", "zimbra"), ("example.edu", "mcs.example.edu")
Load = Callable[[str], ImportResult]


def record(database: ControlDatabase, key: str) -> Record:
    found = database.run_read(partial(mailboxes.record, key=key))
    assert found is not None
    return found


def owners(database: ControlDatabase, *addresses: str) -> dict[str, str]:
    return database.run_read(partial(mailboxes.owners, addresses=addresses))


def count(database: ControlDatabase) -> int:
    return database.run_read(partial(mailboxes.count, wanted=Filter()))


def epoch(database: ControlDatabase) -> int:
    return database.run_read(changes.current_epoch)


def refusal(load: Load, text: str) -> list[str]:
    with pytest.raises(ImportRefused) as caught:
        load(text)
    return [message.partition("users.csv:")[2] for message in caught.value.messages]


def test_all_columns(empty: ControlDatabase, load: Load) -> None:
    result = load(
        "\ufeffaddress,home,aliases,status,size_bytes,division,target\n"
        '"Ann@Example.EDU",cliff, a@example.edu  B@example.edu ,Disabled,123,MCS,zimbra\n\n'
        "bob@example.edu,sunray,,,,,\n"
    )
    assert result == ImportResult(2, 0, 0, epoch=1)
    ann = record(empty, "b@example.edu")
    assert ann.addresses == ("a@example.edu", ANN, "b@example.edu")
    assert (ann.mailbox.status, ann.size_bytes, ann.division) == (Status.DISABLED, 123, "MCS")
    assert (ann.mailbox.home, ann.mailbox.target, ann.mailbox.moved_at) == ("cliff", "zimbra", None)
    bob = record(empty, BOB)
    assert (bob.mailbox.status, bob.size_bytes) == (Status.ACTIVE, None)


def test_every_error_of_the_file_at_once(empty: ControlDatabase, load: Load) -> None:
    messages = refusal(
        load,
        "address,home,aliases,status,size_bytes,target\n"
        "ann@example.edu,nowhere,,,,\n"
        "not an address,cliff,,,,\n"
        "eve@elsewhere.org,cliff,x@elsewhere.org,,,\n"
        "bob@example.edu,cliff,ann@example.edu,frozen,-1,mars\n"
        "ANN@example.edu,cliff,,,1e9,\n"
        "cat@example.edu,cliff\n",
    )
    assert [message.split(":")[0] for message in messages] == ["2", "3", "4", "4", "5", "5", "5", "5", "6", "6", "7"]
    text = "\n".join(messages)
    for part in (
        "'nowhere'",
        "no address",
        "domain of ours",
        "line 2",
        "'frozen'",
        "'-1'",
        "'mars'",
        "'1e9'",
        "2 fields",
    ):
        assert part in text
    assert count(empty) == 0
    assert epoch(empty) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: column 'address' is missing"),
        ("address,home,haus\n", "1: unknown column 'haus'"),
        ("address,home,home\n", "1: column 'home' is given twice"),
        ('address,home\n"ann@example.edu"x,cliff\n', "2: the file is no CSV"),
        ("address,home\nann@example.edu\x00,cliff\n", "2: "),
    ],
)
def test_a_file_that_is_none(load: Load, text: str, message: str) -> None:
    assert refusal(load, text)[0].startswith(message)


def test_bytes_that_are_not_utf8_have_a_line(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(b"address,home,division\nann@example.edu,cliff,ok\nbob@example.edu,cliff,\xff\n")
    with pytest.raises(ImportRefused, match=r"users\.csv:3: a character is not UTF-8"):
        users_csv.read(path, STORES, DOMAINS)
    with pytest.raises(ImportRefused, match="cannot be read"):
        users_csv.read(tmp_path / "none.csv", STORES, DOMAINS)


def test_the_same_file_again_changes_nothing(empty: ControlDatabase, load: Load) -> None:
    text = f"address,home,aliases,status\n{ANN},cliff,a@example.edu,disabled\n{BOB},cliff,,\n"
    load(text)
    before = epoch(empty)
    assert load(text) == ImportResult(0, 0, 2, 0)
    assert epoch(empty) == before


def test_absent_rows_and_absent_columns_are_untouched(database: ControlDatabase, load: Load) -> None:
    assert load(f"address,home\n{ANN},zimbra\n") == ImportResult(0, 1, 0, epoch=2)
    ann = record(database, ANN)
    assert (ann.mailbox.home, ann.mailbox.moved_at) == ("zimbra", 1000.0)
    assert len(ann.addresses) == 3
    assert record(database, BOB).mailbox.moved_at is None
    load(f"address,home,aliases\n{ANN},zimbra,\n")
    assert record(database, ANN).addresses == (ANN,)
    assert "a.ann@example.edu" not in owners(database, "a.ann@example.edu")


def test_a_small_import_is_told_by_name_and_a_large_one_by_resync(database: ControlDatabase, load: Load) -> None:
    before = epoch(database)
    load(f"address,home,aliases\n{ANN},zimbra,new@example.edu\n")
    told = database.run_read(partial(changes.since, epoch=before)).changes
    assert {(change.kind, change.key) for change in told} == {
        (ChangeKind.MAILBOX, ANN),
        (ChangeKind.ADDRESS, "new@example.edu"),
        (ChangeKind.ADDRESS, "a.ann@example.edu"),
        (ChangeKind.ADDRESS, "ann@mcs.example.edu"),
    }
    before = epoch(database)
    load("address,home\n" + "".join(f"u{i}@example.edu,cliff\n" for i in range(400)))
    assert [change.kind for change in database.run_read(partial(changes.since, epoch=before)).changes] == ["resync"]


def test_addresses_of_others_are_errors_unless_the_file_moves_them(database: ControlDatabase, load: Load) -> None:
    messages = refusal(load, f"address,home,aliases\n{BOB},cliff,a.ann@example.edu\na.ann@example.edu,cliff,\n")
    assert len(messages) == 1  # within the file already
    assert refusal(load, f"address,home,aliases\n{BOB},cliff,a.ann@example.edu\n") == [
        f"2: a.ann@example.edu belongs to {ANN}"
    ]
    assert refusal(load, "address,home\na.ann@example.edu,cliff\n") == [f"2: a.ann@example.edu belongs to {ANN}"]
    assert refusal(load, f"address,home,aliases\n{BOB},cliff,{ANN}\n") == [f"2: {ANN} belongs to {ANN}"]
    load(f"address,home,aliases\n{BOB},cliff,a.ann@example.edu\n{ANN},cliff,b.bob@example.edu\n")
    assert owners(database, "a.ann@example.edu", "b.bob@example.edu") == {
        "a.ann@example.edu": BOB,
        "b.bob@example.edu": ANN,
    }


def test_a_held_mailbox_keeps_home_and_addresses(database: ControlDatabase, load: Load, act: Act) -> None:
    database.run_write(partial(holds.open_hold, key=ANN, act=act))
    messages = refusal(load, f"address,home,aliases\n{BOB},zimbra,\n{ANN},zimbra,\n")
    assert len(messages) == 2
    assert all("is on hold" in message for message in messages)
    assert record(database, BOB).mailbox.home == "cliff"  # nothing half-applied
    load(f"address,home,status\n{ANN},cliff,disabled\n{BOB},zimbra,\n")
    ann = record(database, ANN).mailbox
    assert ann.status is Status.DISABLED
    assert ann.hold is not None


def test_a_dry_run_writes_nothing(database: ControlDatabase, tmp_path: Path, act: Act) -> None:
    path = tmp_path / "users.csv"
    path.write_text(f"address,home\n{ANN},zimbra\nnew@example.edu,cliff\n{BOB},cliff\n")
    before = epoch(database)
    found = UserImport(database, users_csv.read(path, STORES, DOMAINS), act).dry_run()
    assert found == ImportResult(created=1, changed=1, unchanged=1)
    assert epoch(database) == before
    assert record(database, ANN).mailbox.home == "cliff"


class Step(Exception):
    """Raised out of an import's pause."""


def staged_import(database: ControlDatabase, tmp_path: Path, text: str, during: Callable[[], object]) -> UserImport:
    """An import that calls `during` once, after its first slice was staged."""
    path = tmp_path / "more.csv"
    path.write_text(text)
    calls = iter([False, False, True])  # two slices that finish what went before, then the first of its own

    def sleep(_seconds: float) -> None:
        if next(calls, False):
            during()

    return UserImport(database, users_csv.read(path, STORES, DOMAINS), Act("i", "", 2000.0), sleep=sleep)


def test_nothing_is_seen_before_the_end(database: ControlDatabase, tmp_path: Path) -> None:
    seen: list[object] = []
    text = f"address,home,aliases\n{ANN},zimbra,\nnew@example.edu,cliff,\n"

    def during() -> None:
        with database.read() as connection:
            assert connection.execute(select(func.count()).select_from(schema.staged_mailboxes)).scalar() == 2
        seen.append((record(database, ANN).mailbox.home, count(database), owners(database, "a.ann@example.edu")))

    staged_import(database, tmp_path, text, during).apply()
    assert seen == [("cliff", 3, {"a.ann@example.edu": ANN})]
    assert record(database, ANN).mailbox.home == "zimbra"
    assert count(database) == 4


def test_a_hold_during_the_import_is_noticed_at_the_end(database: ControlDatabase, tmp_path: Path, act: Act) -> None:
    text = f"address,home\n{ANN},zimbra\n{BOB},zimbra\n"
    run = staged_import(
        database, tmp_path, text, lambda: database.run_write(partial(holds.open_hold, key=ANN, act=act))
    )
    with pytest.raises(ImportRefused, match="on hold"):
        run.apply()
    assert record(database, BOB).mailbox.home == "cliff"
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.staged_mailboxes)).scalar() == 0


def test_an_edit_during_the_import_is_not_undone(database: ControlDatabase, tmp_path: Path, act: Act) -> None:
    """The file says nothing of the status: the one set meanwhile stays."""

    def during() -> None:
        wanted = Edit(status=Status.DISABLED, aliases=frozenset({"kept@example.edu"}))
        database.run_write(partial(edits.edit, key=ANN, wanted=wanted, act=act))

    staged_import(database, tmp_path, f"address,home\n{ANN},zimbra\n", during).apply()
    ann = record(database, ANN)
    assert (ann.mailbox.home, ann.mailbox.status) == ("zimbra", Status.DISABLED)
    assert ann.addresses == (ANN, "kept@example.edu")


def test_an_import_that_died_leaves_no_trace(database: ControlDatabase, tmp_path: Path, load: Load) -> None:
    def die() -> None:
        raise Step

    with pytest.raises(Step):
        staged_import(database, tmp_path, f"address,home\n{ANN},zimbra\n", die).apply()
    assert record(database, ANN).mailbox.home == "cliff"
    load(f"address,home\n{BOB},cliff\n")
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.staged_mailboxes)).scalar() == 0


def test_a_later_import_wins_over_one_that_is_still_staging(
    database: ControlDatabase, tmp_path: Path, load: Load
) -> None:
    run = staged_import(
        database, tmp_path, f"address,home\n{ANN},zimbra\n", lambda: load(f"address,home\n{BOB},sunray\n")
    )
    with pytest.raises(Conflict, match="another import"):
        run.apply()
    assert record(database, ANN).mailbox.home == "cliff"
    assert record(database, BOB).mailbox.home == "sunray"


def visible_but_unmerged(database: ControlDatabase, monkeypatch: pytest.MonkeyPatch, load: Load, text: str) -> None:
    """As after a crash between the moment of visibility and the merge."""
    with monkeypatch.context() as patched:
        patched.setattr("router.control.importing.finish", lambda *_: None)
        load(text)
    assert database.run_read(mailboxes.visible_import) != 0


CHANGED = (
    f"address,home,aliases\n{ANN},zimbra,b.bob@example.edu\n{BOB},cliff,\nnew@example.edu,sunray,n@mcs.example.edu\n"
)


def picture(database: ControlDatabase) -> list[object]:
    keys = [ANN, BOB, CAT, "new@example.edu", "a.ann@example.edu", "b.bob@example.edu", "n@mcs.example.edu"]
    found = database.run_read(partial(mailboxes.find, keys=keys))
    return [
        found,
        owners(database, *keys),
        database.run_read(partial(mailboxes.records, keys=keys)),
        database.run_read(partial(mailboxes.listing, wanted=Filter())),
        database.run_read(partial(mailboxes.listing, wanted=Filter(domain="example.edu"), after=ANN, limit=1)),
        database.run_read(partial(mailboxes.count, wanted=Filter(home="zimbra"))),
        database.run_read(mailboxes.homes),
        database.run_read(partial(mailboxes.populated, domain="mcs.example.edu")),
    ]


def test_readers_see_the_same_before_and_after_the_merge(
    database: ControlDatabase, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    visible_but_unmerged(database, monkeypatch, load, CHANGED)
    before = picture(database)
    assert record(database, "b.bob@example.edu").mailbox.key == ANN
    assert "a.ann@example.edu" not in owners(database, "a.ann@example.edu")
    while not database.run_write(partial(staging.merge_slice, size=1)):
        assert picture(database) == before
    assert picture(database) == before
    assert database.run_read(mailboxes.visible_import) == 0
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.staged_addresses)).scalar() == 0


def test_changes_before_the_merge_are_not_undone_by_it(
    database: ControlDatabase, load: Load, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    visible_but_unmerged(database, monkeypatch, load, CHANGED)
    database.run_write(partial(holds.open_hold, key="new@example.edu", act=act))
    database.run_write(partial(holds.release, key="new@example.edu", act=act, to="cliff"))
    wanted = Edit(aliases=frozenset({"a.ann@example.edu"}))  # an address that the import took from Ann
    database.run_write(partial(edits.edit, key=CAT, wanted=wanted, act=act))
    before = picture(database)
    finish(database, lambda _: None)
    assert picture(database) == before
    assert record(database, "new@example.edu").mailbox.home == "cliff"
    assert owners(database, "a.ann@example.edu") == {"a.ann@example.edu": CAT}


def test_the_import_is_in_the_audit(database: ControlDatabase) -> None:
    rows = database.run_read(partial(audit.rows, verb="import"))
    assert [(row.actor, row.after["created"]) for row in rows] == [("tester", 3)]


def test_a_file_from_before_a_move_does_not_take_people_back(empty: ControlDatabase, load: Load, act: Act) -> None:
    """An administrator who imports last week's file again must not undo the moves of the week."""
    before = f"address,home\n{ANN},cliff\n{BOB},cliff\n"
    load(before)
    empty.run_write(partial(holds.open_hold, key=ANN, act=act))
    empty.run_write(partial(holds.release, key=ANN, act=act, to="zimbra"))

    [message] = refusal(load, before)
    assert message.startswith("2: ")
    assert f"{ANN} was moved to zimbra on " in message
    assert record(empty, ANN).mailbox.home == "zimbra"

    assert load(f"address,home\n{ANN},zimbra\n{BOB},cliff\n").changed == 0
    assert load(f"address,home\n{BOB},sunray\n").changed == 1
    edit = partial(edits.edit, key=ANN, wanted=Edit(home="cliff"), act=Act("op", "by hand", act.at + 5))
    empty.run_write(edit)
    assert load(f"address,home\n{ANN},sunray\n").changed == 1, "set by hand since: the file may speak again"


def test_an_aborted_move_leaves_the_home_to_the_file(empty: ControlDatabase, load: Load, act: Act) -> None:
    load(f"address,home\n{ANN},cliff\n")
    empty.run_write(partial(holds.open_hold, key=ANN, act=act))
    empty.run_write(partial(holds.release, key=ANN, act=act, to=None))
    assert load(f"address,home\n{ANN},sunray\n").changed == 1
