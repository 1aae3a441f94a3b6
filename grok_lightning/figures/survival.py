"""Kaplan-Meier curves: the share of runs that have not grokked yet, against steps."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_lightning.figures import style
from grok_lightning.figures.conditions import (
    PLAIN,
    Look,
    add_legend,
    make_handles,
    pick_looks,
    pick_names,
    split_conditions,
    stack,
)
from grok_lightning.figures.multiples import draw_panels
from grok_lightning.figures.values import list_keys
from grok_lightning.statistics import LEAST_RUNS, kaplan_meier, times

LABEL = "not yet grokked (% of runs)"


def tabulate_survival(runs: pd.DataFrame) -> pd.DataFrame:
    """The table that ``draw_survival`` draws.

    Args:
        runs: One row per run, as in a report.

    Returns:
        The keys and ``condition``, in order, and ``kind``. Rows of kind ``curve`` have the ``share`` of runs that have
        not grokked from ``step`` on, its pointwise 95 % interval ``low``, ``high`` (NaN where the share is 1 or 0, and
        with fewer than 5 runs) and ``count``, the runs at risk;
        rows of kind ``censored`` have a ``step`` at which runs were censored, the share there, and ``count``, the
        number of them. Both have ``n``, the number of runs of the condition.
    """
    keys = list_keys(runs, "condition")
    at = pd.concat([runs[[*keys, "condition"]], times(runs, "grok")], axis=1)
    parts = []
    for condition, group in split_conditions(at):
        estimate = kaplan_meier(group["step"], group["observed"])
        changes = np.diff(estimate.survival, prepend=1.0) != 0
        changes[-1:] = True  # to where runs were watched
        curve = {"step": estimate.steps, "share": estimate.survival, "low": estimate.low, "high": estimate.high}
        start = pd.DataFrame({"step": [0.0], "share": 1.0, "low": np.nan, "high": np.nan, "count": len(group)})
        steps = pd.DataFrame(curve | {"count": estimate.at_risk})[changes]
        gone, counts = np.unique(group["step"][~group["observed"]].to_numpy(float), return_counts=True)
        share = estimate.survival[np.searchsorted(estimate.steps, gone)]
        ticks = pd.DataFrame({"step": gone, "share": share, "count": counts}).assign(kind="censored")
        rows = pd.concat([start, steps]).assign(kind="curve")
        parts.append((condition, (pd.concat([rows, ticks]) if len(gone) else rows).assign(n=len(group))))
    return stack(parts, keys, ["kind", "step", "share", "low", "high", "count", "n"])


def draw_survival(table: pd.DataFrame, title: str) -> Figure:
    """Kaplan-Meier curves with pointwise 95 % bands, from 5 runs on; a tick where runs were censored.

    With more than 8 conditions: curves colored by their number without bands, if they are numbers of one key; else a
    panel for each.

    Args:
        table: From ``tabulate_survival``.
        title: The figure's title.
    """
    parts = split_conditions(table)
    sizes = [int(rows["n"].iloc[0]) for _, rows in parts]
    names = pick_names([condition for condition, _ in parts])
    if not names.has_colors:
        set_axes = partial(_set_axes, table=table, narrow=True)
        figure, cells = draw_panels(title, _describe(table, sizes), names, sizes, LABEL, set_axes)
        for (_, rows), axes in zip(parts, cells, strict=False):
            _draw_curve(axes, rows, PLAIN)
        return figure
    figure = style.make_figure(title, _describe(table, sizes, " (in the table only)" * names.has_scale), 7.5, 4.4)
    axes = figure.subplots()
    for (_, rows), look in zip(parts, pick_looks(names), strict=True):
        _draw_curve(axes, rows, look, band=not names.has_scale)
    _set_axes(axes, table)
    labels = [f"{label} (n = {n:,})" for label, n in zip(names.labels, sizes, strict=True)]
    censored = {"censored": style.make_handle("|")} if (table["kind"] == "censored").any() else {}
    add_legend(figure, names._replace(labels=labels), make_handles(pick_looks(names), markers=False), censored)
    return figure


def _draw_curve(axes: Axes, rows: pd.DataFrame, look: Look, band: bool = True) -> None:
    curve, gone = rows[rows["kind"] == "curve"], rows[rows["kind"] == "censored"]
    steps = curve["step"].clip(lower=0.5)  # a logarithmic axis has no 0; this lies left of its frame
    axes.step(steps, 100 * curve["share"], where="post", color=look.color, linestyle=look.line, linewidth=1.5)
    if band:
        low, high = 100 * curve["low"], 100 * curve["high"]
        axes.fill_between(steps, low, high, step="post", color=look.color, alpha=0.13, linewidth=0)
    axes.plot(gone["step"].clip(lower=1), 100 * gone["share"], "|", color=look.color, markersize=8, markeredgewidth=1.2,
              rasterized=len(gone) > style.CROWD)  # fmt: skip


def _set_axes(axes: Axes, table: pd.DataFrame, narrow: bool = False) -> None:
    style.hide_frame(axes)
    style.set_percent_axis(axes, LABEL)
    steps = table["step"][table["step"] > 0]
    low, high = (steps.min(), steps.max()) if len(steps) else (1, 1)
    style.set_step_axis(axes, "x", low / 1.5, high, narrow=narrow)


def _describe(table: pd.DataFrame, sizes: list[int], bands: str = "") -> str:
    runs, gone = sum(sizes), int(table.loc[table["kind"] == "censored", "count"].sum())
    enough = [size >= LEAST_RUNS for size in sizes]
    of = "" if all(enough) else f" of {LEAST_RUNS} runs or more"
    intervals = f" with pointwise 95% intervals{of}{bands}" if any(enough) else ""
    return (
        f"{style.format_count(runs, 'run')}, {runs - gone:,} grokked. Kaplan-Meier estimate{intervals}; "
        "ticks: censored runs."
    )
