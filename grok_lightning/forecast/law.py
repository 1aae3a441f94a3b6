"""The delay law: grok step − memorize step = ln(V / V*) / (2 κ η λ), V the squared weight norm at memorization.

Source: arXiv 2605.18845; 2603.13331 has the same form. κ and V* are constants there, fitted on one cell of task and
model. Weight decay alone shrinks V by the factor exp(−2ηλ) at each step, so κ = 1 would mean that nothing else moves
it, and V* is the norm at which the rule takes over.
"""

from dataclasses import dataclass
from math import exp, inf, log

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar


@dataclass(frozen=True)
class Law:
    """The law with its two constants.

    Attributes:
        kappa: κ.
        norm: V*, a squared weight norm.
        scatter: Standard deviation of ln(delay) about the law in what it was fitted to.
    """

    kappa: float
    norm: float
    scatter: float = 0.0

    def delay(self, norm: ArrayLike, clock: ArrayLike) -> NDArray[np.float64]:
        """Steps from memorization to grokking.

        Args:
            norm: V, the squared weight norm at memorization.
            clock: ηλ, learning rate times weight decay.

        Returns:
            The delay; 0 where V is at most V*, infinity where ηλ is 0.
        """
        above = np.maximum(np.log(np.asarray(norm, float) / self.norm), 0.0)
        rate = 2 * self.kappa * np.asarray(clock, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(rate > 0, above / rate, inf)


def fit_law(norm: ArrayLike, clock: ArrayLike, delay: ArrayLike) -> Law:
    """Fit κ and V* by least squares on ln(delay).

    For a given V* the best κ is a mean; V* is searched below the least V, since the law has no delay above it.

    Args:
        norm: V of each run at memorization.
        clock: ηλ of each run, above 0.
        delay: Grok step − memorize step of each run, above 0.

    Raises:
        ValueError: There are fewer than two runs, or a value is not above 0.
    """
    heights, ticks, waits = (np.log(np.asarray(values, float)) for values in (norm, clock, delay))
    if len(heights) < 2 or not all(np.isfinite(each).all() for each in (heights, ticks, waits)):
        raise ValueError("the law needs two runs or more, with norms, clocks and delays above 0")

    def residuals(gap: float) -> NDArray[np.float64]:
        return waits + ticks - np.log(heights - heights.min() + exp(gap))

    gaps = np.linspace(log(1e-3), log(20.0), 60)  # of ln V between the least one and V*
    losses = [residuals(gap).var() for gap in gaps]
    place = int(np.argmin(losses))
    bounds = float(gaps[max(place - 1, 0)]), float(gaps[min(place + 1, len(gaps) - 1)])
    gap = float(minimize_scalar(lambda each: residuals(each).var(), bounds=bounds, method="bounded").x)
    rest = residuals(gap)
    kappa = exp(-float(rest.mean())) / 2
    return Law(kappa, exp(float(heights.min()) - exp(gap)), float(rest.std(ddof=1)))
