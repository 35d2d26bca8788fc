"""What the spool writes beside its database is on disk, name and content, when the step that wrote it has ended."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.disk_watch import DiskWatch

from router.model.outcome import Disposition
from router.spool import recovering
from router.spool.place import make_directory, prepare
from router.spool.recovering import UNTOLD, Recovery
from router.spool.sequence import SEQUENCE, Sequence
from router.spool.setting_aside import RECOVERED, parse, set_aside

LARGE = b"x" * 100_000
AT = 1_800_000_000.0


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskWatch:
    (tmp_path / "spool").mkdir()
    return DiskWatch(tmp_path, monkeypatch)


def test_the_watch_sees_what_is_not_synced(watch: DiskWatch, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(AssertionError, match=r"the name of .*folder was not synced"):
        watch.durable()


async def test_prc7_a_large_body_is_durable_before_its_row(
    watch: DiskWatch, kit: Any, open_spool: Any, directory: Path
) -> None:
    spool = await open_spool()
    await kit.put(spool, body=LARGE)
    watch.durable(SEQUENCE)
    assert any(path.parent.name == "bodies" for path in watch.synced)


def test_inv_1_a_new_spool_and_its_folders_have_durable_names(watch: DiskWatch, tmp_path: Path) -> None:
    make_directory(tmp_path / "spool" / "0001")
    watch.durable()
    prepare(tmp_path / "spool" / "0001", create=True)
    watch.durable()


def test_prc9_reserved_numbers_are_durable_and_so_are_those_given_back(watch: DiskWatch, tmp_path: Path) -> None:
    """Defect: the file's own name was not; on a file system other than ext4 a cut may take it."""
    sequence = Sequence(tmp_path)
    sequence.reserve(5)
    watch.durable()
    sequence.commit(5)
    before = len(watch.synced)
    sequence.close(5)
    assert watch.synced[before:] == [tmp_path / SEQUENCE]


async def test_rows_leave_the_database_when_their_journal_file_is_durable(
    watch: DiskWatch, kit: Any, open_spool: Any
) -> None:
    spool = await open_spool()
    for _ in range(2):
        work = await kit.put(spool)
        await spool.settle(work.message, [kit.outcome(work.recipients[0].number, Disposition.DELIVERED)])
        before = len(watch.synced)
        assert await spool.move_journal() == 1
        assert any(path.suffix == ".jsonl" for path in watch.synced[before:])
        watch.durable(SEQUENCE)


async def test_a_removed_message_is_durable_before_its_row_goes(watch: DiskWatch, kit: Any, open_spool: Any) -> None:
    spool = await open_spool()
    work = await kit.put(spool, body=LARGE)
    before = len(watch.synced)
    await spool.desk.remove([work.recipients[0].number], actor="root", reason="virus")
    watch.durable(SEQUENCE)
    assert len(watch.synced) > before


async def test_a_spool_that_is_set_aside_and_brought_back_has_durable_names(
    watch: DiskWatch, kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovering, "_is_untold", lambda _one: True)
    spool = await open_spool()
    await kit.put(spool, body=LARGE)
    await spool.close()
    kept = set_aside(directory, AT)
    watch.durable(SEQUENCE)
    place = parse(kept)
    assert place is not None
    await Recovery(place, lambda: 7, lambda: AT).run()
    watch.durable(SEQUENCE)
    assert kept in watch.synced
    assert await asyncio.to_thread((kept / RECOVERED).exists)
    assert await asyncio.to_thread((directory.parent / "0007").exists)
    assert len(await asyncio.to_thread(lambda: list((kept / UNTOLD).iterdir()))) == 2
