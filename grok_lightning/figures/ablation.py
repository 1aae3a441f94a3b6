"""Median grok step of conditions, a row for each."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_lightning.figures.conditions import by_condition, naming, stack
from grok_lightning.figures.medians import median_row
from grok_lightning.figures.style import (
    DOTTED,
    NOTE,
    RIGHT,
    SOLID,
    VAL,
    bare,
    counted,
    goal,
    legend,
    mark,
    new_figure,
    points,
    step_axis,
)
from grok_lightning.figures.values import keys_of, spread
from grok_lightning.statistics import times

MOST = 40  # rows that fit a page
ROW = 0.27  # inches


def ablation_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The table that ``ablation`` draws.

    Args:
        runs: One row per run, as in a report.

    Returns:
        The keys and ``condition``, in order, and ``kind``. Rows of kind ``run`` have ``run``, ``status``, ``step``
        (grok step, or the step of censoring) and ``observed``; rows of kind ``median`` have ``step`` by Kaplan-Meier
        (infinity: not reached), its 95 % interval ``low``, ``high``, ``n`` and ``grokked``. Both have ``budget`` and
        ``threshold``.
    """
    keys = keys_of(runs, "condition")
    known = runs[[*keys, "condition", "run", "status", "budget", "threshold"]].assign(kind="run")
    parts = [
        (condition, pd.DataFrame([*group.to_dict("records"), median_row(group)]))
        for condition, group in by_condition(pd.concat([known, times(runs, "grok")], axis=1))
    ]
    columns = ["kind", "run", "status", "step", "observed", "low", "high", "n", "grokked", "budget", "threshold"]
    return stack(parts, keys, columns).astype(dict.fromkeys(("step", "low", "high"), float))


def ablation(table: pd.DataFrame, title: str) -> Figure:
    """A row for each condition: median grok step with its 95 % interval, single runs, and how many grokked of how many.

    Only the first 40 conditions are drawn, and the note then says so.

    Args:
        table: From ``ablation_table``.
        title: The figure's title.
    """
    conditions = [condition for condition, _ in by_condition(table)]
    shown = table[table["condition"].isin([condition.label for condition in conditions[:MOST]])]
    runs, medians = shown[shown["kind"] == "run"], shown[shown["kind"] == "median"]
    row = {name: place for place, name in enumerate(medians["condition"])}
    names = naming(conditions[:MOST], 52)
    labels = names.labels
    tall = 1 + max((label.count("\n") for label in labels), default=0)
    figure = new_figure(title, _describe(runs, medians, len(conditions)), 8, 1.5 + ROW * tall * max(2, len(row)))
    axes = figure.subplots()
    bare(axes)
    axes.grid(visible=False, axis="y")
    known = runs["step"].clip(lower=1)
    reached = np.isfinite(medians["step"])
    top = max(known.max() if len(known) else 1.0, 1.6 * medians["budget"].max() if not reached.all() else 1.0)
    step_axis(
        axes, "x", known.min() if len(known) else 1.0, top, f"steps to {goal(table['threshold'])} validation accuracy"
    )
    at = runs["condition"].map(row).to_numpy(float)
    points(axes, known, at + spread(at, 0.55), runs["observed"].eq(True), NOTE)
    _draw_medians(axes, medians)
    axes.set(yticks=range(len(row)), yticklabels=labels, ylim=(max(len(row), 1) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    for name, grokked, n in zip(row, medians["grokked"], medians["n"], strict=True):
        axes.text(
            1.015,
            row[name],
            f"{int(grokked):,}/{int(n):,}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=9,
        )
    axes.text(1.015, 1.01, "grokked", transform=axes.transAxes, va="bottom", fontsize=8, color=NOTE)
    axes.text(-0.015, 1.01, names.title, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=NOTE)
    _draw_legend(figure, runs, medians)
    return figure


def _draw_medians(axes: Axes, medians: pd.DataFrame) -> None:
    """Medians and intervals, dotted where they have no upper end, with an arrow where no median was reached."""
    edge = axes.get_xlim()[1]
    at = np.arange(len(medians), dtype=float)
    low, middle, high = (medians[name].to_numpy(float) for name in ("low", "step", "high"))
    reached, bounded = np.isfinite(middle), np.isfinite(high)
    known = reached & np.isfinite(low)  # a single run has no interval at all
    first, last = np.minimum(low, edge).clip(1), np.minimum(middle, edge).clip(1)
    axes.hlines(at[known], first[known], last[known], color=VAL, linewidth=1.8, zorder=4)
    for ends, line, alpha in ((known & bounded, SOLID, 1), (known & ~bounded, DOTTED, 0.5)):
        axes.hlines(at[ends], last[ends], np.minimum(high, edge)[ends], VAL, line, linewidth=1.8, alpha=alpha, zorder=2)
    axes.plot(last[reached], at[reached], "o", color=VAL, markersize=8, markeredgecolor="white", zorder=5)
    for y, budget in zip(at[~reached], medians["budget"].to_numpy(float)[~reached], strict=True):
        axes.annotate("", (1.6 * budget, y), (1.05 * budget, y), zorder=4,
                      arrowprops={"arrowstyle": "-|>", "color": VAL, "linewidth": 1.6})  # fmt: skip


def _draw_legend(figure: Figure, runs: pd.DataFrame, medians: pd.DataFrame) -> None:
    shown = [
        (np.isfinite(medians["step"]).any(), mark("o", VAL, line="-"), "median, 95% interval"),
        (np.isinf(medians["step"]).any(), mark(RIGHT, VAL), "median not reached"),
        (runs["observed"].eq(True).any(), mark("o", size=4), "a run"),
        (runs["observed"].eq(False).any(), mark("^", open=True, size=5), "not grokked (so far)"),
    ]
    legend(figure, [handle for occurs, handle, _ in shown if occurs], [label for occurs, _, label in shown if occurs])


def _describe(runs: pd.DataFrame, medians: pd.DataFrame, conditions: int) -> str:
    grokked, diverged = int(medians["grokked"].sum()), int((runs["status"] == "diverged").sum())
    lost = f", {diverged:,} diverged" if diverged else ""
    note = (
        f"{counted(len(runs), 'run')}, {grokked:,} grokked{lost}. Medians by Kaplan-Meier with 95% intervals; "
        "dotted: no upper end."
    )
    return (
        note
        if conditions <= MOST
        else f"{note} The first {MOST} of {conditions:,} conditions; the others are in the table only."
    )
