"""A worker and the configuration that is published: it is followed until it is in force, whatever is down meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from router.control.follower import Follower
from router.daemon import worker as module
from router.daemon.worker import Worker, WorkerOptions
from router.errors import ControlUnavailable, SluiceError
from router.report.observer import Observer
from router.settings.schema import Settings


class Surface:
    """Everything of a worker that a reload touches."""

    def __init__(self) -> None:
        self.published = "two"
        self.file = "two"
        self.down = 0
        self.told: list[str] = []
        self.used: list[str] = []
        self.alarms: list[str] = []
        self.fenced = False

    def run_read(self, _query: Callable[..., Any]) -> str:
        self._fail()
        return self.published

    async def reconfigure(self, fingerprint: str) -> None:
        self._fail()
        self.told.append(fingerprint)

    def use(self, settings: Settings, _rules: object) -> Callable[[], Awaitable[None]]:
        self.used.append(settings.fingerprint)

        async def let_go() -> None:
            return None

        return let_go

    def recall(self, _state_dir: Path, fingerprint: str) -> Settings:
        if fingerprint != self.file:
            raise SluiceError("the published configuration is not here")
        return settings(fingerprint)

    def alarm(self, kind: str, _key: str, _text: str) -> None:
        self.alarms.append(kind)

    def clear(self, _kind: str, _key: str) -> None:
        self.alarms.clear()

    def _fail(self) -> None:
        if self.down:
            self.down -= 1
            raise ControlUnavailable("down")


def settings(fingerprint: str) -> Settings:
    given = {
        "hostname": "mx.example.edu",
        "state_dir": "/nowhere",
        "stores": {},
        "domains": {},
        "listen": [],
        "postmaster": "root@example.edu",
    }
    return Settings.model_validate(given).model_copy(update={"fingerprint": fingerprint})


@pytest.fixture
def surface(monkeypatch: pytest.MonkeyPatch) -> Surface:
    surface = Surface()
    monkeypatch.setattr(module, "_TRY_AGAIN", 0.01)
    monkeypatch.setattr(module, "recall", surface.recall)
    monkeypatch.setattr(module, "load_rules", lambda _settings: None)
    return surface


@pytest.fixture
def worker(surface: Surface) -> Worker:
    one = Worker(settings("one"), WorkerOptions(Path("sluice.yaml"), 0, 0), cast("Observer", None))
    parts = {
        "_database": surface,
        "_follower": cast("Follower", surface),
        "_trace": surface,
        "_wiring": SimpleNamespace(use=surface.use, plane=SimpleNamespace(receiver=None)),
    }
    for name, part in parts.items():
        setattr(one, name, part)
    return one


@pytest.mark.parametrize("failures", [0, 1, 2, 3])
async def test_a_reload_is_tried_until_it_is_in_force_and_known(
    surface: Surface, worker: Worker, failures: int
) -> None:
    """Defect: one unreadable moment of the database, and the worker kept all holds from becoming quiet for ever."""
    surface.down = failures
    async with asyncio.timeout(60):
        await worker._reload()
    assert surface.used == ["two"]
    assert surface.told == ["two"]
    assert surface.alarms == []


async def test_a_published_configuration_that_cannot_be_read_is_tried_until_it_can(
    surface: Surface, worker: Worker
) -> None:
    surface.file = "three"
    reloading = asyncio.ensure_future(worker._reload())
    while "configuration" not in surface.alarms:  # noqa: ASYNC110 - the worker waits for nobody
        await asyncio.sleep(0.005)
    assert surface.used == []
    surface.file = "two"
    async with asyncio.timeout(60):
        await reloading
    assert surface.told == ["two"]
    assert surface.alarms == []


async def test_two_reloads_at_once_end_with_the_later_one(surface: Surface, worker: Worker) -> None:
    """Defect: two reloads overtook each other, and the worker could end up with the older configuration."""
    first = asyncio.ensure_future(worker._reload())
    await asyncio.sleep(0)
    surface.published = surface.file = "three"
    async with asyncio.timeout(60):
        await asyncio.gather(first, worker._reload())
    assert worker._settings.fingerprint == "three"
    assert surface.told[-1] == "three"


async def test_a_worker_that_was_counted_out_stops_trying(surface: Surface, worker: Worker) -> None:
    surface.down, surface.fenced = 1000, True
    async with asyncio.timeout(60):
        await worker._reload()
    assert surface.told == []
