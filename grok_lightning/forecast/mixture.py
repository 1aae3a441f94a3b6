"""A mixture cure model: whether a run groks at all, and how many steps it still takes if it does.

With probability π = σ(w·x) a run groks, and ln(remaining steps) is then logistic with mean b·x and scale s; otherwise
it never does. A run that has not grokked contributes 1 − π + π S(t), t its last evaluation, so runs whose budget was
too small are used as what they are. One that grokked between two evaluations contributes π (S(t₁) − S(t₂)).

Source: A. Y. C. Kuk and C.-H. Chen, Biometrika 79 (1992), with a logistic accelerated failure time in place of theirs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """A fitted model; inputs have a leading column of ones.

    Attributes:
        when: b, shape (P,).
        ever: w, shape (P,).
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


def fit_mixture(inputs: Values, waits: Waits, ridge: float) -> Mixture:
    """Fit by penalized maximum likelihood (L-BFGS, with the gradient in closed form).

    Args:
        inputs: Standardized features with ones in front, shape (N, P).
        waits: Observations, N.
        ridge: Weight of the squared coefficients, the constants left out.

    Raises:
        ValueError: No run grokked.
    """
    seen = np.isfinite(waits.high)
    if not seen.any():
        raise ValueError("a forecaster needs runs that grokked")
    size = inputs.shape[1]
    start = np.zeros(2 * size + 1)
    start[0], start[-1] = np.median(waits.high[seen]), -1.0
    problem = inputs, waits.low, np.where(seen, waits.high, 0.0), seen, ridge
    best = minimize(_loss, start, args=problem, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return Mixture(best[:size], best[size:-1], float(np.exp(best[-1])))


def _loss(
    parameters: Values, inputs: Values, low: Values, high: Values, seen: NDArray[np.bool_], ridge: float
) -> tuple[float, Values]:
    """Negative penalized log likelihood and its gradient, in logarithms throughout: far off, likelihoods are 0."""
    size = inputs.shape[1]
    scale, odds = np.exp(parameters[-1]), inputs @ parameters[size:-1]
    mean, share = inputs @ parameters[:size], expit(odds)
    start, end = (low - mean) / scale, np.where(seen, (high - mean) / scale, 1.0)
    open_start = np.where(np.isfinite(start), start, 0.0)  # -infinity: it may have grokked at once
    wide = np.where(np.isfinite(start) & seen, end - start, np.inf)
    # 1 / (1 + e^a) - 1 / (1 + e^c) = (1 - e^(a - c)) / ((1 + e^a) (1 + e^-c))
    within = -_softplus(-odds) - _softplus(start) - _softplus(-end) + np.log1p(-np.exp(-wide))
    later = -_softplus(-odds) - _softplus(start)
    beyond = np.logaddexp(-_softplus(odds), later)
    after = np.exp(later - beyond)  # probability that a censored run groks yet
    past = expit(start)
    of_mean = np.where(seen, past - expit(-end), after * past) / scale
    narrowing = np.where(np.isfinite(wide), wide / np.expm1(np.minimum(wide, 500.0)), 0.0)
    of_scale = np.where(seen, open_start * past - end * expit(-end) - narrowing, after * past * open_start)
    of_odds = np.where(seen, 1 - share, after - share)
    gradient = -np.concatenate([inputs.T @ of_mean, inputs.T @ of_odds, [of_scale.sum()]])
    kept = parameters.copy()
    kept[[0, size, -1]] = 0.0
    return float(ridge * (kept**2).sum() - np.where(seen, within, beyond).sum()), gradient + 2 * ridge * kept


def _softplus(values: Values) -> Values:
    return np.logaddexp(0.0, values)
