"""Accuracy and loss of single runs, at most some hundred, thinned."""

import numpy as np
import pandas as pd

from grok_lightning.figures.conditions import by_condition, stack
from grok_lightning.figures.splits import MEASURES
from grok_lightning.figures.values import keys_of

MOST = 300  # lines in one figure
POINTS = 60_000  # points in all lines of one panel


def overlaid_table(runs: pd.DataFrame, curves: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """The table of single runs that ``condition_curves`` draws.

    Args:
        runs: One row per run, as in a report.
        curves: Their evaluations.
        most: The number of runs to keep, as many of each condition as possible and spread over its runs.

    Returns:
        The keys and ``condition``, in order, ``run``, ``step`` (from 1 on), accuracies and losses in training and
        validation; ``runs`` is the number of runs of the condition, those left out included. Long runs are thinned
        evenly on a logarithmic scale.
    """
    known = runs[runs["run"].isin(pd.unique(curves["run"]))]
    groups = by_condition(known)
    kept = []
    for (condition, group), few in zip(groups, _share([len(group) for _, group in groups], most), strict=True):
        some = group.iloc[np.linspace(0, len(group) - 1, few).round().astype(int)]
        kept.append((condition, some[["run"]].assign(runs=len(group))))
    keys = keys_of(runs, "condition")
    columns = [*keys, "condition", "run", "step", *MEASURES, "runs"]
    if not kept:
        return pd.DataFrame(columns=columns)
    chosen = stack(kept, keys, ["run", "runs"])
    rows = curves[curves["run"].isin(chosen["run"]) & (curves["step"] > 0)]
    rows = rows[_thin(rows, max(60, POINTS // len(chosen)))]
    return chosen.merge(rows, on="run", how="inner", sort=False)[columns]


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
