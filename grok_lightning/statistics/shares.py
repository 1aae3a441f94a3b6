"""Confidence intervals of shares."""

from math import sqrt
from statistics import NormalDist

QUANTILE = NormalDist().inv_cdf(0.975)  # of two-sided 95 % intervals


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) for a share, without continuity correction.

    It is where (share - x)^2 <= QUANTILE^2 x (1 - x) / n.

    Args:
        successes: Number of successes.
        n: Number of trials; 0 gives (0, 1).
    """
    if n == 0:
        return 0.0, 1.0
    squared = QUANTILE**2
    middle = (successes + squared / 2) / (n + squared)
    half = QUANTILE * sqrt(successes * (n - successes) / n + squared / 4) / (n + squared)
    return 0.0 if successes == 0 else middle - half, 1.0 if successes == n else middle + half
