"""A process beside the workers: started again when it ends, renewed, stopped, and never waited for in vain."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from router.daemon import companion as module
from router.daemon.companion import Companion
from router.daemon.starting import Order, Process

SLEEPS = "import time; time.sleep(60)"


class Told:
    def __init__(self) -> None:
        self.texts: list[str] = []

    async def __call__(self, text: str) -> None:
        self.texts.append(text)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


def started(path: Path) -> int:
    return len(path.read_text()) if path.exists() else 0


class Programs:
    """Starts the program that an order names."""

    async def start(self, order: Order) -> Process:
        return await asyncio.create_subprocess_exec(order.program, *order.words, stdin=asyncio.subprocess.DEVNULL)


def script(code: str) -> Order:
    return Order(sys.executable, "helper", ("-c", code))


def marks(path: Path, then: str) -> Order:
    """A program that leaves one mark behind for each of its starts."""
    return script(f"open({str(path)!r}, 'a').write('x'); {then}")


@pytest.mark.slow
async def test_it_is_started_again_when_it_ends(tmp_path: Path) -> None:
    path, told = tmp_path / "marks", Told()
    one = Companion("helper", lambda: marks(path, "raise SystemExit(3)"), Programs(), told)
    task = asyncio.create_task(one.run())
    await until(lambda: started(path) >= 2)
    await one.stop()
    await task
    assert told.texts[0] == "ended with exit code 3"


@pytest.mark.slow
async def test_it_is_started_again_though_its_end_cannot_be_told(tmp_path: Path) -> None:
    async def deaf(_text: str) -> None:
        raise RuntimeError("the database is down")

    path = tmp_path / "marks"
    one = Companion("helper", lambda: marks(path, "raise SystemExit(3)"), Programs(), deaf)
    task = asyncio.create_task(one.run())
    await until(lambda: started(path) >= 2 or task.done())
    await one.stop()
    await task
    assert started(path) >= 2


@pytest.mark.slow
async def test_a_renewal_starts_what_the_configuration_says_now(tmp_path: Path) -> None:
    path, told = tmp_path / "marks", Told()
    commands: list[Order | None] = [marks(path, SLEEPS), None, marks(path, SLEEPS)]
    one = Companion("helper", lambda: commands[0], Programs(), told)
    task = asyncio.create_task(one.run())
    await until(lambda: started(path) == 1)
    commands.pop(0)
    one.renew()
    await asyncio.sleep(0.3)
    assert started(path) == 1
    commands.pop(0)
    one.renew()
    await until(lambda: started(path) == 2)
    await one.stop()
    await task
    assert told.texts == []


@pytest.mark.slow
async def test_one_that_ignores_the_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.2)
    path = tmp_path / "marks"
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"{deaf}; open({str(path)!r}, 'a').write('x'); time.sleep(60)"
    one = Companion("helper", lambda: script(code), Programs(), Told())
    task = asyncio.create_task(one.run())
    await until(lambda: started(path) == 1)
    async with asyncio.timeout(30):
        await one.stop()
        await task
    assert started(path) == 1


@pytest.mark.slow
async def test_one_that_hangs_is_replaced_when_the_configuration_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.2)
    path = tmp_path / "marks"
    one = Companion(
        "helper",
        lambda: marks(path, f"import os, signal; os.kill(os.getpid(), {int(signal.SIGSTOP)})"),
        Programs(),
        Told(),
    )
    task = asyncio.create_task(one.run())
    await until(lambda: started(path) == 1)
    one.renew()
    await until(lambda: started(path) == 2)
    async with asyncio.timeout(30):
        await one.stop()
        await task


async def test_a_program_that_is_not_there_is_told_and_tried_again() -> None:
    told = Told()
    one = Companion("helper", lambda: Order("/nonexistent/program", "helper"), Programs(), told)
    task = asyncio.create_task(one.run())
    await until(lambda: told.texts)
    await one.stop()
    await task
    assert "No such file" in told.texts[0]
