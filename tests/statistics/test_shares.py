"""Wilson's interval."""

import pytest

from grok_lightning.statistics import wilson


@pytest.mark.parametrize(
    ("successes", "n", "published"),
    # Newcombe 1998, Table I, method 3
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_published_intervals(successes, n, published):
    assert wilson(successes, n) == pytest.approx(published, abs=5e-5)


def test_it_is_symmetric_and_inside_0_and_1():
    for n in (1, 3, 5, 100):
        for successes in range(n + 1):
            low, high = wilson(successes, n)
            other = wilson(n - successes, n)
            assert 0 <= low <= successes / n <= high <= 1
            assert (1 - high, 1 - low) == pytest.approx(other)


def test_no_runs_say_nothing():
    assert wilson(0, 0) == (0, 1)
