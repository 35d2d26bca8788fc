"""
Pages of the database destroyed at random, with and without a log: what is given out is what was accepted, and what is
not given out is reported by somebody. Nothing else is promised of such a database, and it is not written for long.
"""

import random
import shutil
from pathlib import Path
from typing import Any

from router.errors import BodyDamaged, SluiceError, SpoolDamaged
from router.spool.finding import QueueFilter
from router.spool.schema import DATABASE, PAGE_SIZE
from router.spool.spool import Spool

COUNT = 40
ROUNDS = 60


async def filled(kit: Any, open_spool: Any, directory: Path) -> dict[int, tuple[str, bytes]]:
    """A closed spool; by number, the address and the body of each message."""
    spool = await open_spool()
    given = {}
    for number in range(COUNT):
        body = b"Subject: x\r\n\r\n" + b"%d " % number * (50 * (number % 20))
        work = await kit.put(spool, kit.rcpt(f"u{number}@example.edu"), body=body, at=100.0 + number)
        given[work.message.number] = (f"u{number}@example.edu", body)
    await spool.close()
    return given


def destroy(path: Path, chance: random.Random, page: int) -> None:
    junk = chance.choice((bytes(PAGE_SIZE), b"\xff" * PAGE_SIZE, chance.randbytes(PAGE_SIZE), chance.randbytes(512)))
    with path.open("r+b") as file:
        file.seek(page * PAGE_SIZE)
        file.write(junk)


async def given_out(kit: Any, spool: Spool, given: dict[int, tuple[str, bytes]]) -> set[int]:
    """Messages that can be delivered; each is compared with what was accepted."""
    found = set()
    for work in await spool.due("cliff", 1000.0, 1000):
        (one,) = work.recipients
        address, body = given[work.message.number]
        assert one.address.wire == address
        try:
            assert await kit.read(spool, work.message) == body
        except BodyDamaged:
            continue
        found.add(work.message.number)
    return found


async def outcome(kit: Any, directory: Path, given: dict[int, tuple[str, bytes]]) -> str:
    try:
        spool = await Spool.open(directory, 1, options=kit.QUIET)
    except SpoolDamaged:
        return "not opened"
    try:
        found = await given_out(kit, spool, given)
        missing = set(given) - found
        if not missing:
            return "whole"
        if spool.ruin:
            return "ruined"
        aside = {entry.number >> 16 for entry in await spool.desk.find(QueueFilter(state="quarantined"))}
        named = {int(text.split()[1].rstrip(":")) >> 16 for text in spool.findings if text.startswith("recipient ")}
        damaged = {number for number in missing - aside - named if await unreadable(kit, spool, number)}
        assert missing <= aside | named | damaged, "gone, and nobody says so"
        return "reported"
    except SpoolDamaged:
        assert spool.ruin
        return "ruined"
    finally:
        await spool.close()


async def unreadable(kit: Any, spool: Spool, number: int) -> bool:
    """Its body is damaged: the dispatcher quarantines it."""
    (work,) = [one for one in await spool.due("cliff", 1000.0, 1000) if one.message.number == number]
    try:
        await kit.read(spool, work.message)
    except BodyDamaged:
        return True
    return False


async def test_inv_58_destroyed_pages_give_out_nothing_wrong(kit: Any, open_spool: Any, directory: Path) -> None:
    given = await filled(kit, open_spool, directory)
    kept = directory.with_name("kept")
    shutil.copytree(directory, kept)
    pages = (kept / DATABASE).stat().st_size // PAGE_SIZE
    became: dict[str, int] = {}
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        shutil.rmtree(directory)
        shutil.copytree(kept, directory)
        for _ in range(chance.choice((1, 1, 1, 3))):
            destroy(directory / DATABASE, chance, chance.randrange(pages))
        try:
            what = await outcome(kit, directory, given)
        except SluiceError as error:
            raise AssertionError(f"seed {seed}") from error
        became[what] = became.get(what, 0) + 1
    assert sum(became.values()) == ROUNDS
    assert min(became.get(what, 0) for what in ("not opened", "ruined", "whole")) > 0, became


async def test_a_database_that_is_none_is_damaged(kit: Any, open_spool: Any, directory: Path) -> None:
    await filled(kit, open_spool, directory)
    sound = (directory / DATABASE).read_bytes()
    for broken in (b"", b"\x00" * 100 + sound[100:], b"junk" * 5000, sound[: PAGE_SIZE * 3], sound[:-1000]):
        (directory / DATABASE).write_bytes(broken)
        before = (directory / DATABASE).read_bytes()
        try:
            spool = await Spool.open(directory, 1, options=kit.QUIET)
        except SpoolDamaged:
            assert (directory / DATABASE).read_bytes() == before
            continue
        await spool.close()
        raise AssertionError(f"{len(broken)} octets were opened")
