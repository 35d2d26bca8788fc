"""One damaged row, one refused operation, one failing file: each is its own affair."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from router.errors import SpoolUnavailable
from router.model.outcome import Disposition
from router.spool.sequence import STEP, Sequence
from router.spool.spool import Spool

BOX = "a@example.edu"
BIG = bytes(range(256)) * 400


def contradict(directory: Path, old: bytes, new: bytes) -> None:
    """Change a value in a page behind SQLite's back: the row says `new`, the indices go on saying `old`."""
    data = (directory / "queue.db").read_bytes()
    assert data.count(old) == 1
    (directory / "queue.db").write_bytes(data.replace(old, new))


async def one_bad_row(kit: Any, open_spool: Any, directory: Path, *, held: bool) -> tuple[Spool, Any, Any]:
    """Two recipients of BOX; the row of the first contradicts its indices."""
    spool = await open_spool()
    bad = await kit.put(spool, kit.rcpt(BOX, lane="badlane", held=held))
    good = await kit.put(spool, kit.rcpt(BOX, lane="goodlane", held=held))
    await spool.close()
    state = b"held" if held else b"queued"
    contradict(directory, state + b"badlane", (b"hexd" if held else b"qveued") + b"badlane")
    return await open_spool(create=False), bad, good


@pytest.mark.parametrize("held", [True, False])
async def test_inv_58_release_passes_over_a_row_that_contradicts_its_index(
    kit: Any, open_spool: Any, directory: Path, held: bool
) -> None:
    spool, bad, good = await one_bad_row(kit, open_spool, directory, held=held)
    assert await spool.release([BOX], 500.0) == 1
    works = await spool.draining(BOX, 10)
    assert [work.message.number for work in works] == [good.message.number]
    assert any(str(bad.recipients[0].number) in finding for finding in spool.findings)
    assert spool.unhealthy() is None
    assert await spool.release([BOX], 600.0) == 1, "asked for again it ends as well"


async def test_inv_58_damaged_row_does_not_stop_what_changes_many_rows(
    kit: Any, open_spool: Any, directory: Path
) -> None:
    spool, _, good = await one_bad_row(kit, open_spool, directory, held=False)
    await spool.settle(
        good.message, [kit.outcome(good.recipients[0].number, Disposition.DEFERRED, due=9000.0, lane="badlane")]
    )
    await spool.reroute([BOX], 500.0)
    (found,) = await spool.due("", 500.0, 10)
    assert found.message.number == good.message.number
    await spool.wake("badlane", 600.0)
    assert spool.unhealthy() is None


async def test_inv_58_damaged_row_does_not_fail_those_who_share_its_transaction(
    kit: Any, open_spool: Any, directory: Path
) -> None:
    spool, bad, _ = await one_bad_row(kit, open_spool, directory, held=False)
    number = bad.recipients[0].number
    parking = spool.desk.park([number], actor="root", reason="odd")
    results = await asyncio.gather(parking, *(kit.put(spool) for _ in range(5)), return_exceptions=True)
    assert not any(isinstance(result, BaseException) for result in results[1:]), results
    assert spool.unhealthy() is None


async def test_inv_58_outcome_of_a_row_that_cannot_be_changed_is_journalled_and_not_repeated(
    kit: Any, open_spool: Any, directory: Path
) -> None:
    """Otherwise its commit is tried for ever, and its delivery keeps every barrier of the mailbox from passing."""
    spool = await open_spool()
    work = await kit.put(spool, kit.rcpt(BOX, lane="badlane"))
    await spool.close()
    contradict(directory, b"queuedbadlane" + BOX.encode(), b"queuedbadlane" + b"b@example.edu")
    spool = await open_spool(create=False)
    (found,) = await spool.due("badlane", 1000.0, 10)
    await spool.settle(found.message, [kit.outcome(work.recipients[0].number, Disposition.DELIVERED)])
    assert [row.disposition for row in spool.journal.rows(lambda _row: True, 10)] == ["delivered"]
    assert await spool.due("badlane", 1000.0, 10) == []
    assert spool.findings
    assert spool.unhealthy() is None


async def test_refused_operation_leaves_no_body_behind(
    kit: Any, spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many wait: the message is certainly not kept, and its file must not fill the disk until a reaper comes."""
    monkeypatch.setattr("router.spool.writer.CAPACITY", 0)
    with pytest.raises(SpoolUnavailable):
        await kit.put(spool, body=BIG)
    monkeypatch.undo()
    await spool.close()
    assert list((directory / "bodies").iterdir()) == []


def test_numbers_are_not_taken_for_reserved_when_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = Sequence(tmp_path)
    synced: list[int] = []

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            sequence.reserve(1)
    monkeypatch.setattr("os.fsync", synced.append)
    sequence.reserve(1)
    assert synced, "reserved only when it was synced, and not by the descriptor whose sync failed"
    assert sequence.reserved == 1 + STEP
    sequence.close()
    again = Sequence(tmp_path)
    assert again.reserved == 1 + STEP
    again.close()
