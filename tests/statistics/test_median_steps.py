"""Medians and their intervals, against exact arithmetic, lifelines' numbers, R's rule and simulation."""

from fractions import Fraction
from math import inf, isnan, log, nan

import numpy as np
import pytest

from grok_lightning.statistics import LEAST_RUNS, kaplan_meier
from grok_lightning.statistics.survival import QUANTILE

# Survival with its 95 % interval (exponential Greenwood) as printed by KaplanMeierFitter of lifelines 0.30.3. Where the
# share is 1 or 0, lifelines prints it as both ends, and survfit of R (conf.type = "log-log") NA, as is done here.
LIFELINES = {
    "untied": (
        [3, 1, 4, 9, 5, 7], [1] * 6,
        [(1, 0.833333, 0.273123, 0.974712), (3, 0.666667, 0.194617, 0.904434), (4, 0.5, 0.110948, 0.803709),
         (5, 0.333333, 0.046082, 0.675564), (7, 0.166667, 0.007723, 0.516802), (9, 0, nan, nan)],
    ),
    "events and censored runs tied": (
        [10, 10, 10, 20, 20, 20, 30, 30, 40], [1, 1, 0, 1, 0, 0, 1, 1, 0],
        [(10, 0.777778, 0.364751, 0.939296), (20, 0.648148, 0.253175, 0.872068), (30, 0.216049, 0.010290, 0.598694),
         (40, 0.216049, 0.010290, 0.598694)],
    ),
    "all tied": ([487] * 5, [1] * 5, [(487, 0, nan, nan)]),
    "tied at the end": ([5, 8, 8, 8, 8, 8, 8], [1] * 7, [(5, 0.857143, 0.334054, 0.978561), (8, 0, nan, nan)]),
    "all censored": ([500] * 6, [0] * 6, [(500, 1, nan, nan)]),
    "the last is an event": (
        [100, 200, 200, 300, 400, 500], [1, 0, 1, 1, 0, 1],
        [(100, 0.833333, 0.273123, 0.974712), (200, 0.666667, 0.194617, 0.904434), (300, 0.444444, 0.066187, 0.784908),
         (400, 0.444444, 0.066187, 0.784908), (500, 0, nan, nan)],
    ),
    "one event": (
        [100] + [500] * 9, [1] + [0] * 9, [(100, 0.9, 0.473009, 0.985281), (500, 0.9, 0.473009, 0.985281)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LIFELINES)
def test_survival_and_its_interval_are_those_of_lifelines(case):
    steps, observed, wanted = LIFELINES[case]
    found = kaplan_meier(steps, observed)
    for column, values in zip(
        (found.steps, found.survival, found.low, found.high), zip(*wanted, strict=True), strict=True
    ):
        assert column.tolist() == pytest.approx(values, abs=1e-6, nan_ok=True)


# what print(survfit(..., conf.type = "log-log")) of R's survival shows by its rules; NA stands for inf and NaN
R_MEDIANS = [
    ([4600, 9700], [1, 1], 7150),
    ([4600, 20_000], [1, 0], 4600),  # 1/2 to the end: the first step (quantile() would say 12,300)
    ([4600, 9700, 9700, 20_000], [1, 1, 0, 0], 9700),
    ([1, 2, 3, 4], [1, 1, 0, 0], 2),
    ([1, 2, 3, 4], [1, 1, 0, 1], 3),  # 1/2 from 2 to 4, across a censored run
    ([1, 2, 2, 4], [1, 1, 1, 1], 2),
    ([1, 1, 4, 4], [1, 1, 1, 1], 2.5),
    ([487] * 3, [1] * 3, 487),
    ([0, 0], [1, 1], 0),
    ([7], [1], 7),
    ([7], [0], inf),
]


@pytest.mark.parametrize(("steps", "observed", "median"), R_MEDIANS)
def test_medians_are_those_of_r(steps, observed, median):
    found = kaplan_meier(steps, observed)
    assert found.median == median
    assert all(map(isnan, found.median_interval))


@pytest.mark.parametrize("n", range(1, 12))
def test_the_median_of_complete_data_is_the_ordinary_one(n):
    steps = np.random.default_rng(n).integers(1, 2 * n, n)
    assert kaplan_meier(steps, [True] * n).median == np.median(steps)


@pytest.mark.parametrize("n", [100, 998, 5000])
def test_rounding_of_a_long_product_hides_no_half(n):
    steps = np.arange(1.0, n + 1)
    assert kaplan_meier(steps, [True] * n).median == (n + 1) / 2
    late = np.append(steps, [2.0 * n] * n)  # as many censored runs: the share reaches 1/2 and stays
    assert kaplan_meier(late, np.arange(2 * n) < n).median == n
    between = np.append(steps, [n + 0.5, *range(n + 1, 2 * n)])  # one of them before the next event
    assert kaplan_meier(between, np.arange(2 * n) != n).median == n + 0.5


def draw(random: np.random.Generator) -> tuple[list[int], list[bool]]:
    """A few runs, most of them tied, of which any number is censored."""
    n = int(random.integers(1, 13))
    steps = random.integers(0, random.choice([1, 3, 6, 40]), n)
    return steps.tolist(), (random.random(n) < random.choice([0, 0.5, 0.8, 1])).tolist()


def in_fractions(steps: list[int], observed: list[bool]) -> list[tuple[int, Fraction, Fraction | None]]:
    """Each step with the share after it and Greenwood's sum, which is infinite at a share of 0."""
    found, share, spread = [], Fraction(1), Fraction(0)
    for step in sorted(set(steps)):
        risk = sum(other >= step for other in steps)
        events = sum(seen for other, seen in zip(steps, observed, strict=True) if other == step)
        share *= 1 - Fraction(events, risk)
        spread += Fraction(events, risk * (risk - events)) if risk > events else 0
        found.append((step, share, spread if share else None))
    return found


def test_any_runs_have_the_exact_median_within_their_interval():
    random = np.random.default_rng(0)
    seen = {"flat": 0, "tail": 0, "known": 0, "bounded": 0}
    for _ in range(700):
        steps, observed = draw(random)
        exact, found = in_fractions(steps, observed), kaplan_meier(steps, observed)
        at_half = [step for step, share, _ in exact if share == Fraction(1, 2)]
        below = [step for step, share, _ in exact if share < Fraction(1, 2)]
        median = (at_half[0] + (below or at_half)[0]) / 2 if at_half else below[0] if below else inf
        assert found.median == median
        assert found.survival.tolist() == pytest.approx([float(share) for _, share, _ in exact])
        low, high = found.median_interval
        assert isnan(low) == isnan(high)
        assert isnan(low) or low <= median <= high
        assert len(steps) >= LEAST_RUNS or isnan(low)
        for place, (_, share, spread) in enumerate(exact):
            ends = [found.low[place], found.high[place]]
            if len(steps) < LEAST_RUNS or not spread or share in (0, 1):
                assert all(map(isnan, ends))
            else:
                root = QUANTILE * float(spread) ** 0.5 / log(share)
                assert ends == pytest.approx([float(share) ** np.exp(-root), float(share) ** np.exp(root)])
        seen["flat"] += bool(at_half and below)
        seen["tail"] += bool(at_half and not below)
        seen["known"] += not isnan(low)
        seen["bounded"] += high < inf
    assert min(seen.values()) > 10, seen


@pytest.mark.parametrize("budget", [inf, 1500, 1050], ids=["complete", "censored", "half censored"])
@pytest.mark.parametrize("n", [5, 6, 8, 12])
def test_from_five_runs_on_the_interval_covers_the_median(n, budget):
    """Of fewer it would cover no more than 1 - 1 / 2**n of samples: 75 % of two, 87.5 % of three, 93.75 % of four."""
    random = np.random.default_rng(n)
    covered, samples = 0, 400
    for _ in range(samples):
        steps = random.exponential(1000 / log(2), n)
        low, high = kaplan_meier(np.minimum(steps, budget), steps <= budget).median_interval
        covered += isnan(low) or low <= 1000 <= high  # nothing is claimed where too few runs had the event
    assert covered / samples >= 0.93


@pytest.mark.parametrize("n", [5, 10])
def test_from_five_runs_on_the_interval_of_the_mean_covers_it(n):
    random = np.random.default_rng(n)
    truth = 1000 * (1 - np.exp(-3))
    covered, samples = 0, 400
    for _ in range(samples):
        steps = random.exponential(1000, n)
        _, low, high = kaplan_meier(np.minimum(steps, 3000), steps <= 3000).restricted_mean(3000)
        covered += low <= truth <= high
    assert 0.87 <= covered / samples <= 0.98  # of skewed steps; a normal interval covers 80 % with five runs


@pytest.mark.parametrize("n", range(1, LEAST_RUNS))
def test_fewer_than_five_runs_have_no_interval(n):
    found = kaplan_meier(range(1, n + 1), [True] * n)
    assert np.isnan([*found.low, *found.high, *found.median_interval]).all()
    assert np.isnan(found.restricted_mean(10)[1:]).all()
