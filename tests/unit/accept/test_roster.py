"""Who is at work among those who are connected."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from support.smtp_site import Site, Start

from router.accept.services import Roster


@dataclass(eq=False)
class Someone:
    """A session that was heard of at that time."""

    heard: float

    def shut_down(self) -> None:
        """Not asked for here."""

    def cut(self) -> None:
        """Not asked for here."""


def test_those_count_who_have_just_said_something() -> None:
    roster = Roster()
    assert roster.at_work(100.0) == 0
    roster.sessions.update([Someone(100.0), Someone(100.08), Someone(100.1)])
    assert roster.at_work(100.01) == 0, "a look counts for a moment"
    assert roster.at_work(100.1) == 2
    roster.sessions.clear()
    assert roster.at_work(100.12) == 2
    assert roster.at_work(100.2) == 0


async def test_the_pipeline_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = await start()
    seen: list[float] = []
    at_work: Callable[[float], int] = site.listeners.roster.at_work

    def looked(now: float) -> int:
        seen.extend(one.heard for one in site.listeners.roster.sessions)
        return at_work(now)

    monkeypatch.setattr(site.listeners.roster, "at_work", looked)
    wire = await site.dial()
    await wire.to_data()
    assert (await wire.ask("Subject: x\r\n\r\ntext\r\n.")).startswith("250 ")
    assert site.house.companies == [1]
    assert seen[0] > 0
