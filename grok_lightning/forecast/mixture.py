"""A mixture cure model: whether a run groks at all, and how many steps it still takes if it does.

With probability π = σ(w·u) a run groks, and ln(remaining steps) is then logistic with mean b·x and scale s; otherwise it
never does. A run that has not grokked contributes 1 − π + π S(t), t its last evaluation, so runs whose budget was
too small are used as what they are. One that grokked between two evaluations contributes π (S(t₁) − S(t₂)).

Source: A. Y. C. Kuk and C.-H. Chen, Biometrika 79 (1992), with a logistic accelerated failure time in place of theirs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

Values = NDArray[np.float64]
TINY = 1e-300


@dataclass(frozen=True)
class Mixture:
    """A fitted model; inputs have a leading column of ones.

    Attributes:
        when: b, shape (P,).
        ever: w, shape (Q,).
        scale: s.
    """

    when: Values
    ever: Values
    scale: float


@dataclass(frozen=True)
class Waits:
    """Remaining steps until the grok, as far as observed, by row.

    Attributes:
        low: Natural logarithm of the last evaluation without the grok, counted from now; -infinity if that is now.
        high: The same of the evaluation with it; infinity for a censored run.
    """

    low: Values
    high: Values


def fit_mixture(when: Values, ever: Values, waits: Waits, ridge: float = 1.0) -> Mixture:
    """Fit by penalized maximum likelihood (L-BFGS, with the gradient in closed form).

    Args:
        when: Inputs of the time, standardized, with ones in front, shape (N, P).
        ever: Inputs of the share, likewise, shape (N, Q).
        waits: Observations, N.
        ridge: Weight of the squared coefficients, the constants left out.

    Raises:
        ValueError: No run grokked.
    """
    seen = np.isfinite(waits.high)
    if not seen.any():
        raise ValueError("a forecaster needs runs that grokked")
    start = np.zeros(when.shape[1] + ever.shape[1] + 1)
    start[0], start[-1] = np.median(waits.high[seen]), -1.0
    problem = (when, ever, waits.low, np.where(seen, waits.high, 0.0), seen, ridge)
    best = minimize(_loss, start, args=problem, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    size = when.shape[1]
    return Mixture(best[:size], best[size:-1], float(np.exp(best[-1])))


def _loss(
    parameters: Values, when: Values, ever: Values, low: Values, high: Values, seen: NDArray[np.bool_], ridge: float
) -> tuple[float, Values]:
    """Negative penalized log likelihood and its gradient."""
    size = when.shape[1]
    slopes, shares, scale = parameters[:size], parameters[size:-1], np.exp(parameters[-1])
    mean, share = when @ slopes, expit(ever @ shares)
    left, left_mean, left_scale = _survival(low, mean, scale)
    right, right_mean, right_scale = (np.where(seen, each, 0.0) for each in _survival(high, mean, scale))
    likelihood = np.where(seen, share * (left - right), 1 - share + share * left) + TINY
    of_mean = share * (left_mean - right_mean) / likelihood
    of_scale = share * (left_scale - right_scale) / likelihood
    of_share = np.where(seen, left - right, left - 1) / likelihood * share * (1 - share)
    gradient = -np.concatenate([when.T @ of_mean, ever.T @ of_share, [of_scale.sum()]])
    kept = parameters.copy()
    kept[[0, size, -1]] = 0.0
    return float(ridge * (kept**2).sum() - np.log(likelihood).sum()), gradient + 2 * ridge * kept


def _survival(at: Values, mean: Values, scale: float) -> tuple[Values, Values, Values]:
    """S, and its derivatives by the mean and by ln(scale)."""
    z = np.clip((at - mean) / scale, -500, 500)
    survival = expit(-z)
    density = survival * expit(z)
    return survival, density / scale, density * z
