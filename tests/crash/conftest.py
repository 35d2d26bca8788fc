"""Disks and stores of crash tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.loop_disk import LoopDisk

from router.ledger.stores import RecordingStore


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path) as found:
        yield found


@pytest.fixture
async def store() -> AsyncIterator[RecordingStore]:
    async with RecordingStore("old") as found:
        yield found
