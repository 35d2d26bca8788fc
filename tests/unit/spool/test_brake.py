"""How much slower mail is taken as the disk runs short."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.spool.brake import LONGEST, pause
from router.spool.health import Health, Space

MINIMUM = 256 << 20


@pytest.mark.parametrize(
    ("free", "expected"),
    [(2 * MINIMUM, 0.0), (MINIMUM * 3 // 2, LONGEST / 4), (MINIMUM, LONGEST), (0, LONGEST), (1 << 50, 0.0)],
)
def test_the_pause_grows_from_twice_the_minimum_down_to_it(free: int, expected: float) -> None:
    assert pause(free, MINIMUM) == pytest.approx(expected)


def test_without_a_minimum_nothing_waits() -> None:
    assert pause(0, 0) == 0.0


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 50), st.integers(0, 1 << 40))
def test_less_space_never_means_less_waiting(one: int, other: int, minimum: int) -> None:
    less, more = sorted((one, other))
    assert LONGEST >= pause(less, minimum) >= pause(more, minimum) >= 0.0


def test_the_disk_is_looked_at(tmp_path: Path) -> None:
    answers = [Space(1000, 100), Space(150, 100), Space(140, 100), Space(1000, 15), Space(1000, None)]
    health = Health(tmp_path, minimum_free=100, minimum_inodes=10, reserve=0, look=lambda _path: answers.pop(0))
    seen = []
    for _ in range(5):
        health.poll()
        seen.append(health.pause)
    assert seen == pytest.approx([0.0, LONGEST / 4, LONGEST * 0.36, LONGEST / 4, 0.0])
    assert health.cause == "1000 octets and 15 inodes are free: mail is taken more slowly"


def test_free_pages_go_back_before_anybody_is_refused(tmp_path: Path) -> None:
    """Else a database that has grown and is empty again would keep everybody waiting."""
    free = [1 << 40]
    health = Health(
        tmp_path, minimum_free=MINIMUM, minimum_inodes=0, reserve=0, look=lambda _path: Space(free[0], None)
    )
    health.poll()
    assert not health.short()
    free[0] = MINIMUM * 3 // 2
    health.poll()
    assert health.unhealthy() is None
    assert health.short()
