"""Mail does not age by a clock that jumps (inv_56): not while the process lives, either way, by a day or by a year."""

import logging

import pytest

from router.daemon.clock import HALF_A_DAY, SystemClock

DAY = 86400.0


class Times:
    """The machine's two clocks, set by the test."""

    def __init__(self) -> None:
        self.system, self.running = 1.7e9, 50.0

    def passes(self, seconds: float) -> None:
        self.system += seconds
        self.running += seconds

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.system, lambda: self.running)


@pytest.mark.parametrize("jump", [DAY, -DAY, 365 * DAY, -365 * DAY])
def test_inv_56_a_jump_is_told_and_not_followed(jump: float, caplog: pytest.LogCaptureFixture) -> None:
    times = Times()
    clock = times.clock()
    accepted = clock.wall()
    times.passes(60.0)
    times.system += jump
    with caplog.at_level(logging.WARNING):
        assert clock.wall() == accepted + 60.0
        times.passes(3600.0)
        assert clock.wall() == pytest.approx(accepted + 3660.0)
    [record] = caplog.records
    assert "was set" in record.message
    # Set right again, it is followed again.
    times.system -= jump
    times.system += 2.0
    assert clock.wall() == times.system
    times.passes(5.0)
    times.system += 2.0
    assert clock.wall() == times.system


@pytest.mark.parametrize("step", [0.3, -0.3, 3600.0, -3600.0, HALF_A_DAY - 1])
def test_a_correction_is_followed(step: float, caplog: pytest.LogCaptureFixture) -> None:
    times = Times()
    clock = times.clock()
    clock.wall()
    times.passes(10.0)
    times.system += step
    assert clock.wall() == times.system
    assert caplog.records == []


def test_time_goes_on_while_nobody_asks() -> None:
    times = Times()
    clock = times.clock()
    clock.wall()
    times.passes(30 * DAY)
    assert clock.wall() == times.system
