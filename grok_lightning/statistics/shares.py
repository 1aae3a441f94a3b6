"""How surely a share is known."""

from scipy.stats import binomtest


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) for a share, without continuity correction.

    Args:
        successes: How many of the runs did it.
        n: How many runs there are; none gives (0, 1).
    """
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
