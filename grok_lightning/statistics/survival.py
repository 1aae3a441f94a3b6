"""Shares with intervals, Kaplan-Meier estimates of the step of an event with right-censored runs, log-rank tests."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite, nan, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import CensoredData, ecdf, logrank, t

QUANTILE = NormalDist().inv_cdf(0.975)  # of two-sided 95 % intervals
LEAST_RUNS = 5  # of an interval: the widest, from the first event on, holds the median in 1 - 1 / 2**n of all samples
Steps = NDArray[np.float64]
Order = tuple[tuple[int, bool], ...]  # of each run the rank of its step, and whether the event was observed
ROUNDING = (
    2.0**-26
)  # as in R: a product of quotients such as 3/4 * 2/3 may miss its 1/2 by a few units of the last place


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


@dataclass(frozen=True)
class KaplanMeier:
    """Estimated share of runs without the event, as a function of the step.

    Attributes:
        steps: Steps of events and of censoring, ascending.
        survival: The share from each of these steps to the next; before the first it is 1.
        low: Lower end of its pointwise 95 % interval (log-log, after Greenwood). NaN where the share is 1 or 0, whose
            variance is 0 or not a number, and throughout with fewer than ``LEAST_RUNS`` runs.
        high: Upper end; NaN at the same steps.
        at_risk: Number of runs at risk at each step, those with an event at it included.
        events: Number of events at each step.
    """

    steps: Steps
    survival: Steps
    low: Steps
    high: Steps
    at_risk: Steps
    events: Steps

    @property
    def runs(self) -> int:
        """Number of runs."""
        return int(self.at_risk[0]) if len(self.at_risk) else 0

    @property
    def median(self) -> float:
        """The step at which half of the runs are left: the middle of ``median_steps``."""
        return sum(self.median_steps) / 2

    @property
    def median_steps(self) -> tuple[float, float]:
        """The steps between which exactly half of the runs are left.

        They are those of ``survfit`` in R: the step at which the share falls to 1/2 and the next one at which it falls
        below it; twice the first one if it falls below at once, or if it stays at 1/2 until the last observation.
        (``quantile`` in R takes the last observation as the second one then.) Infinity if the share stays above 1/2.
        """
        return self._cross(self.survival)

    @property
    def median_interval(self) -> tuple[float, float]:
        """The 95 % interval of the median (Brookmeyer and Crowley 1982): where the survival's interval holds 1/2.

        Its ends are those of ``survfit`` in R, found on ``low`` and ``high`` as the median is on ``survival``. The
        upper one may be infinity: few runs bound the median from below at best. Both are NaN where no interval is
        known: with fewer than ``LEAST_RUNS`` runs, if too few had the event, or if all runs left had it at one step.
        """
        low, high = (sum(self._cross(share)) / 2 for share in (self.low, self.high))
        return (low, high) if isfinite(low) else (nan, nan)

    def restricted_mean(self, until: float) -> tuple[float, float, float]:
        """Restricted mean step, with later events counted at ``until``, and its 95 % interval.

        It is the area under the survival curve. The interval is Student's with n - 1 degrees of freedom for n runs,
        and Greenwood's variance times n / (n - 1): without censoring before ``until`` that of an ordinary mean. That of
        the normal distribution would cover 80 % with five runs.

        Args:
            until: The step up to which all runs were observed, their budget.

        Returns:
            Mean, lower and upper end; NaN if no run was observed that long, since the curve is not known there. Both
            ends are NaN with fewer than ``LEAST_RUNS`` runs, or if the variance is 0.
        """
        if not len(self.steps) or (self.steps[-1] < until and self.survival[-1] > 0):
            return nan, nan, nan
        inside = self.steps < until
        edges = np.concatenate([[0.0], self.steps[inside], [until]])
        heights = np.concatenate([[1.0], self.survival[inside]])
        areas = heights * np.diff(edges)
        after = np.cumsum(areas[::-1])[::-1][1:]  # the area from each of the steps on
        risk, events = self.at_risk[inside], self.events[inside]
        left = risk > events
        variance = np.sum(after[left] ** 2 * events[left] / (risk[left] * (risk[left] - events[left])))
        mean, n = float(areas.sum()), self.runs
        if n < LEAST_RUNS or variance <= 0:
            return mean, nan, nan
        error = float(t.ppf(0.975, n - 1) * np.sqrt(variance * n / (n - 1)))
        return mean, max(0.0, mean - error), min(float(until), mean + error)

    def _cross(self, share: Steps) -> tuple[float, float]:
        """The steps at which a falling share reaches 1/2 and falls below it; NaN, for an unknown share, is skipped."""
        reached, below = (np.flatnonzero(share < 0.5 + room) for room in (ROUNDING, -ROUNDING))
        if not len(reached):
            return inf, inf
        first, last = reached[0], below[0] if len(below) else reached[0]
        return float(self.steps[first]), float(self.steps[last])


def kaplan_meier(steps: ArrayLike, observed: ArrayLike) -> KaplanMeier:
    """Estimates the distribution of the step of an event (Kaplan and Meier 1958).

    Args:
        steps: For each run the step of its event, or of its last observation without it.
        observed: Whether the event was observed. The other runs are right-censored: it may come later.

    Returns:
        The estimate; of no runs, an empty one whose median is not reached.

    Raises:
        ValueError: A step is negative or not finite, or the lengths differ.
    """
    at, seen = _check(steps, observed)
    if not len(at):
        empty = np.empty(0)
        return KaplanMeier(*[empty] * 6)
    where, places = np.unique(at, return_inverse=True)
    survival, low, high = _estimate(_order(places, seen))
    if len(at) < LEAST_RUNS:
        low = high = np.full(len(where), nan)
    return KaplanMeier(
        steps=where,
        survival=survival,
        low=low,
        high=high,
        at_risk=len(at) - np.searchsorted(np.sort(at), where).astype(float),
        events=np.bincount(places[seen], minlength=len(where)).astype(float),
    )


def _order(places: NDArray[np.intp], seen: NDArray[np.bool_]) -> Order:
    return tuple(sorted(zip(places.tolist(), seen.tolist(), strict=True)))


def _censored(order: Order) -> CensoredData:
    at, seen = np.array(order).T
    return CensoredData.right_censored(at.astype(float), seen == 0)


@lru_cache(1 << 14)
def _estimate(order: Order) -> tuple[Steps, Steps, Steps]:
    """Survival and both ends of its interval at each rank.

    They depend on the order of the steps alone, and thousands of small conditions have few distinct orders: SciPy takes
    most of a millisecond for each.
    """
    estimate = ecdf(_censored(order)).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # SciPy's, where the share is 1 or 0 and its log-log interval does not exist
        interval = estimate.confidence_interval(0.95, method="log-log")
    survival, low, high = estimate.probabilities, interval.low.probabilities, interval.high.probabilities
    spread = (survival > 0) & (survival < 1)
    found = survival, np.where(spread, low, nan), np.where(spread, high, nan)
    for column in found:
        column.flags.writeable = False
    return found


def log_rank(steps_a: ArrayLike, observed_a: ArrayLike, steps_b: ArrayLike, observed_b: ArrayLike) -> float:
    """Two-sided p value of the log-rank test (Mantel 1966) that two groups have the same distribution.

    Args:
        steps_a: Steps of the first group, as for ``kaplan_meier``.
        observed_a: Which events of it were observed.
        steps_b: Steps of the second group.
        observed_b: Which events of it were observed.

    Returns:
        p, which is 1 if all events are at one step; NaN if a group is empty, or if there is no event in either.

    Raises:
        ValueError: As ``kaplan_meier``.
    """
    (a, seen_a), (b, seen_b) = _check(steps_a, observed_a), _check(steps_b, observed_b)
    if not len(a) or not len(b) or not (seen_a.any() or seen_b.any()):
        return nan
    _, places = np.unique(np.concatenate([a, b]), return_inverse=True)
    return _log_rank(_order(places[: len(a)], seen_a), _order(places[len(a) :], seen_b))


@lru_cache(1 << 14)
def _log_rank(a: Order, b: Order) -> float:
    with np.errstate(all="ignore"):
        result = logrank(_censored(a), _censored(b))
    return 1.0 if np.isnan(result.pvalue) else float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for multiple tests (Holm 1979); NaN, for no test, stays NaN and does not count."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p == p)
    adjusted, least = [nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        adjusted[place] = least
    return adjusted


def _check(steps: ArrayLike, observed: ArrayLike) -> tuple[Steps, NDArray[np.bool_]]:
    at, seen = np.asarray(steps, float).ravel(), np.asarray(observed, bool).ravel()
    if len(at) != len(seen):
        raise ValueError(f"{len(at)} steps and {len(seen)} values of observed")
    if not np.isfinite(at).all() or (at < 0).any():
        raise ValueError("steps must be finite and not negative; a run without the event is censored at its last step")
    return at, seen
