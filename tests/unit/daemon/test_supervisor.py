"""The supervisor with workers that are small scripts: starts, deaths, silence, stops and reloads."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from router.daemon import supervisor as module
from router.daemon.child import Child, describe
from router.daemon.notify import Notifier
from router.daemon.site import Site
from router.daemon.starting import Order, Process
from router.daemon.supervisor import Supervisor
from router.errors import ControlUnavailable
from router.settings.schema import Listener, Settings

READY = "import os,sys,time; os.write(int(sys.argv[1]), b'ready\\n'); time.sleep(60)"
SILENT = "import time; time.sleep(60)"


class FakeSite:
    """A site with `count` spools and no database."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self.down = False
        self.silent: dict[int, int] = {}
        self.alarms: list[str] = []

    def spools(self, workers: int) -> list[int]:
        return list(range(max(workers, self.count)))

    def silent_members(self) -> dict[int, int]:
        if self.down:
            raise ControlUnavailable("down")
        return self.silent

    def homes(self) -> dict[str, int]:
        raise ControlUnavailable("down")

    def alarm(self, kind: str, key: str, text: str) -> None:
        raise ControlUnavailable("down")


class Told(Notifier):
    def __init__(self) -> None:
        super().__init__({})
        self.said: list[str] = []

    def _send(self, text: str) -> None:
        self.said.append(text.partition("=")[0])


class Scripted(Supervisor):
    """It starts workers itself: each start runs the next of its scripts, the last one again and again."""

    def __init__(self, path: Path, settings: Settings, site: FakeSite, scripts: Sequence[str]) -> None:
        self.told = Told()
        super().__init__(path, settings, cast("Site", site), self.told, self)
        self.scripts = list(scripts)
        self.starts: list[bool] = []

    async def start(self, order: Order) -> Process:
        self.starts.append("--single-step" in order.words)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-c", self.script(order), str(order.ready)),
            pass_fds=order.descriptors,
            stdin=asyncio.subprocess.DEVNULL,
        )

    def script(self, order: Order) -> str:
        return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(45):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        self._stopping.set()

    def serving(self) -> bool:
        return "READY" in self.told.said


@pytest.fixture
def settings() -> Settings:
    given = Settings.model_validate(
        {
            "hostname": "mx.example.edu",
            "state_dir": "/nowhere",
            "stores": {},
            "domains": {},
            "listen": [],
            "postmaster": "root@example.edu",
        }
    )
    return given.model_copy(update={"safety": given.safety.model_copy(update={"ack_timeout": 0.2})})


@pytest.fixture
def sockets() -> Iterator[list[list[socket.socket]]]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield [[one]]


@pytest.fixture(autouse=True)
async def _no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor's handlers belong to its own process; the test runner's are left alone."""
    monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", lambda *_: None, raising=False)


@pytest.mark.slow
async def test_a_dead_worker_is_started_again_at_once_and_stopped_in_order(
    settings: Settings, sockets: list[list[socket.socket]], tmp_path: Path
) -> None:
    boss = Scripted(tmp_path, settings, FakeSite(), [READY])
    running = asyncio.ensure_future(boss.run(sockets))
    await boss.until(boss.serving)
    [child] = boss._children
    assert child.process is not None
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    await boss.until(lambda: child.process is not None and child.process.pid != first)
    assert len(child.deaths) == 1
    boss.stop()
    assert await asyncio.wait_for(running, 45) == 0
    assert child.process is None
    assert boss.told.said == ["READY", "STOPPING"]


@pytest.mark.slow
async def test_when_no_worker_can_start_the_daemon_ends_with_its_code(
    settings: Settings, sockets: list[list[socket.socket]], tmp_path: Path
) -> None:
    """Defect: a second daemon on one state directory kept its share of the port's connections and answered none."""
    boss = Scripted(tmp_path, settings, FakeSite(), ["raise SystemExit(71)"])
    assert await asyncio.wait_for(boss.run(sockets), 45) == 71
    assert "READY" not in boss.told.said


