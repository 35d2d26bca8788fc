"""Free pages of the database go back to the file system while the disk is short, and only then (PRC13, inv 46)."""

import asyncio
import errno
import os
import sqlite3
import struct
from pathlib import Path
from typing import Any

import pytest

from router.model.outcome import Disposition
from router.spool.options import SpoolOptions
from router.spool.spool import Spool
from router.spool.upkeep import Pace

QUICK = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0, pace=Pace(period=0.02, breath=0.001))


async def emptied(kit: Any, spool: Spool) -> dict[int, bytes]:
    """A database of a hundred messages that are gone but for every tenth; the bodies of those."""
    bodies = [os.urandom(60_000) for _ in range(100)]
    works = await asyncio.gather(*(kit.put(spool, body=body) for body in bodies))
    left = {}
    for place, (work, body) in enumerate(zip(works, bodies, strict=True)):
        if place % 10 == 9:
            left[work.recipients[0].number] = body
        else:
            await spool.settle(work.message, [kit.outcome(work.recipients[0].number, Disposition.DELIVERED)])
    return left


def length(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("queue.db*"))


def short_of_space(monkeypatch: pytest.MonkeyPatch, spool: Spool, *, room: bool = True) -> None:
    monkeypatch.setattr(spool._health, "short", lambda: True)
    monkeypatch.setattr(spool._health, "room_to_move", lambda: room)


async def test_inv_46_free_pages_go_back_while_the_disk_is_short(
    kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool(options=QUICK)
    left = await emptied(kit, spool)
    assert length(directory) > 6_000_000
    short_of_space(monkeypatch, spool)
    async with asyncio.timeout(100):
        while length(directory) > 2_000_000:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.02)
    assert kit.column(directory, "PRAGMA integrity_check") == ["ok"]
    found = await spool.due("cliff", 1000.0, 100)
    kept = {
        work.recipients[0].number: b"".join([part async for part in await spool.body(work.message)]) for work in found
    }
    assert kept == left
    assert await kit.put(spool, body=b"x" * 60_000)


async def test_pages_are_kept_while_there_is_space(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool(options=QUICK)
    await emptied(kit, spool)
    assert await spool._upkeep.shorten() == 0


async def test_inv_46_the_log_goes_back_though_there_is_no_room_to_move_pages(
    kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log may be what has taken the last octet: then nothing else could ever give anything back."""
    spool = await open_spool(options=kit.QUIET)
    await emptied(kit, spool)
    log, database = directory / "queue.db-wal", directory / "queue.db"
    assert log.stat().st_size > 1_000_000
    short_of_space(monkeypatch, spool, room=False)
    assert await spool._upkeep.shorten() == 0
    assert (log.stat().st_size, database.stat().st_size > 5_000_000) == (0, True)


async def test_inv_46_the_log_goes_back_though_the_journal_cannot_be_moved(
    kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving it wants space, and is tried in every round of a full disk."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    spool = await open_spool(options=QUICK)
    monkeypatch.setattr("router.spool.upkeep.append_rows", full)
    await emptied(kit, spool)
    log = directory / "queue.db-wal"
    assert log.stat().st_size > 1_000_000
    short_of_space(monkeypatch, spool, room=False)
    async with asyncio.timeout(60):
        while log.stat().st_size:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.02)


async def test_a_little_is_not_given_back(kit: Any, open_spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few free pages are needed again at once."""
    spool = await open_spool(options=kit.QUIET)
    await kit.put(spool, body=b"x" * 60_000)
    short_of_space(monkeypatch, spool)
    assert await spool._upkeep.shorten() == 0


async def test_damaged_pages_stay_where_they_are(
    kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving them finds the damage, which is not new to a database that goes on working: it is not to be given up."""
    spool = await open_spool(options=kit.QUIET)
    await emptied(kit, spool)
    await spool.close()
    unlink_pages(directory / "queue.db")
    spool = await open_spool(options=kit.QUIET)
    short_of_space(monkeypatch, spool)
    assert await spool._upkeep.shorten() < 1000
    assert not spool._upkeep._movable
    assert await spool._upkeep.shorten() == 0
    assert not spool.ruin
    assert await kit.put(spool, body=b"x" * 60_000)


def unlink_pages(path: Path) -> None:
    """Every pointer from one page of a body to the next leads to nowhere."""
    with path.open("r+b") as file:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
        finally:
            connection.close()
        for number in range(2, pages):
            file.seek(number * 4096)
            (following,) = struct.unpack(">I", file.read(4))
            if following == number + 2:  # pages of one body follow each other
                file.seek(number * 4096)
                file.write(b"\0\0\0\0")


async def test_nothing_is_moved_while_a_message_is_in_quarantine(
    kit: Any, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool(options=kit.QUIET)
    left = await emptied(kit, spool)
    short_of_space(monkeypatch, spool)
    (work, *_) = await spool.due("cliff", 1000.0, 100)
    assert work.recipients[0].number in left
    await spool.settle(work.message, [kit.outcome(work.recipients[0].number, Disposition.QUARANTINED)])
    assert await spool._upkeep.shorten() == 0


async def test_a_round_ends_when_there_is_space_and_when_somebody_reads(
    kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool(options=kit.QUIET)
    step = kit.QUIET.pace.shorten_by
    await emptied(kit, spool)
    short_of_space(monkeypatch, spool)
    looks = iter([True, True, True, False])  # for the log, and for each step
    monkeypatch.setattr(spool._health, "short", lambda: next(looks, False))
    assert await spool._upkeep.shorten() == 2 * step

    reader = sqlite3.connect(directory / "queue.db")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM messages").fetchone()
    short_of_space(monkeypatch, spool)
    assert await spool._upkeep.shorten() == step, "there was no log to be held up"
    assert await spool._upkeep.shorten() == 0, "there is one now"
    reader.close()
    monkeypatch.setattr(spool._health, "short", lambda: False)
