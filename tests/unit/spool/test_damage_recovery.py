"""
Bringing mail back from a damaged spool: everything that is left, once, and nothing that was delivered.

The oracle is what was accepted and what was closed: a recipient is undelivered, or the journal has it, never both.
"""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from router.errors import Conflict
from router.model.envelope import Work
from router.model.outcome import Disposition
from router.spool import recovering
from router.spool.finding import QueueEntry, QueueFilter
from router.spool.lock import SpoolLock, SpoolLocked
from router.spool.offline import view
from router.spool.recovering import UNTOLD, Recovered, Recovery
from router.spool.schema import DATABASE, PAGE_SIZE
from router.spool.setting_aside import parse, set_aside
from router.spool.spool import Spool
from router.spool.wal import FRAME, HEADER

pytestmark = pytest.mark.slow

NEW = 7
LARGE = bytes(range(256)) * 400
AT = 1_800_000_000.0


@dataclass
class Mail:
    """What is in the spool: by address, the body, and what is to become of it."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    undelivered: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    parked: set[str] = field(default_factory=set)


async def fill(kit: Any, spool: Spool, *, count: int = 60) -> Mail:
    """Every sort of mail, with small, overflowing and large bodies; a third of it is delivered."""
    mail = Mail()
    for number in range(count):
        body = LARGE if number % 20 == 7 else b"Subject: x\r\n\r\n" + b"%d " % number * (number * 40)
        names = [f"u{number}@example.edu", f"v{number}@example.edu"]
        work = await kit.put(spool, *(kit.rcpt(name, held=number % 5 == 4) for name in names), body=body, at=number)
        mail.bodies.update(dict.fromkeys(names, body))
        mail.undelivered.update(names)
        if number % 3 == 0:
            await close(kit, spool, mail, work, names[: 1 + number % 2])
        elif number % 11 == 1:
            await spool.desk.park([work.recipients[0].number], actor="root", reason="odd")
            mail.parked.add(names[0])
    return mail


async def close(kit: Any, spool: Spool, mail: Mail, work: Work, names: list[str]) -> None:
    outcomes = [kit.outcome(one.number, Disposition.DELIVERED) for one in work.recipients if one.address.wire in names]
    await spool.settle(work.message, outcomes)
    mail.closed.update(names)
    mail.undelivered.difference_update(names)


@pytest.fixture
async def damaged(kit: Any, open_spool: Any, directory: Path) -> tuple[Path, Mail]:
    """A spool of an unclean end, half of it in its log, under its name; and what it had."""
    spool = await open_spool()
    await spool.remember("site", 41)
    mail = await fill(kit, spool)
    await spool.remember("site", 42)
    spool._writer._dirty_pages = 1_000_000  # copy the log back
    await kit.put(spool, kit.rcpt("last@example.edu"), at=999.0)
    mail.bodies["last@example.edu"] = b"Subject: x\r\n\r\nhello\r\n"
    mail.undelivered.add("last@example.edu")
    await spool.move_journal()
    for number in range(100, 112):
        name = f"w{number}@example.edu"
        work = await kit.put(spool, kit.rcpt(name), at=1000.0 + number)
        mail.bodies[name] = b"Subject: x\r\n\r\nhello\r\n"
        mail.undelivered.add(name)
        if number % 3 == 0:
            await close(kit, spool, mail, work, [name])
    copy = directory.with_name("kept")
    shutil.copytree(directory, copy)
    await spool.close()
    shutil.rmtree(directory)
    copy.rename(directory)
    return directory, mail


async def recover(directory: Path, *, dry_run: bool = False, number: int = NEW) -> Recovered:
    place = parse(directory)
    assert place is not None
    return await Recovery(place, lambda: number, lambda: AT).run(dry_run=dry_run)


def entries(root: Path, number: int = NEW) -> list[QueueEntry]:
    with view(root / f"{number:04d}") as spool:
        assert spool.examine().sound
        assert spool.counts().mail.balanced
        return spool.find(QueueFilter(limit=10_000))


async def bodies(kit: Any, root: Path, number: int = NEW) -> dict[str, bytes]:
    spool = await Spool.open(root / f"{number:04d}", number, options=kit.QUIET)
    try:
        works = await spool.desk.works([one.number for one in await spool.desk.find(QueueFilter())])
        return {one.address.wire: await kit.read(spool, work.message) for work in works for one in work.recipients}
    finally:
        await spool.close()


async def check(kit: Any, root: Path, mail: Mail, result: Recovered) -> set[str]:
    """Nothing twice, nothing that was closed, nothing changed; the addresses that are back."""
    if not result.spool:
        return set()
    found = entries(root)
    names = [entry.recipient for entry in found]
    assert len(names) == len(set(names)) == result.recipients
    assert set(names) <= mail.undelivered, set(names) - mail.undelivered
    assert {entry.recipient for entry in found if entry.state == "parked"} <= mail.parked
    assert {entry.state for entry in found} <= {"queued", "parked"}
    for name, body in (await bodies(kit, root)).items():
        assert body == mail.bodies[name], name
    return set(names)


def nothing(_path: Path) -> None:
    """The files are as they were."""


def no_header(path: Path) -> None:
    overwrite(path / DATABASE, 0, bytes(100))


def no_first_page(path: Path) -> None:
    overwrite(path / DATABASE, 0, b"\xa5" * PAGE_SIZE)


def no_inner_pages(path: Path) -> None:
    """Roots and inner pages are gone: SQLite finds nothing at all."""
    data = (path / DATABASE).read_bytes()
    for number in range(1, len(data) // PAGE_SIZE):
        if data[number * PAGE_SIZE] in {2, 5}:
            overwrite(path / DATABASE, number * PAGE_SIZE, bytes(PAGE_SIZE))


def overwrite(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


@pytest.mark.parametrize("harm", [nothing, no_header, no_first_page, no_inner_pages])
async def test_all_of_it_comes_back_when_no_row_is_lost(
    kit: Any, damaged: tuple[Path, Mail], harm: Callable[[Path], None]
) -> None:
    directory, mail = damaged
    harm(directory)
    place = set_aside(directory, AT)
    before = (place / DATABASE).read_bytes(), (place / f"{DATABASE}-wal").read_bytes()
    result = await recover(place)
    assert (result.untold, result.broken, result.journal_complete) == (0, 0, True)
    assert await check(kit, directory.parent, mail, result) == mail.undelivered
    assert {one.recipient for one in entries(directory.parent) if one.state == "parked"} == mail.parked
    with view(directory.parent / f"{NEW:04d}") as new:
        assert new.remembered() == ("site", 42)
    assert ((place / DATABASE).read_bytes(), (place / f"{DATABASE}-wal").read_bytes()) == before


async def test_a_second_run_and_a_dry_one_bring_nothing(kit: Any, damaged: tuple[Path, Mail]) -> None:
    directory, mail = damaged
    place = set_aside(directory, AT)
    listed = sorted(place.rglob("*"))
    wanted = await recover(place, dry_run=True)
    assert sorted(place.rglob("*")) == listed
    assert wanted.recipients == len(mail.undelivered)
    assert not (directory.parent / f"{NEW:04d}").exists()
    first = await recover(place)
    again = await recover(place, number=8)
    assert (again.before, again.spool, again.recipients) == (True, NEW, first.recipients)
    shutil.rmtree(directory.parent / f"{NEW:04d}")  # drained, and removed by somebody
    assert (await recover(place, number=9)).before
    assert sorted(path.name for path in directory.parent.iterdir()) == [place.name]


class Killed(BaseException):
    """The process is gone."""


def steps(monkeypatch: pytest.MonkeyPatch, limit: int) -> Callable[[], int]:
    """Dies before the step of that number: a note, a message, a file of what is untold, the name, the end."""
    taken = 0

    def counted(original: Any) -> Any:
        def step(*args: Any, **keys: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken > limit:
                raise Killed
            return original(*args, **keys)

        return step

    for name in ("write_durably", "sync_directory", "stored"):
        monkeypatch.setattr(recovering, name, counted(getattr(recovering, name)))
    monkeypatch.setattr(Spool, "restore", counted(Spool.restore))
    monkeypatch.setattr(Recovery, "_publish", counted(Recovery._publish))
    monkeypatch.setattr(Recovery, "_ended", counted(Recovery._ended))
    return lambda: taken


async def test_killed_at_any_step_it_brings_all_back_once(
    kit: Any, open_spool: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await open_spool()
    mail = await fill(kit, spool, count=8)
    await spool.close()
    kept = set_aside(directory, AT)
    home = directory.parent
    stash = home.with_name("stash")
    kept.rename(stash)
    for limit in range(200):
        shutil.rmtree(home)
        home.mkdir(mode=0o700)
        shutil.copytree(stash, kept)
        with monkeypatch.context() as patched:
            taken = steps(patched, limit)
            try:
                await recover(kept)
                ended = True
            except Killed:
                ended = False
        assert taken() >= limit
        delivered = (home / f"{NEW:04d}").exists()
        result = await recover(kept, number=NEW if not ended else 8)
        assert result.before == delivered
        assert [path.name for path in home.iterdir() if path.name.isdigit()] == [f"{NEW:04d}"]
        assert {entry.recipient for entry in entries(home)} == mail.undelivered
        if ended:
            assert limit > 10
            return
    raise AssertionError("it never came to its end")


async def test_destroyed_pages_cost_what_was_on_them_and_nothing_comes_twice(
    kit: Any, damaged: tuple[Path, Mail]
) -> None:
    directory, mail = damaged
    stash = directory.parent.with_name("stash")
    directory.rename(stash)
    size = (stash / DATABASE).stat().st_size
    back, worst = [], 1.0
    for seed in range(25):
        chance = random.Random(seed)
        shutil.rmtree(directory.parent)
        directory.parent.mkdir(mode=0o700)
        shutil.copytree(stash, directory)
        for _ in range(chance.choice((1, 1, 3))):
            place = chance.randrange(size // PAGE_SIZE) * PAGE_SIZE
            overwrite(directory / DATABASE, place, chance.randbytes(PAGE_SIZE))
        aside = set_aside(directory, AT)
        found = await check(kit, directory.parent, mail, await recover(aside))
        back.append(len(found))
        worst = min(worst, len(found) / len(mail.undelivered))
    assert max(back) == len(mail.undelivered)
    assert worst > 0.1
    assert sum(back) > 0.8 * len(back) * len(mail.undelivered)


async def test_a_damaged_log_gives_back_what_is_behind_the_bad_frame(kit: Any, damaged: tuple[Path, Mail]) -> None:
    directory, mail = damaged
    stash = directory.parent.with_name("stash")
    directory.rename(stash)
    frames = ((stash / f"{DATABASE}-wal").stat().st_size - HEADER) // FRAME
    for bad in range(0, frames, max(1, frames // 7)):
        shutil.rmtree(directory.parent)
        directory.parent.mkdir(mode=0o700)
        shutil.copytree(stash, directory)
        overwrite(directory / f"{DATABASE}-wal", HEADER + bad * FRAME + 24, b"\xa5" * PAGE_SIZE)
        aside = set_aside(directory, AT)
        result = await recover(aside)
        found = await check(kit, directory.parent, mail, result)
        told = {path.stem for path in (aside / UNTOLD).glob("*.eml")} if (aside / UNTOLD).exists() else set()
        assert len(mail.undelivered - found) <= 4 + 2 * len(told), (bad, mail.undelivered - found)


async def test_without_proof_in_the_journal_nothing_is_sent_again(kit: Any, damaged: tuple[Path, Mail]) -> None:
    """A frame of the log is lost, and so are lines of the journal: any row may be that of a delivered recipient."""
    directory, mail = damaged
    overwrite(directory / f"{DATABASE}-wal", HEADER + 24, b"\xa5" * PAGE_SIZE)
    months = directory / "journal" / "1970-01.jsonl"
    lines = months.read_bytes().splitlines(keepends=True)
    months.write_bytes(b"".join(lines[:3] + lines[4:]))
    number = b'{"number":%d,' % json.loads(lines[3])["number"]
    for name in (DATABASE, f"{DATABASE}-wal"):  # older versions of pages have the line, too
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data.replace(number, number.replace(b":", b"?")))
    aside = set_aside(directory, AT)
    result = await recover(aside)
    assert (result.journal_complete, result.spool, result.recipients) == (False, 0, 0)
    told = "".join(path.read_text() for path in (aside / UNTOLD).glob("*.json"))
    assert all(f'"{name}"' in told for name in mail.undelivered if not name.startswith("w"))
    assert [path.name for path in directory.parent.iterdir()] == [aside.name]


async def test_a_damaged_body_is_left_to_people_with_its_envelope(kit: Any, damaged: tuple[Path, Mail]) -> None:
    directory, mail = damaged
    (first, *_) = (directory / "bodies").iterdir()
    overwrite(first, 1000, b"\xff")
    aside = set_aside(directory, AT)
    result = await recover(aside)
    assert result.untold == 1
    found = await check(kit, directory.parent, mail, result)
    assert 0 < len(mail.undelivered - found) <= 2
    (text,) = (aside / UNTOLD).glob("*.json")
    assert all(name in text.read_text() for name in mail.undelivered - found)
    assert len(text.with_suffix(".eml").read_bytes()) == len(LARGE)


async def test_a_number_that_is_taken_is_not_taken_for_a_former_run(damaged: tuple[Path, Mail]) -> None:
    """A restored control database may not know the latest spools."""
    directory, mail = damaged
    aside = set_aside(directory, AT)
    (directory.parent / "0007").mkdir()
    numbers = iter([7, 1, 8])
    place = parse(aside)
    assert place is not None
    result = await Recovery(place, lambda: next(numbers), lambda: AT).run()
    assert (result.spool, result.recipients) == (8, len(mail.undelivered))


async def test_two_at_once_a_copy_and_an_unreadable_note_are_refused(damaged: tuple[Path, Mail]) -> None:
    directory, _ = damaged
    aside = set_aside(directory, AT)
    other = SpoolLock(aside)
    other.acquire()
    with pytest.raises(SpoolLocked):
        await recover(aside)
    other.release()
    copy = aside.with_name("0001.damaged-20200101T000000Z")
    shutil.copytree(aside, copy)
    with pytest.raises(Conflict, match="one of them is a copy"):
        await recover(aside)
    shutil.rmtree(copy)
    (aside / "recovered").write_text("{")
    with pytest.raises(Conflict, match="cannot be understood"):
        await recover(aside)
