"""A damaged write-ahead log is damage, told before SQLite cuts it off; a torn end is only a torn end (PRC9)."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from router.errors import SpoolDamaged
from router.spool import wal, writer
from router.spool.schema import DATABASE
from router.spool.wal import FRAME, FRAME_HEADER, HEADER

pytestmark = pytest.mark.slow

COUNT = 12
LAST_TWO = 2


@pytest.fixture
async def killed(kit: Any, open_spool: Any, directory: Path, tmp_path: Path) -> Path:
    """A spool as kill -9 leaves it, with `COUNT` acknowledged messages, a transaction each, in its log alone."""
    spool = await open_spool()
    for number in range(COUNT):
        await kit.put(spool, kit.rcpt(f"u{number}@example.edu"))
    copy = tmp_path / "killed"
    shutil.copytree(directory, copy)
    await spool.close()
    assert (copy / f"{DATABASE}-wal").stat().st_size > COUNT * FRAME
    return copy


def log_of(directory: Path) -> Path:
    return directory / f"{DATABASE}-wal"


def found(directory: Path) -> list[wal.Frame]:
    return list(wal.frames(log_of(directory)))


def flip(path: Path, place: int, mask: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        octet = file.read(1)[0]
        file.seek(place)
        file.write(bytes([octet ^ mask]))


def boundaries(frames: list[wal.Frame]) -> list[int]:
    """Index behind each commit."""
    return [index + 1 for index, frame in enumerate(frames) if frame.commit]


async def opens(kit: Any, directory: Path) -> int:
    """Messages that a spool opened there has."""
    from router.spool.spool import Spool  # noqa: PLC0415 - beside its only use

    spool = await Spool.open(directory, 1, options=kit.QUIET)
    try:
        return (await spool.desk.counts()).mail.queued
    finally:
        await spool.close()


async def test_a_sound_log_is_sound_and_read(kit: Any, killed: Path) -> None:
    assert wal.damage(killed / DATABASE) == ""
    assert all(frame.sound for frame in found(killed))
    assert await opens(kit, killed) == COUNT


async def test_a_bad_frame_before_the_last_transactions_is_damage_and_nothing_is_cut_off(
    kit: Any, killed: Path
) -> None:
    frames = found(killed)
    log = log_of(killed)
    sound = log.read_bytes()
    last = boundaries(frames)[-LAST_TWO - 1]
    for index, frame in enumerate(frames[:last]):
        for place in (frame.place, frame.place + 4000, frame.place - FRAME_HEADER + 9, frame.place - 2):
            log.write_bytes(sound)
            flip(log, place)
            before = log.read_bytes()
            assert f"frame {index + 1} of" in wal.damage(killed / DATABASE), (index, place)
            if index % 9 == 0:
                with pytest.raises(SpoolDamaged, match="of the log is damaged"):
                    await opens(kit, killed)
                assert log.read_bytes() == before


def test_a_damaged_head_is_damage(killed: Path) -> None:
    for place in range(HEADER):
        flip(log_of(killed), place)
        assert "the head of the log is damaged" in wal.damage(killed / DATABASE), place
        flip(log_of(killed), place)
    assert wal.damage(killed / DATABASE) == ""


def test_a_log_cut_at_any_place_is_a_torn_end(killed: Path) -> None:
    log = log_of(killed)
    size = log.stat().st_size
    for length in [*range(size - 2 * FRAME, 0, -1733), 40, 32, 31, 1, 0]:
        os.truncate(log, length)
        assert wal.damage(killed / DATABASE) == "", length


def test_any_frames_of_the_last_transaction_may_be_missing(killed: Path) -> None:
    """It was not synced: a power cut keeps any of its sectors and loses any."""
    frames = found(killed)
    log = log_of(killed)
    sound = log.read_bytes()
    first = frames[boundaries(frames)[-2]].place - FRAME_HEADER
    chance = random.Random(5)
    assert len(sound) - first > 2 * FRAME
    for _ in range(300):
        torn = bytearray(sound)
        for sector in range(first, len(sound), 512):
            if chance.random() < chance.choice((0.1, 0.5, 0.9)):
                torn[sector : sector + 512] = bytes(len(torn[sector : sector + 512]))
        log.write_bytes(torn)
        assert wal.damage(killed / DATABASE) == ""


def test_what_two_power_cuts_left_behind_the_end_is_not_damage(killed: Path) -> None:
    """Frames of transactions that were never synced, of the present salt, a commit among them; none follows another."""
    log = log_of(killed)
    sound = log.read_bytes()
    frames = found(killed)
    commit = next(frame for frame in frames if frame.commit)
    left = [frame.place - FRAME_HEADER for frame in (commit, frames[-LAST_TWO], frames[1])]
    log.write_bytes(sound + b"".join(sound[place : place + FRAME] for place in left))
    assert len(found(killed)) == len(frames) + len(left)
    assert wal.damage(killed / DATABASE) == ""


async def test_frames_of_a_former_round_are_not_taken_for_damage(kit: Any, open_spool: Any, directory: Path) -> None:
    """The log began anew over a longer one: what is behind its end is old, whatever it looks like."""
    spool = await open_spool()
    for _ in range(COUNT):
        await kit.put(spool)
    spool._writer._dirty_pages = 1_000_000  # it copies the log back after the next commit
    await kit.put(spool)
    await kit.put(spool)
    copy = directory.with_name("killed")
    shutil.copytree(directory, copy)
    await spool.close()
    frames = found(copy)
    assert len(frames) * FRAME < log_of(copy).stat().st_size - HEADER
    assert wal.damage(copy / DATABASE) == ""
    assert await opens(kit, copy) == COUNT + 2


async def test_the_log_of_one_short_life_after_the_other_does_not_grow(
    kit: Any, open_spool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: only what a worker had written itself was counted, so that workers killed young filled the disk."""
    monkeypatch.setattr(writer, "_CHECKPOINT_PAGES", 150)
    place, sizes = tmp_path / "0" / "0001", []
    for life in range(8):
        spool = await open_spool(create=life == 0, at=place)
        for number in range(COUNT):
            await kit.put(spool, kit.rcpt(f"u{number}@example.edu"))
        following = tmp_path / str(life + 1) / "0001"
        shutil.copytree(place, following)  # as kill -9 leaves it
        await spool.close()
        sizes.append(log_of(following).stat().st_size // FRAME)
        place = following
    assert sizes[0] < 150, "each life alone is a short one"
    assert max(sizes) < 150 + 2 * sizes[0], sizes
