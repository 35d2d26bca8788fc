"""
One site per file, with all tests of the file on one loop; after each of them the accounts must balance.

A file may have `SETTINGS`, `MEMORY` (octets) and `FILES` (descriptors of the worker).
"""

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from support.hop import Hop
from support.siege import Siege

PEOPLE = ("ann", "bob", "eve")


class Relays:
    """The site of a file, and another one after a case that it did not survive, or the others would be judged by it."""

    def __init__(self, make: Callable[[], Siege]) -> None:
        self._make = make
        self._siege: Siege | None = None

    async def now(self) -> Siege:
        if self._siege is None:
            self._siege = await self._make().__aenter__()
        return self._siege

    async def drop(self) -> None:
        siege, self._siege = self._siege, None
        if siege is not None:
            await siege.__aexit__(None, None, None)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def relays(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Relays]:
    """Three people live at the store `old`."""
    module = request.module

    def make() -> Siege:
        return Siege(
            tmp_path_factory.mktemp("siege"),
            {"old": Hop({}, name="old")},
            users={f"{one}@example.edu": "old" for one in PEOPLE},
            settings=getattr(module, "SETTINGS", {}),
            memory=getattr(module, "MEMORY", 256 << 20),
            files=getattr(module, "FILES", 1024),
        )

    found = Relays(make)
    yield found
    await found.drop()


@pytest_asyncio.fixture(loop_scope="module")
async def siege(relays: Relays) -> AsyncIterator[Siege]:
    """The site, judged after the test."""
    siege = await relays.now()
    yield siege
    try:
        await siege.judge()
    except BaseException:
        await relays.drop()
        raise
