"""`queue list`, `show`, `cat`, `shape` and `export` over real spools, beside an owner and without one."""

import asyncio
import io
import json
import sqlite3
import tracemalloc
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

import pytest
from support.disk_watch import DiskWatch

from router.admin.cli.queue_select import Selection, entries
from router.control import holds
from router.control.audit import Act
from router.control.holds import Terms
from router.model.outcome import Disposition
from router.spool.offline import view
from router.spool.spool import Spool


@pytest.fixture
def filled(site: Any, kit: Any) -> list[str]:
    """Two spools: a deferred message to ann and bob (held), one to bob from the null sender."""

    async def first(spool: Spool) -> str:
        work = await site.put(spool, kit.rcpt(kit.ANN, notify="NEVER"), kit.rcpt(kit.BOB, held=True))
        one = type(work)(work.message, work.recipients[:1])
        await site.conclude(spool, one, Disposition.DEFERRED, "mailbox \x1b[31mfull")
        return str(work.message.queue_id)

    async def second(spool: Spool) -> str:
        work = await site.put(spool, kit.rcpt(kit.BOB, lane="zimbra"), sender="", at=9000.0)
        return str(work.message.queue_id)

    return [site.fill(first), site.fill(second, 2)]


def hold(site: Any, mailbox: str, batch: str = "wave-1") -> None:
    database = site.open_database()
    database.run_write(
        partial(holds.open_hold, key=mailbox, act=Act("op", "move", 1500.0), terms=Terms(batch=batch, deadline=9e9))
    )
    database.close()


def test_list_of_an_empty_site(sluice: Callable[..., Any]) -> None:
    assert sluice("queue", "list") == type(sluice("queue", "list"))(0, "Mail queue is empty\n", "")
    assert sluice("queue", "list", "--json").out == ""


def test_list_shows_all_spools_in_the_layout_of_mailq(filled: list[str], sluice: Callable[..., Any]) -> None:
    result = sluice("queue", "list")
    assert result.status == 0
    lines = result.out.splitlines()
    assert lines[0].startswith("-Queue ID-")
    assert [line.split()[0] for line in lines if line.startswith("0")] == filled
    assert lines[-1] == "-- 1 Kbytes in 2 Requests."


def test_nothing_from_outside_reaches_the_terminal_unescaped(
    kit: Any, filled: list[str], sluice: Callable[..., Any]
) -> None:
    for verb in (
        ["queue", "list"],
        ["queue", "show", filled[0]],
        ["log", kit.ANN],
        ["queue", "shape", "--by", "reason"],
    ):
        result = sluice(*verb)
        assert "full" in result.out
        assert "\x1b" not in result.out
        assert "\x1b" not in result.err


def test_json_lines_name_hold_and_batch(site: Any, kit: Any, filled: list[str], sluice: Callable[..., Any]) -> None:
    hold(site, kit.BOB)
    first, second = sluice("queue", "list", "--json").records
    assert [first["queue_id"], second["queue_id"]] == filled
    assert first["queue_name"] == "deferred"
    assert [one["state"] for one in first["recipients"]] == ["queued", "held"]
    assert first["recipients"][0]["delay_reason"].startswith("451")
    assert first["recipients"][1]["batch"] == "wave-1"
    assert first["recipients"][1]["hold_until"] == 9e9
    assert second["sender"] == "MAILER-DAEMON"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--mailbox", "bob@example.edu"], [0, 1]),
        (["--mailbox", "A.NN@example.edu"], [0]),
        (["--store", "zimbra"], [1]),
        (["--sender", "<>"], [1]),
        (["--sender", "someone@OUTSIDE.example"], [0]),
        (["--recipient", "@example.edu"], [0, 1]),
        (["--recipient", "ann@example.edu"], [0]),
        (["--state", "held"], [0]),
        (["--reason-text", "FULL"], [0]),
        (["--older", "1h"], [0, 1]),
        (["--batch", "wave-1"], [0, 1]),
        (["--batch", "nobody"], []),
        (["--store", "zimbra", "--state", "held"], []),
    ],
)
def test_filters(
    options: list[str], found: list[int], site: Any, kit: Any, filled: list[str], sluice: Callable[..., Any]
) -> None:
    hold(site, kit.BOB)
    records = sluice("queue", "list", "--json", *options).records
    assert [one["queue_id"] for one in records] == [filled[place] for place in found]


