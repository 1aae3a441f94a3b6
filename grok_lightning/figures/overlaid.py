"""Accuracy and loss of all runs of a set, one thin line each."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from grok_lightning.figures.conditions import FEW, by_condition, colorbar, heads, looks, naming
from grok_lightning.figures.multiples import panel_each
from grok_lightning.figures.splits import MEASURES, Measure, accuracy_and_loss
from grok_lightning.figures.style import CROWD, SOLID, Line, counted, legend, new_figure

MOST = 300  # lines in one figure
POINTS = 60_000  # points in all lines of one panel


def overlaid_table(runs: pd.DataFrame, curves: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """What ``overlaid`` draws.

    Args:
        runs: One row per run, as reports make them.
        curves: Their evaluations.
        most: The number of runs to keep, as many of each condition as possible and spread over its runs.

    Returns:
        Conditions in order, in them ``run``, ``step`` (from 1 on), accuracies and losses in training and validation;
        ``runs`` is the number of runs of the condition, those left out included. Long runs are thinned evenly on a
        logarithmic scale.
    """
    known = runs[runs["run"].isin(pd.unique(curves["run"]))]
    groups = {condition: rows["run"] for condition, rows in by_condition(known)}
    quota = _quotas([len(names) for names in groups.values()], most)
    kept = []
    for (condition, names), few in zip(groups.items(), quota, strict=True):
        some = names.iloc[np.linspace(0, len(names) - 1, few).round().astype(int)]
        kept.append(pd.DataFrame({"condition": condition, "run": some, "runs": len(names)}))
    columns = ["condition", "run", "step", *MEASURES, "runs"]
    if not kept:
        return pd.DataFrame(columns=columns)
    chosen = pd.concat(kept, ignore_index=True)
    rows = curves[curves["run"].isin(chosen["run"]) & (curves["step"] > 0)]
    rows = rows[_thinned(rows, max(60, POINTS // len(chosen)))]
    return chosen.merge(rows, on="run", how="inner", sort=False)[columns]


def _quotas(sizes: list[int], most: int) -> list[int]:
    """How many of each group to keep: the same of all, more of the large ones only where small ones leave room."""
    left, quotas = most, [0] * len(sizes)
    for rank, place in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        quotas[place] = min(sizes[place], -(-left // (len(sizes) - rank)))
        left -= quotas[place]
    return quotas


def _thinned(rows: pd.DataFrame, points: int) -> np.ndarray:
    """Which rows to keep so that a run has about that many: its first, its last, and one of each bin of log steps."""
    run, step = pd.factorize(rows["run"])[0], rows["step"].to_numpy(float)
    if not len(rows) or np.bincount(run).max() <= points:
        return np.ones(len(rows), bool)
    bins = np.floor(np.log10(step) / np.log10(step.max() + 1) * points)
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (run[1:] != run[:-1]) | (bins[1:] != bins[:-1])
    fresh[:-1] |= run[1:] != run[:-1]
    fresh[-1] = True
    return fresh


def overlaid(table: pd.DataFrame, title: str, measure: Measure = "acc") -> Figure:
    """A thin line for each run, colored by condition: accuracy above loss, training beside validation.

    With more than 8 conditions that are not numbers of one key: a panel for each, of one measure.

    Args:
        table: From ``overlaid_table``.
        title: The figure's title.
        measure: ``acc`` or ``loss``: which to draw where each condition has a panel.
    """
    parts = dict(by_condition(table))
    names, kinds = naming(parts), looks(parts)
    runs, lines = sum(int(rows["runs"].iloc[0]) for rows in parts.values()), int(table["run"].nunique())
    note = f"{counted(runs, 'run')}, one line each." if lines == runs else (
        f"{lines:,} of {runs:,} runs, one line each, evenly from all conditions.")  # fmt: skip
    if len(parts) > FEW and names.values is None:
        return panel_each(title, note, parts, measure, table, partial(_lines, line=SOLID, lines=lines))
    figure = new_figure(title, note, 9.5 if len(parts) > 1 else 8, 6)
    cells = accuracy_and_loss(figure, table["step"], table)
    for (split, kind), axes in cells.items():
        for rows, look in zip(parts.values(), kinds, strict=True):
            _lines(axes, rows, f"{split}/{kind}", look.color, look.line, lines)
    if len(parts) > FEW:
        colorbar(figure, names)
    elif len(parts) > 1:
        labels = [
            f"{label} ({rows['runs'].iloc[0]:,})" for label, rows in zip(names.labels, parts.values(), strict=True)
        ]
        legend(figure, heads(kinds, markers=False), labels, names.title)
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, column: str, color: str, line: Line, lines: int) -> None:
    scale = 100 if column.endswith("acc") else 1
    points = np.column_stack([rows["step"].to_numpy(float), scale * rows[column].to_numpy(float)])
    starts = np.flatnonzero(rows["run"].to_numpy()[1:] != rows["run"].to_numpy()[:-1]) + 1
    width, alpha = (1.2, 0.85) if lines <= 12 else (0.8, 0.6) if lines <= 60 else (0.6, 0.35)
    drawn = LineCollection(
        np.split(points, starts), colors=color, linestyles=line if lines <= 60 else SOLID, linewidths=width,
        alpha=alpha, rasterized=len(points) > 20 * CROWD,
    )  # fmt: skip
    axes.add_collection(drawn, autolim=False)