@pytest.mark.slow
async def test_one_worker_that_cannot_start_does_not_keep_the_others_from_being_announced(
    settings: Settings, sockets: list[list[socket.socket]], tmp_path: Path
) -> None:
    """Defect: READY waited for every worker, and systemd would have ended a daemon that served."""
    boss = Scripted(tmp_path, settings, FakeSite(2), [READY])

    def script(order: Order) -> str:
        return READY if order.name == "sluice-worker0" else "raise SystemExit(71)"

    boss.script = script  # type: ignore[method-assign]
    running = asyncio.ensure_future(boss.run([*sockets, sockets[0]]))
    await boss.until(boss.serving)
    boss.stop()
    assert await asyncio.wait_for(running, 45) == 0


@pytest.mark.slow
async def test_a_worker_that_cannot_be_forked_is_tried_again(
    settings: Settings, sockets: list[list[socket.socket]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: the error ended the task that keeps the worker alive; its spool was never served again."""
    monkeypatch.setattr(module, "_LONGEST_WAIT", 0.05)
    boss = Scripted(tmp_path, settings, FakeSite(), [READY])
    running = asyncio.ensure_future(boss.run(sockets))
    await boss.until(boss.serving)
    [child] = boss._children
    real, calls, before = asyncio.create_subprocess_exec, [], descriptors()

    async def failing(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) < 3:
            raise BlockingIOError("fork: resource temporarily unavailable")
        return await real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", failing)
    assert child.process is not None
    child.process.send_signal(signal.SIGKILL)
    await boss.until(lambda: len(calls) == 3 and child.process is not None)
    assert descriptors() <= before + 1
    boss.stop()
    assert await asyncio.wait_for(running, 45) == 0


@pytest.mark.slow
async def test_a_worker_born_during_a_stop_is_told_of_it(
    settings: Settings, sockets: list[list[socket.socket]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: it missed the signal, and the stop took until it was killed."""
    boss = Scripted(tmp_path, settings, FakeSite(), [SILENT])
    real, forking, go = asyncio.create_subprocess_exec, asyncio.Event(), asyncio.Event()

    async def slow(*args: object, **kwargs: object) -> object:
        forking.set()
        await go.wait()
        return await real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    running = asyncio.ensure_future(boss.run(sockets))
    await forking.wait()
    boss.stop()
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.wait_for(running, 45) == 0


@pytest.mark.slow
async def test_a_worker_that_does_not_end_is_killed(
    settings: Settings, sockets: list[list[socket.socket]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.2)
    stubborn = "import os,signal,sys,time; signal.signal(15, signal.SIG_IGN); os.write(int(sys.argv[1]), b'ready\\n')"
    boss = Scripted(tmp_path, settings, FakeSite(), [stubborn + "\nwhile True: time.sleep(60)"])
    running = asyncio.ensure_future(boss.run(sockets))
    await boss.until(boss.serving)
    boss.stop()
    assert await asyncio.wait_for(running, 45) == 0


@pytest.mark.slow
async def test_a_stopped_worker_that_owes_an_acknowledgement_is_killed(
    settings: Settings, sockets: list[list[socket.socket]], tmp_path: Path
) -> None:
    site = FakeSite()
    boss = Scripted(tmp_path, settings, site, [READY])
    running = asyncio.ensure_future(boss.run(sockets))
    await boss.until(boss.serving)
    [child] = boss._children
    assert child.process is not None
    first = child.process.pid
    os.kill(first, signal.SIGSTOP)
    site.silent = {first: 7}
    await boss.until(lambda: len(boss.starts) == 2)
    assert child.blameless == set(child.deaths)
    boss.stop()
    assert await asyncio.wait_for(running, 45) == 0


@pytest.mark.slow
def test_auto_is_a_worker_for_each_core_that_may_be_used(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    listener = Listener.model_validate({"address": "127.0.0.1", "port": 0})
    bound = Supervisor.bind(settings.model_copy(update={"listen": (listener,)}), [])
    assert [len(row) for row in bound] == [1, 1, 1]
    for (one,) in bound:
        one.close()


@pytest.mark.parametrize("down", [False, True])
async def test_a_stopped_worker_is_killed_though_it_owes_nothing(
    down: bool, settings: Settings, sockets: list[list[socket.socket]], tmp_path: Path
) -> None:
    """It may have been stopped with a lock of the control database in its hands: then nobody can change anything."""
    site = FakeSite()
    boss = Scripted(tmp_path, settings, site, [READY])
    running = asyncio.ensure_future(boss.run(sockets))
    await boss.until(boss.serving)
    [child] = boss._children
    assert child.process is not None
    site.down = down
    os.kill(child.process.pid, signal.SIGSTOP)
    await boss.until(lambda: len(boss.starts) == 2)
    assert child.blameless == set(child.deaths)
    boss.stop()
    assert await asyncio.wait_for(running, 45) == 0


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class FakeProcess:
    pid = 4711
    returncode = None

    def __init__(self) -> None:
        self.signals: list[int] = []

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


@pytest.fixture
def watched(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Supervisor, FakeProcess]:
    boss = Scripted(tmp_path, settings, FakeSite(), [READY])
    process = FakeProcess()
    boss._children.append(Child(0, 0, (), cast("Process", process)))
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    clock[0] = 100.0
    return boss, process


clock = [0.0]


def test_a_member_that_follows_is_not_silent_however_many_changes_come(
    watched: tuple[Supervisor, FakeProcess],
) -> None:
    """Defect: under a steady stream of changes every member was always a little behind, and was killed for it."""
    boss, process = watched
    for epoch in range(50):
        boss._kill_silent({4711: epoch})
        clock[0] += 0.1
    assert process.signals == []
    for _ in range(4):
        boss._kill_silent({4711: 50})
        clock[0] += 0.1
    assert signal.SIGKILL in process.signals


def test_members_of_others_are_none_of_ours(watched: tuple[Supervisor, FakeProcess]) -> None:
    boss, process = watched
    for _ in range(10):
        boss._kill_silent({815: 3})
        clock[0] += 1.0
    assert process.signals == []
    assert boss._silent_since == {}


async def test_an_outage_of_the_control_database_is_no_silence_of_the_members(
    settings: Settings, tmp_path: Path
) -> None:
    """Defect: a member seen behind before an outage was killed at its end, before it could acknowledge."""
    site = FakeSite()
    boss = Scripted(tmp_path, settings, site, [READY])
    boss._silent_since = {4711: (3, 0.0)}
    site.down = True
    watching = asyncio.ensure_future(boss._watch_acknowledgements())
    await boss.until(lambda: boss._silent_since == {})
    watching.cancel()


def test_only_deaths_at_work_lead_to_single_step_mode() -> None:
    """Defect: failed starts (a database that was down) put a worker into single-step mode for good."""
    child = Child(0, 0, ())
    for at in (1.0, 2.0, 3.0, 4.0):
        child.died(71, at, killed=False)
        child.died(-9, at + 0.5, killed=True)
    assert not child.single_step(5.0)
    for at in (5.0, 6.0, 7.0):
        child.died(-11, at, killed=False)
    assert child.single_step(8.0)
    assert not child.single_step(100.0)
    child.died(-11, 200.0, killed=False)
    assert child.deaths == [200.0]
    assert child.blameless == set()


async def test_a_reload_that_fails_in_any_way_is_over_and_said_to_be_over(settings: Settings, tmp_path: Path) -> None:
    """Defect: with the control database down neither the refusal nor READY=1 was told; systemd waited for ever."""
    config = tmp_path / "sluice.yaml"
    config.write_text("hostname: mx.example.edu\n")
    boss = Scripted(config, settings, FakeSite(), [READY])
    await boss._reload()
    assert boss.told.said == ["RELOADING", "READY"]
    assert boss._settings is settings


@pytest.mark.parametrize(("code", "text"), [(0, "exit code 0"), (75, "exit code 75"), (-9, "signal SIGKILL")])
def test_deaths_are_told_by_name(code: int, text: str) -> None:
    assert describe(code) == text
