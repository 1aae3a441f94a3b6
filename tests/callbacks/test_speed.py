"""The rate is that of the last seconds; the time left appears once the rate is steady, and goes while it is not."""

import pytest

from grok_lightning.callbacks.speed import RECENT, WINDOW, Speed


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def train(speed: Speed, clock: Clock, step: float, seconds: float, rate: float) -> float:
    """Take steps at a rate, a sample a second; returns the step reached."""
    for _ in range(round(seconds)):
        clock.now += 1
        step += rate
        speed.note(round(step))
    return step


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_known_before_the_second_sample(clock: Clock) -> None:
    speed = Speed(clock)
    assert (speed.rate, speed.is_steady, speed.find_left(10)) == (None, False, None)
    speed.note(7)
    assert (speed.rate, speed.is_steady, speed.find_left(10)) == (None, False, None)


@pytest.mark.parametrize("rate", [2, 20, 3000])
def test_time_left_appears_after_the_first_seconds(clock: Clock, rate: float) -> None:
    speed = Speed(clock)
    step = train(speed, clock, 0, RECENT - 1, rate)
    assert speed.find_left(1000) is None
    train(speed, clock, step, 4, rate)
    assert speed.rate == pytest.approx(rate, rel=0.1)
    assert speed.find_left(1000) == pytest.approx(1000 / rate, rel=0.1)


def test_the_first_step_is_left_out(clock: Clock) -> None:
    speed = Speed(clock)
    clock.now += 300  # compiling
    speed.note(1)
    train(speed, clock, 1, 20, 10)
    assert speed.rate == pytest.approx(10)
    assert speed.find_left(100) == pytest.approx(10)


def test_a_rate_that_changes_is_not_steady_until_it_has_lasted(clock: Clock) -> None:
    speed = Speed(clock)
    step = train(speed, clock, 0, 40, 100)
    assert speed.is_steady
    step = train(speed, clock, step, 20, 20)
    assert not speed.is_steady
    assert speed.rate == pytest.approx(20)
    train(speed, clock, step, WINDOW, 20)
    assert speed.find_left(200) == pytest.approx(10)


def test_a_stalled_run_has_no_time_left(clock: Clock) -> None:
    speed = Speed(clock)
    step = train(speed, clock, 0, 40, 100)
    train(speed, clock, step, 2 * WINDOW, 0)
    assert speed.rate == 0
    assert speed.find_left(100) is None


def test_samples_do_not_pile_up(clock: Clock) -> None:
    speed = Speed(clock)
    for step in range(20_000):
        clock.now += 0.01
        speed.note(step)
    assert len(speed._samples) < 150
