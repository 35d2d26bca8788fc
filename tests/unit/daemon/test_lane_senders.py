"""The senders that a worker keeps: those in use, and not one more for every domain that mail ever went to."""

import asyncio
from typing import cast

import pytest

from router.daemon import wiring
from router.daemon.wiring import LaneSenders
from router.deliver.site import Senders
from router.settings.schema import Settings


class FakeSender:
    def __init__(self, lane: str) -> None:
        self.lane = lane
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class FakeFactory:
    def __init__(self, _settings: Settings) -> None:
        self.made: list[FakeSender] = []
        self.closed = False

    def outbound(self, lane: str) -> FakeSender:
        self.made.append(FakeSender(lane))
        return self.made[-1]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate(
        {
            "hostname": "mx.example.edu",
            "state_dir": "/nowhere",
            "stores": {},
            "domains": {},
            "listen": [],
            "postmaster": "root@example.edu",
        }
    )


async def test_the_sender_longest_out_of_use_goes_when_there_are_too_many(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: a sender was kept for every outside domain, for as long as the worker lived."""
    monkeypatch.setattr(wiring, "_SENDERS", 3)
    factories: list[FakeFactory] = []

    def make(given: Settings) -> Senders:
        factories.append(FakeFactory(given))
        return cast("Senders", factories[-1])

    senders = LaneSenders(settings, make)
    first = senders("mx:a.example")
    for lane in ("mx:b.example", "mx:c.example", "mx:a.example", "mx:d.example"):
        senders(lane)
    await asyncio.sleep(0)
    assert [one.lane for one in factories[0].made if one.closed] == ["mx:b.example"]
    assert senders("mx:a.example") is first
    let_go = senders.use(settings)
    assert senders("mx:a.example") is not first
    await let_go()
    assert all(one.closed for one in factories[0].made)
    assert factories[0].closed
    await senders.close()
    assert [one.closed for one in factories[1].made] == [True]
