"""
One site per file, with all tests of the file on one loop; after each of them the accounts must balance.

A file may have `SETTINGS`, `MEMORY` (octets) and `FILES` (descriptors of the worker).
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.hop import Hop
from support.siege import Siege

PEOPLE = ("ann", "bob", "eve")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def relay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Siege]:
    """The site; three people live at the store `old`."""
    module = request.module
    async with Siege(
        tmp_path_factory.mktemp("siege"),
        {"old": Hop({}, name="old")},
        users={f"{one}@example.edu": "old" for one in PEOPLE},
        settings=getattr(module, "SETTINGS", {}),
        memory=getattr(module, "MEMORY", 256 << 20),
        files=getattr(module, "FILES", 1024),
    ) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def siege(relay: Siege) -> AsyncIterator[Siege]:
    """The site, judged after the test."""
    yield relay
    await relay.judge()
