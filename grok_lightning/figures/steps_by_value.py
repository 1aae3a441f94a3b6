"""Grok step against a numeric key, the train fraction say."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grok_lightning.figures.conditions import FEW, Look, Naming, colorbar, heads, naming
from grok_lightning.figures.medians import median_row
from grok_lightning.figures.slots import slots
from grok_lightning.figures.style import (
    CROWD,
    DOTTED,
    FAINT,
    NOTE,
    SOLID,
    UP,
    bare,
    counted,
    each,
    goal,
    legend,
    mark,
    new_figure,
    points,
    step_axis,
)
from grok_lightning.figures.values import ordered_type, sorted_by, value_axis
from grok_lightning.statistics import times


def steps_by_value_table(runs: pd.DataFrame, key: str, by: str | None = None) -> pd.DataFrame:
    """What ``steps_by_value`` draws.

    Args:
        runs: One row per run, as reports make them.
        key: The column to stand on the x axis.
        by: A second one, for the color.

    Returns:
        The keys under their own names, then ``kind``. Rows of kind ``run`` have ``run``, ``status``, ``step`` (where it
        grokked or was censored), ``observed``, ``after`` (the last evaluated step before it) and ``memorize_step``;
        rows of kind ``median`` have ``step`` by Kaplan-Meier (infinity: not reached), its 95 % interval ``low``,
        ``high``, ``n`` and ``grokked``. Both have ``budget`` and ``threshold``.
    """
    keys = [key] if by is None else [key, by]
    base = runs[["run", "status", "memorize_step", "budget", "threshold"]].assign(kind="run")
    base = pd.concat([runs[keys].apply(ordered_type), base, times(runs, "grok")], axis=1)
    medians = []
    for values, group in base.groupby(keys, observed=True, sort=False):
        medians.append(median_row(group) | dict(zip(keys, values, strict=True)))
    columns = [*keys, "kind", "run", "status", "step", "observed", "after", "memorize_step"]
    columns += ["low", "high", "n", "grokked", "budget", "threshold"]
    both = pd.DataFrame([*base.to_dict("records"), *medians], columns=columns)
    return sorted_by(both.astype(dict.fromkeys(("step", "low", "high"), float)), keys)


def steps_by_value(table: pd.DataFrame, title: str) -> Figure:
    """Steps to generalize against a key: each run, and the medians with their intervals.

    Args:
        table: From ``steps_by_value_table``; the key's name labels the axis, a second one's the colors.
        title: The figure's title.
    """
    drawn = slots(table)
    runs, medians = drawn.runs, drawn.medians
    figure = new_figure(title, _note(runs, medians), 7.5, 4.6)
    axes = figure.subplots()
    bare(axes)
    seen = np.r_[runs["step"].dropna(), runs["memorize_step"].dropna(), 1.0 if runs.empty else []]
    beyond = 2.0 * medians["budget"].max() if np.isinf(medians["step"]).any() else 1.0
    step_axis(axes, "y", seen.min(), max(seen.max(), beyond), f"steps to {goal(table['threshold'])} accuracy")
    for look, mine, at, ours, ours_at in drawn.parts:
        color = look.color if drawn.conditions else NOTE
        axes.plot(at, mine["memorize_step"].clip(lower=1), "x", color=color, alpha=0.3, markersize=4,
                  rasterized=len(mine) > CROWD)  # fmt: skip
        points(axes, at, mine["step"].clip(lower=1), mine["observed"].eq(True), look.color)
        _medians(axes, ours_at, ours, look)
    value_axis(axes, drawn.where, drawn.key)
    _legend(figure, table, naming(drawn.conditions), drawn.kinds)
    return figure


def _medians(axes: Axes, at: np.ndarray, rows: pd.DataFrame, look: Look) -> None:
    """Medians joined by a line, their intervals, and arrows up from the budget where they were not reached."""
    reached = np.isfinite(rows["step"].to_numpy(float))
    top = axes.get_ylim()[1]
    low, middle, high = (rows[name].to_numpy(float).clip(1, top) for name in ("low", "step", "high"))
    bounded = np.isfinite(rows["high"].to_numpy(float))
    known = reached & np.isfinite(rows["low"].to_numpy(float))  # a single run has no interval at all
    axes.vlines(at[known], low[known], middle[known], color=look.color, linewidth=1.2, zorder=4)
    for ends, line, alpha in ((known & bounded, SOLID, 1), (known & ~bounded, DOTTED, 0.45)):
        axes.vlines(at[ends], middle[ends], high[ends], look.color, line, linewidth=1.2, alpha=alpha, zorder=2)
    axes.plot(at, np.where(reached, middle, np.nan), color=look.color, linestyle=look.line, linewidth=1.4, zorder=4,
              marker=look.marker, markersize=7, markeredgecolor="white")  # fmt: skip
    for x, budget in zip(at[~reached], rows["budget"].to_numpy(float)[~reached], strict=True):
        axes.annotate("", (x, 1.9 * budget), (x, 1.1 * budget), zorder=4,
                      arrowprops={"arrowstyle": "-|>", "color": look.color, "linewidth": 1.6})  # fmt: skip


def _legend(figure: Figure, table: pd.DataFrame, names: Naming, kinds: list[Look]) -> None:
    """Only what occurs in the figure."""
    runs, medians = table[table["kind"] == "run"], table[table["kind"] == "median"]
    color = NOTE if names.labels else kinds[0].color
    shown = [
        (
            np.isfinite(medians["step"]).any(),
            mark(kinds[0].marker if not names.labels else "", color, line="-"),
            "median, 95% interval",
        ),
        (np.isinf(medians["step"]).any(), mark(UP, color), "median not reached"),
        (runs["observed"].eq(True).any(), mark("o", color, size=4), "a run"),
        (runs["observed"].eq(False).any(), mark("^", color, open=True, size=5), "not grokked (so far)"),
        (runs["memorize_step"].notna().any(), mark("x", FAINT, size=4), "memorized"),
    ]
    handles: list[Line2D] = [handle for occurs, handle, _ in shown if occurs]
    labels = [label for occurs, _, label in shown if occurs]
    if len(names.labels) > FEW and names.values:
        colorbar(figure, names)
        names = names._replace(title="")
    elif names.labels:
        handles, labels = [*heads(kinds), mark(""), *handles], [*names.labels, "", *labels]
    legend(figure, handles, labels, names.title)


def _note(runs: pd.DataFrame, medians: pd.DataFrame) -> str:
    """Counts, and how the medians come about."""
    grokked, diverged = int(runs["observed"].eq(True).sum()), int((runs["status"] == "diverged").sum())
    lost = f", {diverged:,} diverged" if diverged else ""
    return (
        f"{counted(len(runs), 'run')} ({each(medians['n'])} per median), {grokked:,} grokked{lost}. Medians by "
        "Kaplan-Meier with 95% intervals; dotted: no upper end."
    )
