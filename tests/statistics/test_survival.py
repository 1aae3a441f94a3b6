"""Kaplan-Meier, its intervals, restricted means and log-rank tests, against published figures and by hand."""

from math import inf, isnan, nan

import numpy as np
import pytest
from scipy.stats import t

from grok_lightning.statistics import holm, kaplan_meier, log_rank

# Weeks of remission of leukemia patients, 6-mercaptopurine against placebo: Freireich et al. 1963, the example of
# textbooks (Klein and Moeschberger). S, medians and the chi square of 16.79 are printed there; the restricted means to
# 35 weeks, 23.29 and 8.67, too.
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
RELAPSED = [True] * 9 + [False] * 12
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
ALL = [True] * 21


def test_the_published_survival_curve():
    found = kaplan_meier(TREATED, RELAPSED)
    at = dict(zip(found.steps, found.survival.round(3), strict=True))
    published = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    assert {week: at[week] for week in published} == published
    assert found.median == 23
    assert found.median_interval == (13, inf)
    assert found.restricted_mean(35)[0] == pytest.approx(23.287, abs=1e-3)


def test_the_published_group_without_censoring():
    found = kaplan_meier(PLACEBO, ALL)
    assert found.median == 8
    assert found.median_interval == (4, 11)
    assert found.restricted_mean(35)[0] == pytest.approx(np.mean(PLACEBO))


def test_the_published_log_rank_test():
    assert log_rank(TREATED, RELAPSED, PLACEBO, ALL) == pytest.approx(4.17e-5, rel=1e-3)  # chi square 16.79


def test_three_of_six_by_hand():
    found = kaplan_meier([100, 200, 300, 400, 500, 600], [True, True, False, True, False, False])
    assert found.survival.tolist() == pytest.approx([5 / 6, 4 / 6, 4 / 6, 4 / 9, 4 / 9, 4 / 9])
    assert found.median == 400
    # area: 100 and then 5/6 of 100, 4/6 of 200, 4/9 of 200
    mean, low, high = found.restricted_mean(600)
    assert mean == pytest.approx(100 + 250 / 3 + 400 / 3 + 800 / 9)
    # Greenwood: areas after 100, 200, 400; times d / (n (n - d)) = 1/30, 1/20, 1/6; Student's t of 5 degrees of freedom
    after = [250 / 3 + 400 / 3 + 800 / 9, 400 / 3 + 800 / 9, 800 / 9]
    variance = sum(area**2 * share for area, share in zip(after, (1 / 30, 1 / 20, 1 / 6), strict=True))
    error = 2.570582 * (variance * 6 / 5) ** 0.5
    assert (low, high) == pytest.approx((mean - error, min(600, mean + error)))


def test_a_censored_run_leaves_the_others_at_risk():
    found = kaplan_meier([10, 20, 30], [True, False, True])
    assert found.survival.tolist() == pytest.approx([2 / 3, 2 / 3, 0])
    assert found.at_risk.tolist() == [3, 2, 1]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_nobody_got_there(count):
    found = kaplan_meier([500] * count, [False] * count)
    assert found.median == inf
    assert all(map(isnan, found.median_interval))
    mean, *interval = found.restricted_mean(500)
    assert mean == 500
    assert all(map(isnan, interval))  # its variance of 0 is that of no event, and no certainty


def test_half_of_the_runs_are_enough_for_a_median():
    assert kaplan_meier([100, 500], [True, False]).median == 100
    assert kaplan_meier([100, 500, 500], [True, False, False]).median == inf


@pytest.mark.parametrize("n", [5, 6, 17])
def test_the_interval_of_a_mean_of_complete_data_is_students(n):
    steps = np.random.default_rng(n).integers(1, 900, n)
    wanted = t.interval(0.95, n - 1, steps.mean(), steps.std(ddof=1) / np.sqrt(n))
    mean, low, high = kaplan_meier(steps, [True] * n).restricted_mean(5000)
    assert (mean, low, high) == pytest.approx((steps.mean(), max(0, wanted[0]), wanted[1]))


def test_the_interval_holds_the_median_and_covers_the_truth():
    """Exponential steps, median 1,000, a budget of 1,500: of 400 experiments of 30 runs some 95 % cover it."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        steps = random.exponential(1000 / np.log(2), 30)
        found = kaplan_meier(np.minimum(steps, 1500), steps <= 1500)
        low, high = found.median_interval
        assert low <= found.median <= high
        covered += low <= 1000 <= high
    assert 0.92 <= covered / 400 <= 0.985


def test_the_restricted_mean_covers_the_truth():
    random = np.random.default_rng(1)
    truth = 1000 * (1 - np.exp(-1.5))
    covered = 0
    for _ in range(400):
        steps = random.exponential(1000, 40)
        _, low, high = kaplan_meier(np.minimum(steps, 1500), steps <= 1500).restricted_mean(1500)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_restricted_mean_beyond_what_was_watched_is_unknown():
    assert isnan(kaplan_meier([100, 200], [True, False]).restricted_mean(300)[0])
    assert kaplan_meier([100, 200], [True, True]).restricted_mean(300)[0] == pytest.approx(150)


def test_no_runs():
    found = kaplan_meier([], [])
    assert found.median == inf
    assert isnan(found.restricted_mean(10)[0])
    assert isnan(log_rank([], [], [1], [True]))


def test_log_rank_of_equal_sets_and_of_none_that_got_there():
    assert log_rank([5, 7], [True, True], [5, 7], [True, True]) == pytest.approx(1)
    assert log_rank([5, 5], [True, True], [5, 5], [True, True]) == 1
    assert isnan(log_rank([5, 5], [False, False], [5], [False]))
    assert log_rank(PLACEBO, ALL, TREATED, RELAPSED) == pytest.approx(log_rank(TREATED, RELAPSED, PLACEBO, ALL))


def test_log_rank_rejects_as_often_as_it_says():
    random = np.random.default_rng(2)
    rejected = 0
    for _ in range(400):
        a, b = random.exponential(1000, (2, 20))
        rejected += log_rank(np.minimum(a, 1200), a <= 1200, np.minimum(b, 1200), b <= 1200) < 0.05
    assert 0.02 <= rejected / 400 <= 0.09


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    found = holm([nan, 0.02])
    assert isnan(found[0])
    assert found[1] == pytest.approx(0.02)
    assert holm([]) == []


@pytest.mark.parametrize(
    ("steps", "observed"), [([1, 2], [True]), ([-1], [True]), ([inf], [False]), ([nan], [False])], ids=str
)
def test_what_is_no_time_is_refused(steps, observed):
    with pytest.raises(ValueError, match="steps"):
        kaplan_meier(steps, observed)
