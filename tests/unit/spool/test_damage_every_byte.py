"""
Every byte of a small message is flipped once, wherever it is kept: as it was, set aside or reported, never half.

The rows are flipped in the file itself, below SQLite, where a disk would do it. Others must be found all the same.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.errors import BodyDamaged
from router.model.envelope import QueuedRecipient, Work
from router.spool.finding import QueueFilter
from router.spool.pages import rows
from router.spool.recovering import Recovery
from router.spool.schema import DATABASE, PAGE_SIZE
from router.spool.setting_aside import parse, set_aside
from router.spool.spool import Spool

pytestmark = pytest.mark.slow

BODY = b"Subject: x\r\n\r\nhello victim\r\n"
OTHERS = ("before@example.edu", "after@example.edu")
COLUMNS = {"messages": 12, "recipients": 16}
LARGE = bytes(range(256)) * 8


def cell_of(data: bytes, columns: int, marker: str | bytes) -> range:
    """Where in the file the row with that value lies."""
    for number in range(len(data) // PAGE_SIZE):
        page = data[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
        for row in rows(page, lambda _number: None, first=number == 0):
            if row.values is not None and len(row.values) == columns and marker in row.values:
                return range(number * PAGE_SIZE + row.start, number * PAGE_SIZE + row.end)
    raise AssertionError("the row is not there")


async def filled(kit: Any, open_spool: Any) -> tuple[Work, list[int]]:
    """A victim between two others; all of one lane, which the victim's index entry names first."""
    spool = await open_spool()
    first = await kit.put(spool, kit.rcpt(OTHERS[0]), at=200.0)
    victim = await kit.put(spool, kit.rcpt("victim@example.edu"), body=BODY, at=100.0)
    last = await kit.put(spool, kit.rcpt(OTHERS[1]), at=300.0)
    await spool.close()
    return victim, [first.message.number, last.message.number]


def same(found: QueuedRecipient, given: QueuedRecipient) -> bool:
    return (found.number, found.address, found.notify) == (given.number, given.address, given.notify)


async def look(kit: Any, spool: Any, victim: Work, others: list[int]) -> str:
    """
    What became of the victim: 'whole', 'set aside' or 'reported'; everything else fails. 'ruined' when the spool says
    that its database is damaged, which ends its use: what is brought back from it then is another test's.
    """
    found: dict[int, Work] = {}
    for _ in range(2):  # one at a time: what cannot be used must not stand before the others for ever
        for limit in (1, 10):
            found.update((work.message.number, work) for work in await spool.due("cliff", 1000.0, limit))
    if spool.ruin:
        return "ruined"
    assert set(others) <= set(found)
    for number in others:
        assert await kit.read(spool, found[number].message) == b"Subject: x\r\n\r\nhello\r\n"
    (one,) = await spool.due("cliff", 1000.0, 1)
    work = found.pop(victim.message.number, None)
    assert set(found) == set(others), "nothing that was never accepted"
    if work is not None:
        assert (work.message, len(work.recipients)) == (victim.message, 1)
        assert same(work.recipients[0], victim.recipients[0])
        try:
            assert await kit.read(spool, work.message) == BODY
        except BodyDamaged:
            return "set aside"  # by the dispatcher, which settles it as quarantined
        return "whole"
    assert one.message.number in others
    aside = await spool.desk.find(QueueFilter(state="quarantined"))
    if any(entry.number == victim.recipients[0].number for entry in aside):
        return "set aside"
    assert spool.findings, "it is gone, and nobody says so"
    return "reported"


@pytest.mark.parametrize(("table", "marker"), [("messages", BODY), ("recipients", "victim@example.edu")])
async def test_inv_58_every_byte_of_a_row_flipped_once(
    kit: Any, open_spool: Any, directory: Path, table: str, marker: str | bytes
) -> None:
    victim, others = await filled(kit, open_spool)
    kept = directory.with_name("kept")
    shutil.copytree(directory, kept)
    sound = (kept / DATABASE).read_bytes()
    became: dict[str, int] = {}
    wrong = []
    for place in cell_of(sound, COLUMNS[table], marker):
        for mask in (0x01, 0x80):
            shutil.rmtree(directory, ignore_errors=True)
            shutil.copytree(kept, directory)
            flipped = bytearray(sound)
            flipped[place] ^= mask
            (directory / DATABASE).write_bytes(flipped)
            try:
                spool = await open_spool(create=False)
                try:
                    what = await look(kit, spool, victim, others)
                finally:
                    await spool.close()
                became[what] = became.get(what, 0) + 1
                if what == "ruined":
                    await bring_back(kit, directory)
            except Exception as error:  # noqa: BLE001 - nothing at all may come out
                wrong.append((place, mask, sound[place], repr(error)[:200]))
    assert not wrong, "\n".join(map(str, wrong))
    assert became["set aside"] > 100
    assert became["ruined"] < 30, "nearly all of it is the affair of that row alone"


async def bring_back(kit: Any, directory: Path) -> None:
    """The others are all there, and of the victim the whole or nothing."""
    place = parse(set_aside(directory, 1_800_000_000.0))
    assert place is not None
    result = await Recovery(place, lambda: 7, lambda: 1_800_000_000.0).run()
    new = directory.with_name("0007")
    spool = await Spool.open(new, 7, options=kit.QUIET)
    try:
        works = await spool.due("", 2_000_000_000.0, 10)
        told = {one.address.wire: await kit.read(spool, work.message) for work in works for one in work.recipients}
    finally:
        await spool.close()
    shutil.rmtree(new)
    shutil.rmtree(place.directory)
    assert told.pop("victim@example.edu", BODY) == BODY
    assert told == dict.fromkeys(OTHERS, b"Subject: x\r\n\r\nhello\r\n"), result


def flips(data: bytes) -> Iterator[bytes]:
    for place in range(len(data)):
        yield data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]


async def test_inv_58_every_byte_of_a_body_file_flipped_once(kit: Any, open_spool: Any, directory: Path) -> None:
    options = kit.QUIET.__class__(minimum_free=0, minimum_inodes=0, reserve=0, pace=kit.QUIET.pace, inline_limit=16)
    spool = await open_spool(options=options)
    victim = await kit.put(spool, body=LARGE)
    other = await kit.put(spool, kit.rcpt(OTHERS[0]), body=LARGE)
    path = directory / "bodies" / victim.message.body_file
    for flipped in flips(LARGE):
        path.write_bytes(flipped)
        with pytest.raises(BodyDamaged):
            await spool.body(victim.message)
        with pytest.raises(BodyDamaged):
            await spool.head(victim.message, 10)
    assert await kit.read(spool, other.message) == LARGE
    path.write_bytes(LARGE)
    assert await kit.read(spool, victim.message) == LARGE
