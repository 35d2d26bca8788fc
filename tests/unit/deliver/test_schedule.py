"""The documented table, and what no arithmetic may do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.deliver.schedule import Rest, Schedule
from router.settings.schema import Retry

PLAN = Schedule(Retry())
MIDDLE = 0.5


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 240), (1, 240), (2, 408), (3, 693.6), (4, 1179.12), (5, 2004.504), (6, 3407.6568)]
)
def test_prc29_the_documented_table(attempts: int, seconds: float) -> None:
    assert PLAN.next_due(attempts, 1000.0, MIDDLE) == pytest.approx(1000.0 + seconds)


@pytest.mark.parametrize("attempts", [7, 8, 100, 10**6, 10**18])
def test_later_steps_are_the_longest(attempts: int) -> None:
    assert PLAN.next_due(attempts, 0.0, MIDDLE) == 4000.0


@given(st.floats(0, 1, exclude_max=True))
def test_the_first_retry_comes_within_five_minutes(chance: float) -> None:
    assert 180 <= PLAN.next_due(1, 0.0, chance) <= 300


@given(st.integers(0, 10**9), st.floats(0, 1), st.floats(0, 2e9))
def test_due_is_ahead_and_never_far(attempts: int, chance: float, now: float) -> None:
    due = PLAN.next_due(attempts, now, chance)
    assert now < due <= now + 4500.001
    assert PLAN.sane_due(due, now) == pytest.approx(due)


@given(st.integers(1, 40), st.floats(1, 1e5), st.floats(1, 3), st.floats(1, 1e6))
def test_any_settings(attempts: int, first: float, factor: float, longest: float) -> None:
    plan = Schedule(Retry(first=first, factor=factor, longest=longest))
    assert 0 < plan.next_due(attempts, 0.0, MIDDLE) <= longest + 1e-6


def test_the_last_attempt_comes_at_the_end_of_the_lifetime() -> None:
    assert PLAN.next_due(9, 1000.0, MIDDLE, expires=1500.0) == 1500.0
    assert PLAN.next_due(9, 1000.0, MIDDLE, expires=900.0) == 5000.0


def test_lifetime() -> None:
    start = 1e9
    assert not PLAN.expired(start, start + 5 * 86400 - 1)
    assert PLAN.expired(start, start + 5 * 86400)
    assert not PLAN.expired(start, start - 86400)


def test_inv_56_a_clock_set_back_does_not_put_mail_off_for_a_year() -> None:
    assert PLAN.sane_due(1e9 + 365 * 86400, 1e9) == 1e9 + 4500


def test_a_lane_rests_longer_each_time_and_recovers_at_once() -> None:
    rest, now, steps = Rest(), 0.0, []
    for _ in range(8):
        until = rest.failed(now, MIDDLE)
        steps.append(until - now)
        now = until
    assert steps == [10, 20, 40, 80, 160, 300, 300, 300]
    rest.worked()
    assert not rest.resting(now)
    assert rest.failed(now, MIDDLE) == now + 10


def test_failures_at_the_same_time_count_once() -> None:
    rest = Rest()
    assert {rest.failed(second, MIDDLE) for second in (0.0, 1.0, 2.0)} == {10.0}
    assert rest.resting(9.9)
    assert not rest.resting(10.0)
