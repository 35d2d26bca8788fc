"""The journal: moved to monthly files without loss or doubles, whatever is interrupted."""

from pathlib import Path
from typing import Any

import pytest
from support.journal_lines import format_line

from router.model.outcome import Disposition, JournalRow
from router.spool import journal as journal_files
from router.spool.journal_rows import parse_line
from router.spool.spool import Spool

NOVEMBER, DECEMBER = 1795000000.0, 1797000000.0


def line(number: int, at: float = NOVEMBER) -> tuple[int, float, str]:
    row = JournalRow(
        number, at, "000100000001", "a@example.edu", "delivered", "cliff", "a@example.edu", "", 1, at, 1, "", ""
    )
    return number, at, format_line(row)


def numbers(path: Path) -> list[int]:
    return [parse_line(text).number for text in path.read_bytes().splitlines()]


async def deliver(kit: Any, spool: Spool, count: int, at: float) -> None:
    for _ in range(count):
        work = await kit.put(spool, at=at)
        await spool.settle(work.message, [kit.outcome(work.recipients[0].number, Disposition.DELIVERED, at=at)])


async def test_rows_move_by_month_and_are_read_from_both(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    await deliver(kit, spool, 3, NOVEMBER)
    await deliver(kit, spool, 2, DECEMBER)
    before = spool.journal.rows(lambda _row: True, 100)
    assert await spool.move_journal() == 5
    assert kit.column(directory, "SELECT count(*) FROM journal") == [0]
    assert sorted(path.name for path in (directory / "journal").iterdir()) == ["2026-11.jsonl", "2026-12.jsonl"]
    assert spool.journal.rows(lambda _row: True, 100) == before
    await deliver(kit, spool, 1, DECEMBER)
    rows = spool.journal.rows(lambda _row: True, 100)
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.number for row in spool.journal.rows(lambda row: row.number % 2 == 0, 2)] == [4, 6]
    assert (await spool.desk.counts()).mail.delivered == 6
    await spool.close()
    spool = await open_spool(create=False)
    await spool.move_journal()
    await deliver(kit, spool, 1, DECEMBER)
    assert spool.journal.rows(lambda _row: True, 1)[0].number == 7


async def test_crash_between_append_and_delete_doubles_nothing(
    kit: Any, spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deliver(kit, spool, 3, NOVEMBER)
    rows = await spool._upkeep._unmoved()
    journal_files.append_rows(directory / "journal", rows)
    assert [row.number for row in spool.journal.rows(lambda _row: True, 10)] == [1, 2, 3]
    await deliver(kit, spool, 1, NOVEMBER)
    await spool.move_journal()
    assert numbers(directory / "journal" / "2026-11.jsonl") == [1, 2, 3, 4]


def test_torn_last_line_is_cut_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "2026-11.jsonl"
    journal_files.append_rows(tmp_path, [line(1), line(2)])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        journal_files.append_rows(tmp_path, [line(1), line(2)] if length < first else [line(2)])
        assert path.read_bytes() == whole


def test_file_longer_than_a_block_is_read_backwards(tmp_path: Path) -> None:
    count = 2000
    journal_files.append_rows(tmp_path, [line(number) for number in range(1, count + 1)])
    path = tmp_path / "2026-11.jsonl"
    assert path.stat().st_size > 3 * 65536
    backwards = [parse_line(text).number for text in journal_files._lines_backwards(path)]
    assert backwards == list(range(count, 0, -1))
    assert journal_files.last_number(tmp_path) == count


def test_unreadable_lines_are_passed_over(tmp_path: Path) -> None:
    journal_files.append_rows(tmp_path, [line(1)])
    path = tmp_path / "2026-11.jsonl"
    path.write_bytes(path.read_bytes() + b"\xff\x00 not json\n{}\n[]\n")
    assert journal_files.last_number(tmp_path) == 1
    journal_files.append_rows(tmp_path, [line(1), line(2)])
    assert journal_files.last_number(tmp_path) == 2


def test_impossible_times_have_a_month() -> None:
    assert journal_files.month_of(float("inf")) == "1970-01"
    assert journal_files.month_of(NOVEMBER) == "2026-11"


def test_fields_of_later_versions_are_ignored() -> None:
    row = parse_line(line(5)[2][:-1] + ',"colour":"blue"}')
    assert row.number == 5
    for bad in ("", "null", "{}", '{"number":"x"}', "[1]"):
        with pytest.raises(ValueError, match=r".*"):
            parse_line(bad)
