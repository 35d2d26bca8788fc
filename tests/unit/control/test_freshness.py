import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from router.control.freshness import LATE, TOLERANCE, Freshness, Limits
from router.control.versions import older, reached
from router.model.directory import DirectoryState

LIMITS = Limits(stale=4 * 3600, stale_delivery=120)


def state(followed_at: float | None, fault: str = "") -> DirectoryState:
    return DirectoryState("ldap", followed_at, fault=fault)


def test_it_counts_by_the_monotonic_clock_from_the_moment_the_row_moved() -> None:
    one = Freshness(LIMITS)
    one.saw(state(1000.0), wall=1000.0, monotonic=50.0)
    one.saw(state(1010.0), wall=1010.0, monotonic=60.0)
    assert (one.age(60.0), one.age(100.0)) == (0.0, 40.0)
    assert (one.delivers(180.0), one.delivers(180.5)) == (True, False)
    assert (one.answers(60.0 + 4 * 3600), one.answers(60.5 + 4 * 3600)) == (True, False)


def test_across_a_restart_the_wall_clock_counts() -> None:
    one = Freshness(LIMITS)
    one.saw(state(1000.0), wall=1100.0, monotonic=5.0)
    assert one.age(5.0) == 100.0
    assert one.delivers(25.0)
    assert not one.delivers(25.1)


@pytest.mark.parametrize("jump", [-86400.0, -3600.0, 3600.0, 86400.0])
def test_a_clock_that_jumps_changes_nothing_while_it_runs(jump: float) -> None:
    one = Freshness(LIMITS)
    one.saw(state(1000.0), wall=1000.0, monotonic=50.0)
    assert one.age(100.0) == 50.0  # nothing moved: no clock but the monotonic one is asked
    one.saw(state(1060.0), wall=1060.0 + jump, monotonic=110.0)  # the worker's clock was set
    assert one.age(110.0) <= 60.0  # it moved since the last look, whatever the clocks say
    one.saw(state(1070.0 + jump), wall=1070.0 + jump, monotonic=120.0)  # and the follower's
    assert one.age(120.0) <= 10.0


def test_a_row_that_does_not_move_is_not_made_younger_by_being_told_again() -> None:
    one = Freshness(LIMITS)
    one.saw(state(1000.0), wall=1000.0, monotonic=0.0)
    one.saw(state(1000.0, fault="down"), wall=1000.0, monotonic=200.0)
    assert one.age(200.0) == 200.0
    assert not one.delivers(200.0)


def test_a_row_from_the_future_is_believed_when_it_moves() -> None:
    """The clock was set back while nothing ran: nobody knows how old the data are."""
    one = Freshness(LIMITS)
    one.saw(state(5000.0), wall=1000.0, monotonic=0.0)
    assert one.age(0.0) == math.inf
    assert not one.answers(0.0)
    one.saw(state(1001.0), wall=1001.0, monotonic=1.0)
    assert one.answers(1.0)


def test_a_small_difference_of_clocks_is_none() -> None:
    one = Freshness(LIMITS)
    one.saw(state(1000.0 + TOLERANCE), wall=1000.0, monotonic=0.0)
    assert one.age(0.0) == 0.0


def test_never_followed_is_infinitely_old() -> None:
    one = Freshness(LIMITS)
    assert one.age(0.0) == math.inf
    one.saw(state(None), wall=1000.0, monotonic=0.0)
    assert (one.age(1e9), one.answers(1.0), one.delivers(1.0), one.current(1.0)) == (math.inf, False, False, False)


def test_a_directory_that_is_looked_at_seldom_is_followed_between_two_looks() -> None:
    one = Freshness(Limits(stale=4 * 3600, stale_delivery=600, follow=300))
    one.saw(state(1000.0), wall=1000.0, monotonic=0.0)
    assert one.current(310.0)
    assert one.current(600.0)
    assert not one.current(600.1)


def test_nothing_is_denied_while_it_is_not_followed() -> None:
    one = Freshness(LIMITS)
    one.saw(state(1000.0), wall=1000.0, monotonic=0.0)
    assert one.current(LATE)
    assert not one.current(LATE + 0.1)
    one.saw(state(1000.0, fault="down"), wall=1000.0, monotonic=1.0)
    assert not one.current(1.0)


@given(some.lists(some.tuples(some.floats(0, 1e6), some.floats(-1e6, 1e6), some.booleans()), min_size=1, max_size=30))
def test_no_sequence_makes_data_younger_than_the_time_between_looks(
    looks: list[tuple[float, float, bool]],
) -> None:
    """`age` is never less than what the monotonic clock proves: the time since the row was last seen to have moved."""
    one = Freshness(LIMITS)
    monotonic, row, moved_at = 0.0, 1000.0, None
    for passed, wall, moves in looks:
        monotonic += passed
        row += 1.0 if moves else 0.0
        if moves or moved_at is None:
            moved_at = monotonic
        one.saw(state(row), wall=1000.0 + wall, monotonic=monotonic)
        assert one.age(monotonic) >= (monotonic - moved_at) - 1e-6


CSN = "20240101000000.000001Z#000000#001#000000"


@pytest.mark.parametrize(
    ("seen", "written", "expected"),
    [
        (CSN, CSN, True),
        ("20240101000000.000002Z#000000#000#000000", CSN, True),
        ("20231231235959.999999Z#000000#001#000000", CSN, False),
        ("20240101000001Z", "20240101000000Z", True),
        ("20240101000000Z", "20240101000000Z", None),  # steps of a second: it may be the state from before
        ("20240101000000Z", "20240101000001Z", False),
        ("20240101000000.5Z", "20240101000000Z", None),
        ("20240101000000.5Z", "20240101000000.4Z", True),
        ("00000000000000012345", "00000000000000012344", None),  # a uSNChanged counts on one server only
        ("", CSN, None),
        (CSN, "", None),
        ("20240101000000Z", CSN, None),
    ],
)
def test_versions(seen: str, written: str, expected: bool | None) -> None:
    assert reached(seen, written) is expected
    assert older(seen, written) is (expected is False)
