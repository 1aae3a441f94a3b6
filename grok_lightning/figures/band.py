"""Median over the runs of each condition of accuracy and loss, with a band around it."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grok_lightning.figures.conditions import by_condition, stack
from grok_lightning.figures.splits import MEASURES
from grok_lightning.figures.values import keys_of

QUARTILES, RANGE = "25-75%", "min-max"
ENOUGH = 5  # runs from which on quartiles mean something
POINTS = 400  # steps of one line


def band_table(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The table of medians that ``condition_curves`` draws.

    A run that stopped early because it had grokked for long enough, or because it diverged, counts with its last values
    from then on: else the median would become that of the slow ones. Other runs count up to their last evaluation.

    Args:
        runs: One row per run, as in a report.
        curves: Their evaluations.

    Returns:
        The keys and ``condition``, in order, and in each condition each ``measure`` (``train/acc``, ``val/acc``,
        ``train/loss``, ``val/loss``) at the ``step``s (from 1 on) at which at least half of the runs under way were
        evaluated, as long as half of all count: ``median``, ``low``, ``high``, ``n`` runs, of which ``carried`` had
        stopped early; ``interval``: what ``low`` and ``high`` are, quartiles if every condition has 5 runs or more,
        else minimum and maximum; ``runs``: the number of runs of the condition.
    """
    known = runs[runs["run"].isin(pd.unique(curves["run"]))]
    groups = by_condition(known)
    interval = QUARTILES if groups and min(len(rows) for _, rows in groups) >= ENOUGH else RANGE
    by_run = curves.groupby("run", sort=False).indices
    parts = []
    for condition, rows in groups:
        places = [by_run[name] for name in rows["run"]]
        carried = rows["status"].eq("diverged") | (rows["status"].ne("running") & rows["sustained_grok_step"].notna())
        own = curves.iloc[np.concatenate(places)]
        table = _summarize(own, np.array(list(map(len, places))), carried.to_numpy(bool), interval)
        parts.append((condition, table.assign(interval=interval, runs=len(rows))))
    columns = ["measure", "step", "median", "low", "high", "n", "carried", "interval", "runs"]
    return stack(parts, keys_of(runs, "condition"), columns)


def _summarize(
    curves: pd.DataFrame, lengths: NDArray[np.int_], carried: NDArray[np.bool_], interval: str
) -> pd.DataFrame:
    """Medians and intervals of one condition, from the rows of its runs one after another."""
    run, step = np.repeat(np.arange(len(lengths)), lengths), curves["step"].to_numpy(np.int64)
    last = step[np.cumsum(lengths) - 1]
    grid = _find_steps(step, last)
    far = int(step.max()) + 1
    # one sorted sequence of (run, step): the newest evaluation of each run up to each step is found at once
    found = np.searchsorted(run * far + step, np.arange(len(lengths))[:, None] * far + grid, side="right") - 1
    early = grid > last[:, None]
    known = (found >= (np.cumsum(lengths) - lengths)[:, None]) & (~early | carried[:, None])
    parts = []
    for measure in MEASURES:
        values_RS = np.where(known, curves[measure].to_numpy(float)[found.clip(0)], np.nan)
        n = (~np.isnan(values_RS)).sum(0)
        seen = (n > 0) & (2 * n >= len(lengths))
        ends = [0.25, 0.5, 0.75] if interval == QUARTILES else [0.0, 0.5, 1.0]
        low, middle, high = _interpolate_quantiles(values_RS[:, seen], n[seen], ends)
        parts.append(
            pd.DataFrame({"measure": measure, "step": grid[seen], "median": middle, "low": low, "high": high}).assign(
                n=n[seen], carried=(known & early)[:, seen].sum(0)
            )
        )
    return pd.concat(parts, ignore_index=True)


def _interpolate_quantiles(
    values_RS: NDArray[np.float64], n: NDArray[np.int_], shares: list[float]
) -> list[NDArray[np.float64]]:
    """Quantiles of each column's n values that are not NaN; NumPy's own function would go column by column."""
    ordered_RS, columns = np.sort(values_RS, axis=0), np.arange(values_RS.shape[1])
    found = []
    for share in shares:
        place = share * (n - 1)
        below = np.floor(place).astype(int)
        first, second = ordered_RS[below, columns], ordered_RS[np.ceil(place).astype(int), columns]
        with np.errstate(invalid="ignore"):  # inf - inf, a loss out of range in both
            found.append(np.where(first == second, first, first + (place - below) * (second - first)))
    return found


def _find_steps(step: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """The steps at which at least half of the runs under way were evaluated, at most 400."""
    steps, counts = np.unique(step[step > 0], return_counts=True)
    under_way = len(last) - np.searchsorted(np.sort(last), steps)
    steps = steps[2 * counts >= under_way]
    if len(steps) > POINTS:
        even = np.searchsorted(steps, np.geomspace(steps[0], steps[-1], POINTS).round())
        steps = steps[np.unique(even.clip(0, len(steps) - 1))]
    return steps
