"""The note of the message in hand: it outlives a death, and nothing else."""

import asyncio
from pathlib import Path
from typing import cast

import pytest
from support.disk_watch import DiskWatch

from router.daemon.single_step import NOTE, SingleStep
from router.deliver.place import Place
from router.model.envelope import Client, Envelope, HeaderFacts, QueuedMessage, Work
from router.spool.desk import Desk

PLACE = Place(lambda: False)


def work(queue_id: str) -> Work:
    return Work(QueuedMessage(1, queue_id, 0.0, Envelope("", Client("127.0.0.1")), 0, HeaderFacts()), ())


class FakeDesk:
    def __init__(self) -> None:
        self.parked: list[str] = []

    async def find(self, wanted: object) -> list[object]:
        self.parked.append(str(getattr(wanted, "queue_id", "")))
        return []

    async def park(self, numbers: list[int], *, actor: str, reason: str) -> int:
        assert actor == "daemon"
        assert "died" in reason
        return len(numbers)


async def test_one_message_at_a_time_with_a_note_around_it(tmp_path: Path) -> None:
    seen: list[str] = []
    running = 0

    async def handle(_lane: str, one: Work, _place: Place) -> None:
        nonlocal running
        running += 1
        assert running == 1
        seen.append(await asyncio.to_thread((tmp_path / NOTE).read_text))
        running -= 1

    guarded = SingleStep(tmp_path).guard(handle)
    await asyncio.gather(guarded("a", work("Q1"), PLACE), guarded("b", work("Q2"), PLACE))
    assert sorted(seen) == ["Q1", "Q2"]
    assert not (tmp_path / NOTE).exists()


async def test_the_note_is_on_disk_before_the_message_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = DiskWatch(tmp_path, monkeypatch)

    handled = []

    async def handle(_lane: str, one: Work, _place: Place) -> None:
        watch.durable()
        handled.append(one.message.queue_id)

    await SingleStep(tmp_path).guard(handle)("a", work("Q1"), PLACE)
    assert handled == ["Q1"]


@pytest.mark.parametrize("error", [RuntimeError("x"), asyncio.CancelledError()])
async def test_an_exception_or_a_stop_is_no_death(tmp_path: Path, error: BaseException) -> None:
    """Defect: the note stayed after a stop, and an innocent message was parked at a later start."""

    async def handle(_lane: str, _one: Work, _place: Place) -> None:
        raise error

    with pytest.raises(type(error)):
        await SingleStep(tmp_path).guard(handle)("a", work("Q1"), PLACE)
    assert not (tmp_path / NOTE).exists()


async def test_nothing_is_handled_without_its_note(tmp_path: Path) -> None:
    (tmp_path / NOTE).symlink_to(tmp_path / "elsewhere")

    async def handle(_lane: str, _one: Work, _place: Place) -> None:
        raise AssertionError("handled")

    with pytest.raises(OSError, match=NOTE):
        await SingleStep(tmp_path).guard(handle)("a", work("Q1"), PLACE)
    assert not (tmp_path / "elsewhere").exists()


async def test_the_suspect_is_parked_once(tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text("Q7")
    desk = FakeDesk()
    step = SingleStep(tmp_path)
    assert await step.park_suspect(cast("Desk", desk)) == "Q7"
    assert await step.park_suspect(cast("Desk", desk)) == ""
    assert desk.parked == ["Q7"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
async def test_an_unreadable_note_accuses_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NOTE).write_bytes(content)
    assert await SingleStep(tmp_path).park_suspect(cast("Desk", FakeDesk())) == ""
