"""The delay law."""

from math import inf

import numpy as np
import pytest

from grok_lightning.forecast.bootstrap import area_under_curve, interval
from grok_lightning.forecast.law import Law, fit_law

GENERATOR = np.random.default_rng(0)


def test_the_constants_of_runs_that_follow_it_are_found() -> None:
    law = Law(kappa=0.4, norm=300.0)
    norms, clocks = GENERATOR.uniform(600, 3000, 40), 10 ** GENERATOR.uniform(-4, -2, 40)
    found = fit_law(norms, clocks, law.delay(norms, clocks))
    assert found.kappa == pytest.approx(0.4, rel=1e-3)
    assert found.norm == pytest.approx(300, rel=1e-3)
    assert found.scatter < 1e-3


def test_with_scatter_they_are_near_and_the_scatter_is_told() -> None:
    law = Law(kappa=0.4, norm=300.0)
    norms, clocks = GENERATOR.uniform(400, 6000, 2000), np.full(2000, 1e-3)
    found = fit_law(norms, clocks, law.delay(norms, clocks) * np.exp(0.2 * GENERATOR.standard_normal(2000)))
    assert found.kappa == pytest.approx(0.4, rel=0.1)
    assert found.norm == pytest.approx(300, rel=0.1)
    assert found.scatter == pytest.approx(0.2, rel=0.1)


def test_no_decay_means_never_and_a_norm_below_means_at_once() -> None:
    law = Law(kappa=1.0, norm=100.0)
    assert law.delay([200, 200, 50, 50], [0.0, 1e-3, 1e-3, 0.0]).tolist() == [inf, pytest.approx(346.57, 1e-4), 0, inf]


@pytest.mark.parametrize("values", [([1.0], [1.0], [1.0]), ([2, 3], [1, 0], [1, 1]), ([2, 3], [1, 1], [1, 0])])
def test_what_it_cannot_be_fitted_to_is_refused(values: tuple[list[float], ...]) -> None:
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match="above 0"):
        fit_law(*values)


def test_area_counts_pairs_and_ties_by_half() -> None:
    scores, positive = np.array([0.1, 0.4, 0.4, 0.8, 0.2]), np.array([False, True, False, True, False])
    pairs = [(up > down) + (up == down) / 2 for up in scores[positive] for down in scores[~positive]]
    assert area_under_curve(scores, positive) == pytest.approx(np.mean(pairs))
    with pytest.raises(ValueError, match="positives and negatives"):
        area_under_curve(scores, positive | True)


def test_bootstrap_draws_whole_conditions() -> None:
    """Runs of one condition that agree are one observation: the interval of two is all there is between them."""
    values = np.repeat([0.0, 1.0], 50)
    assert interval(lambda places: float(values[places].mean()), [*np.repeat([0, 1], 50)]) == (0.0, 1.0)
    assert np.isnan(interval(lambda places: float(values[places].mean()), [0] * 100)).all()
    low, high = interval(lambda places: float(values[places].mean()), range(100))
    assert 0.35 < low < 0.45 < 0.55 < high < 0.65
