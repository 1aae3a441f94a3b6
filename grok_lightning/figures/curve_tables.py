"""Tables of accuracy and loss over the steps: medians of conditions with a band, and single runs, thinned."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grok_lightning.figures.conditions import Condition, split_conditions, stack
from grok_lightning.figures.values import list_keys

MEASURES = ["train/acc", "val/acc", "train/loss", "val/loss"]
QUARTILES, RANGE = "25-75%", "min-max"
ENOUGH = 5  # runs from which on quartiles mean something
STEPS = 400  # of one line of medians
MOST = 300  # single runs in one figure
POINTS = 60_000  # of all single runs in one panel


def tabulate_medians(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The table of medians that ``draw_condition_curves`` draws.

    A run that stopped early because it had grokked, or because it diverged, counts with its last values from then on:
    else the median would become that of the slow ones. Other runs count up to their last evaluation.

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
    groups, by_run = _keep_evaluated(runs, curves), curves.groupby("run", sort=False).indices
    interval = QUARTILES if min((len(rows) for _, rows in groups if len(rows)), default=0) >= ENOUGH else RANGE
    parts = []
    for condition, rows in groups:
        if rows.empty:
            parts.append((condition, rows))
            continue
        places = [by_run[name] for name in rows["run"]]
        reached = rows["grok_step"].notna()
        if "validated" in rows:
            reached |= ~rows["validated"].astype(bool) & rows["memorize_step"].notna()
        stopped = rows["status"].eq("stopped") & reached
        carried = rows["status"].eq("diverged") | rows["sustained_grok_step"].notna() | stopped
        own = curves.iloc[np.concatenate(places)]
        table = _summarize(own, np.array(list(map(len, places))), carried.to_numpy(bool), interval)
        parts.append((condition, table.assign(interval=interval, runs=len(rows))))
    columns = ["measure", "step", "median", "low", "high", "n", "carried", "interval", "runs"]
    return stack(parts, list_keys(runs, "condition"), columns)


def _keep_evaluated(runs: pd.DataFrame, curves: pd.DataFrame) -> list[tuple[Condition, pd.DataFrame]]:
    """The runs of each condition that have evaluations."""
    evaluated = pd.unique(curves["run"])
    return [(condition, rows[rows["run"].isin(evaluated)]) for condition, rows in split_conditions(runs)]


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
    if len(steps) > STEPS:
        even = np.searchsorted(steps, np.geomspace(steps[0], steps[-1], STEPS).round())
        steps = steps[np.unique(even.clip(0, len(steps) - 1))]
    return steps


def tabulate_single_runs(runs: pd.DataFrame, curves: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """The table of single runs that ``draw_condition_curves`` draws.

    Args:
        runs: One row per run, as in a report.
        curves: Their evaluations.
        most: The number of runs to keep, as many of each condition as possible and spread over its runs.

    Returns:
        The keys and ``condition``, in order, ``run``, ``step`` (from 1 on), accuracies and losses in training and
        validation; ``runs`` is the number of runs of the condition, those left out included. Long runs are thinned
        evenly on a logarithmic scale.
    """
    groups, kept = _keep_evaluated(runs, curves), []
    for (condition, group), few in zip(groups, _share([len(group) for _, group in groups], most), strict=True):
        some = group.iloc[np.linspace(0, len(group) - 1, few).round().astype(int)]
        kept.append((condition, pd.DataFrame({"run": some["run"].tolist() or [None], "runs": len(group)})))
    keys = list_keys(runs, "condition")
    chosen = stack(kept, keys, ["run", "runs"])
    rows = curves[curves["run"].isin(chosen["run"]) & (curves["step"] > 0)]
    rows = rows[_thin(rows, max(60, POINTS // max(1, len(chosen))))]
    columns = [*keys, "condition", "run", "step", *MEASURES, "runs"]
    return chosen.merge(rows, on="run", how="left", sort=False).reindex(columns=columns)


def _share(sizes: list[int], most: int) -> list[int]:
    """Number to keep of each group: equal for all, more of large groups only where small ones leave room."""
    left, quotas = most, [0] * len(sizes)
    for rank, place in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        quotas[place] = min(sizes[place], -(-left // (len(sizes) - rank)))
        left -= quotas[place]
    return quotas


def _thin(rows: pd.DataFrame, points: int) -> np.ndarray:
    """Mask of about that many rows of each run: the first, the last, and one of each bin of log steps."""
    run, step = pd.factorize(rows["run"])[0], rows["step"].to_numpy(float)
    if not len(rows) or np.bincount(run).max() <= points:
        return np.ones(len(rows), bool)
    bins = np.floor(np.log10(step) / np.log10(step.max() + 1) * points)
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (run[1:] != run[:-1]) | (bins[1:] != bins[:-1])
    fresh[:-1] |= run[1:] != run[:-1]
    fresh[-1] = True
    return fresh
