"""What bodies hold in memory while they arrive: one buffer each, and together not much more than a limit."""

import tracemalloc
from collections.abc import Iterator

import pytest

from router.spool.bodies import BLOCK, CHUNK, CROWDED
from router.spool.spool import Spool

MANY = 100


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def test_inv_48_octets_that_come_by_twos_cost_no_more_than_in_blocks(spool: Spool, traced: None) -> None:
    body = spool.open_body()
    for _ in range(CHUNK // 2 - 1):
        await body.write(bytes(2))
    _, most = tracemalloc.get_traced_memory()
    assert most < 3 * CHUNK
    await body.discard()


async def test_inv_48_many_large_bodies_share_a_limit(spool: Spool, traced: None) -> None:
    bodies = [spool.open_body() for _ in range(MANY)]
    for _ in range(4):
        for body in bodies:
            await body.write(bytes(CHUNK // 4 - 1))
    now, _ = tracemalloc.get_traced_memory()
    assert now < CROWDED + MANY * BLOCK + CROWDED // 2 < MANY * (CHUNK - 4)
    for body in bodies:
        await body.discard()
    assert spool._bodies.held == 0


async def test_all_that_was_held_is_given_back(kit: object, spool: Spool) -> None:
    """Inline, in a file, and given up: whatever becomes of a body, it does not count any more."""
    for size in (10, 2 * CHUNK + 10):
        body = spool.open_body()
        await body.write(bytes(size))
        await body.finish()
        left = spool.open_body()
        await left.write(bytes(size))
        await left.discard()
        await left.discard()
    assert spool._bodies.held == 0
