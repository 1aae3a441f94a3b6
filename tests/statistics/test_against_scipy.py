"""The closed form of Wilson's interval is SciPy's, which takes 200 us a share."""

import pytest
from scipy.stats import binomtest

from grok_lightning.statistics import wilson


@pytest.mark.parametrize("n", [1, 2, 3, 5, 30, 10_000])
def test_wilson(n):
    for successes in {0, 1, n // 3, n - 1, n}:
        interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
        assert wilson(successes, n) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-12)