def test_ids_come_as_arguments_as_option_and_from_standard_input(
    filled: list[str], sluice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ids(*arguments: str) -> list[str]:
        return [one["queue_id"] for one in sluice("queue", "list", "--json", *arguments).records]

    assert ids(filled[1]) == ids("--id", filled[1]) == [filled[1]]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{filled[0]}!\n"))
    assert ids("-") == [filled[0]]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert ids("-") == []


def test_bad_conditions_are_usage_errors(filled: list[str], sluice: Callable[..., Any]) -> None:
    assert sluice("queue", "list", "--state", "lost").status == 64
    assert sluice("queue", "list", "--older", "5 o'clock").status == 64
    assert sluice("queue", "list", "ALL").status == 64
    assert sluice("queue", "shape", "--by", "colour").status == 64


def test_the_list_works_without_a_control_database(site: Any, filled: list[str], sluice: Callable[..., Any]) -> None:
    (site.state / "control.db").unlink()
    result = sluice("queue", "list")
    assert result.status == 0
    assert filled[0] in result.out
    assert "not known" in result.err


def test_a_spool_that_cannot_be_read_is_named_and_the_others_are_listed(
    site: Any, filled: list[str], sluice: Callable[..., Any]
) -> None:
    (site.directory(1) / "queue.db").write_bytes(b"no database at all" * 100)
    result = sluice("queue", "list", "--json")
    assert result.status == 74
    assert [one["queue_id"] for one in result.records] == [filled[1]]
    assert "0001" in result.err


async def test_the_list_reads_beside_an_owner(site: Any, sluice: Callable[..., Any]) -> None:
    async with site.worker() as spool:
        await site.put(spool)
        result = await asyncio.to_thread(sluice, "queue", "list", "--json")
    assert len(result.records) == 1


def test_show_one_message(site: Any, filled: list[str], sluice: Callable[..., Any]) -> None:
    text = sluice("queue", "show", filled[0])
    assert text.status == 0
    assert "someone@outside.example" in text.out
    assert "helo.example" in text.out
    document = sluice("queue", "show", filled[0], "--json").document
    assert document["version"] == 1
    assert document["message"]["queue_id"] == filled[0]
    assert document["message"]["envelope"]["envid"] == "xyz"
    assert sluice("queue", "show", "000100FFFFFF").status == 65
    assert sluice("queue", "show", "099900000001").status == 65
    assert sluice("queue", "show", "nonsense").status == 64


def test_cat_writes_the_bytes(
    kit: Any, filled: list[str], sluice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sluice("queue", "cat", filled[0]).out.encode() == kit.BODY
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = sluice("queue", "cat", filled[0]).out
    assert "A line." in shown
    assert "\x1b" not in shown


def test_shape(filled: list[str], sluice: Callable[..., Any]) -> None:
    document = sluice("queue", "shape", "--json").document
    assert document["total"] == 3
    assert {one["name"]: one["total"] for one in document["rows"]} == {"cliff": 1, "zimbra": 1, "(held)": 1}
    assert "TOTAL" in sluice("queue", "shape").out


def test_export_is_readable_without_sluice(site: Any, kit: Any, filled: list[str], sluice: Callable[..., Any]) -> None:
    target = site.state.parent / "out"
    result = sluice("queue", "export", str(target), "--all", "--json")
    assert result.status == 0
    assert result.document["messages"] == 2
    assert sorted(path.name for path in target.iterdir()) == sorted(
        name for one in filled for name in (f"{one}.eml", f"{one}.json")
    )
    assert (target / f"{filled[0]}.eml").read_bytes() == kit.BODY
    envelope = json.loads((target / f"{filled[0]}.json").read_bytes())
    assert envelope["sender"] == "someone@outside.example"
    assert envelope["envid"] == "xyz"
    assert envelope["sha256"] == sha256(kit.BODY).hexdigest()
    assert [(one["address"], one["notify"], one["state"]) for one in envelope["recipients"]] == [
        (kit.ANN, "NEVER", "queued"),
        (kit.BOB, "", "held"),
    ]
    assert (target / f"{filled[0]}.eml").stat().st_mode & 0o077 == 0
    assert sluice("queue", "export", str(target), "--all").status == 0  # again: replaced
    assert len(sluice("queue", "list", "--json").records) == 2


def test_what_was_exported_is_durable(
    site: Any, filled: list[str], sluice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = site.state.parent / "out"
    target.mkdir()
    watch = DiskWatch(target, monkeypatch)
    assert sluice("queue", "export", str(target), "--all").status == 0
    watch.durable()
    assert len(watch.synced) == 2 * len(filled) + 1


def test_export_takes_filters_and_needs_all_for_everything(
    site: Any, filled: list[str], sluice: Callable[..., Any]
) -> None:
    target = site.state.parent / "out"
    assert sluice("queue", "export", str(target)).status == 64
    assert sluice("queue", "export", str(target), "--state", "held").status == 0
    envelope = json.loads((target / f"{filled[0]}.json").read_bytes())
    assert [one["state"] for one in envelope["recipients"]] == ["held"]
    assert len(list(target.iterdir())) == 2


def test_export_names_a_damaged_message_and_goes_on(site: Any, filled: list[str], sluice: Callable[..., Any]) -> None:
    connection = sqlite3.connect(site.directory(1) / "queue.db")
    connection.execute("UPDATE messages SET body = ?", (b"something else",))
    connection.commit()
    connection.close()
    result = sluice("queue", "export", str(site.state.parent / "out"), "--all", "--json")
    assert result.status == 65
    assert result.document["messages"] == 1
    assert filled[0] in result.document["damaged"][0]


@pytest.mark.slow
def test_ten_thousand_rows_are_listed_in_bounded_memory(site: Any, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def many(spool: Spool) -> None:
        recipients = [kit.rcpt(f"user{number}@example.edu") for number in range(50)]
        await asyncio.gather(*(site.put(spool, *recipients) for _ in range(200)))

    site.fill(many)
    most = 0
    seen = 0
    with view(site.directory()) as opened:
        finding = opened.find

        def watched(wanted: Any) -> Any:
            nonlocal most
            found = finding(wanted)
            most = max(most, len(found))
            return found

        tracemalloc.start()
        finder = type("Finder", (), {"find": staticmethod(watched)})()
        for _ in entries(finder, Selection()):
            seen += 1
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert seen == 10_000
    assert most <= 1000
    assert peak < 8 * 1024 * 1024
