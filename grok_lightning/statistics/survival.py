"""The Kaplan-Meier estimate of when runs get there, some of which never do, and the log-rank test between two sets."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import CensoredData, ecdf, logrank

from grok_lightning.statistics.shares import QUANTILE

Steps = NDArray[np.float64]
Order = tuple[tuple[int, bool], ...]  # of each run the place of its step among all of them, and whether it got there
ROUNDING = 1e-9  # a product of quotients such as 3/4 * 2/3 may miss its 1/2 by a few units of the last place


@dataclass(frozen=True)
class KaplanMeier:
    """The estimated share of runs that have not got there yet, as a function of the step.

    Attributes:
        steps: Where runs got there or were censored, ascending.
        survival: The share from each of these steps to the next; before the first it is 1.
        low: Lower end of its pointwise 95 % interval (log-log, after Greenwood); NaN where the share is 0.
        high: Upper end.
        at_risk: Runs that were still under way at each step, those that got there at it included.
        events: How many got there at each step.
    """

    steps: Steps
    survival: Steps
    low: Steps
    high: Steps
    at_risk: Steps
    events: Steps

    @property
    def median(self) -> float:
        """The first step at which no more than half of the runs are left; infinity if that was not reached."""
        return self._first(self.survival)

    @property
    def median_interval(self) -> tuple[float, float]:
        """The 95 % interval of the median (Brookmeyer and Crowley 1982): where the survival's interval holds 1/2.

        Either end may be infinity: a few runs bound the median from below at best.
        """
        return self._first(self.low), self._first(self.high)

    def restricted_mean(self, until: float) -> tuple[float, float, float]:
        """The mean step, with all runs that come later counted as ``until``, and its 95 % interval.

        It is the area under the survival curve; the interval is normal, with Greenwood's variance.

        Args:
            until: The step up to which all runs were watched, their budget.

        Returns:
            Mean, lower and upper end; NaN if nobody was watched that long, so that the curve is not known there.
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
        mean, error = float(areas.sum()), float(QUANTILE * np.sqrt(variance))
        return mean, max(0.0, mean - error), min(float(until), mean + error)

    def _first(self, share: Steps) -> float:
        reached = np.flatnonzero(share <= 0.5 + ROUNDING)
        return float(self.steps[reached[0]]) if len(reached) else inf


def kaplan_meier(steps: ArrayLike, observed: ArrayLike) -> KaplanMeier:
    """Estimates when runs get there (Kaplan and Meier 1958).

    Args:
        steps: For each run the step at which it got there, or the last at which it was seen not to have.
        observed: Whether it got there. Runs that did not are censored: all that is known is that it comes later.

    Returns:
        The estimate; of no runs, an empty one whose median is not reached.
    """
    at, seen = _checked(steps, observed)
    if not len(at):
        empty = np.empty(0)
        return KaplanMeier(*[empty] * 6)
    where, places = np.unique(at, return_inverse=True)
    survival, low, high = _estimate(_order(places, seen))
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
    """Survival and both ends of its interval at each place.

    They depend on the order of the steps alone, and thousands of small conditions have few different ones: SciPy takes
    most of a millisecond for each.
    """
    estimate = ecdf(_censored(order)).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # SciPy's, where the share is 1 or 0 and its log-log interval does not exist
        interval = estimate.confidence_interval(0.95, method="log-log")
    survival, low, high = estimate.probabilities, interval.low.probabilities, interval.high.probabilities
    certain = survival >= 1  # nobody got there yet
    found = survival, np.where(certain, 1.0, low), np.where(certain, 1.0, high)
    for column in found:
        column.flags.writeable = False
    return found


def log_rank(steps_a: ArrayLike, observed_a: ArrayLike, steps_b: ArrayLike, observed_b: ArrayLike) -> float:
    """The two-sided p value of the log-rank test (Mantel 1966) that two sets of runs get there alike.

    Args:
        steps_a: Steps of one set, as for ``kaplan_meier``.
        observed_a: Which of them got there.
        steps_b: Steps of the other.
        observed_b: Which of them got there.

    Returns:
        p, which is 1 if all got there at one step; NaN if one set is empty, or nobody of either got there.
    """
    (a, seen_a), (b, seen_b) = _checked(steps_a, observed_a), _checked(steps_b, observed_b)
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
    """P values of several tests made at once, adjusted (Holm 1979); NaN, no test, stays and does not count."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p == p)
    adjusted, least = [nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        adjusted[place] = least
    return adjusted


def _checked(steps: ArrayLike, observed: ArrayLike) -> tuple[Steps, NDArray[np.bool_]]:
    at, seen = np.asarray(steps, float).ravel(), np.asarray(observed, bool).ravel()
    if len(at) != len(seen):
        raise ValueError(f"{len(at)} steps and {len(seen)} marks whether they were observed")
    if not np.isfinite(at).all() or (at < 0).any():
        raise ValueError(
            "steps must be finite and not negative; a run that did not get there is censored where it ended"
        )
    return at, seen
