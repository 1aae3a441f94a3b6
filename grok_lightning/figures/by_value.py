"""Grok step, or best validation accuracy, against a key, the train fraction for example."""

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grok_lightning.figures.conditions import FEW, Look, colorbar, heads
from grok_lightning.figures.medians import median_row
from grok_lightning.figures.slots import Slots, slots
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
    percent_axis,
    points,
    step_axis,
)
from grok_lightning.figures.values import ordered_type, sorted_by, value_axis
from grok_lightning.statistics import times

Quantity = Literal["steps", "accuracy"]


def by_value_table(runs: pd.DataFrame, key: str, by: str | None = None, quantity: Quantity = "steps") -> pd.DataFrame:
    """The table that ``by_value`` draws.

    Args:
        runs: One row per run, as in a report.
        key: The column of the x axis.
        by: A second one, for the color.
        quantity: ``steps``, the grok step, or ``accuracy``, the best validation accuracy.

    Returns:
        The keys under their own names, then ``kind``: ``run`` or ``median``.

        Of ``steps``, rows of kind ``run`` have ``run``, ``status``, ``step`` (grok step, or the step of censoring),
        ``observed``, ``after`` (the last evaluated step before it) and ``memorize_step``; rows of kind ``median`` have
        ``step`` by Kaplan-Meier (infinity: not reached), its 95 % interval ``low``, ``high``, ``n`` and ``grokked``.
        Both have ``budget`` and ``threshold``.

        Of ``accuracy``, rows of kind ``run`` have ``run``, ``status`` and ``best_val_acc``; rows of kind ``median``
        that of the runs with a known accuracy, and their number ``n``.
    """
    keys = [key] if by is None else [key, by]
    typed = runs[keys].apply(ordered_type).assign(kind="run")
    if quantity == "accuracy":
        columns = ["run", "status", "best_val_acc"]
        base, summarize = pd.concat([typed, runs[columns]], axis=1), _summarize_accuracy
        columns += ["n"]
    else:
        known = runs[["run", "status", "memorize_step", "budget", "threshold"]]
        base, summarize = pd.concat([typed, known, times(runs, "grok")], axis=1), median_row
        columns = ["run", "status", "step", "observed", "after", "memorize_step"]
        columns += ["low", "high", "n", "grokked", "budget", "threshold"]
    medians = [
        summarize(group) | dict(zip(keys, values, strict=True))
        for values, group in base.groupby(keys, observed=True, sort=False)
    ]
    table = pd.DataFrame([*base.to_dict("records"), *medians], columns=[*keys, "kind", *columns])
    numbers = [name for name in ("step", "low", "high", "best_val_acc") if name in table]
    return sorted_by(table.astype(dict.fromkeys(numbers, float)), keys)


def _summarize_accuracy(runs: pd.DataFrame) -> dict[object, object]:
    accuracy = runs["best_val_acc"]
    return {"kind": "median", "best_val_acc": accuracy.median(), "n": int(accuracy.count())}


def by_value(table: pd.DataFrame, title: str, quantity: Quantity = "steps") -> Figure:
    """Grok step or best validation accuracy against a key: each run, and the medians joined by a line.

    Args:
        table: From ``by_value_table``; the key's name labels the axis, a second one's the colors.
        title: The figure's title.
        quantity: As for the table.
    """
    parts = slots(table)
    figure = new_figure(title, _describe(parts, quantity), 7.5, 4.4 if quantity == "accuracy" else 4.6)
    axes = figure.subplots()
    bare(axes)
    entries = (_draw_accuracy if quantity == "accuracy" else _draw_steps)(axes, table, parts)
    value_axis(axes, parts.where, parts.key)
    names, heading = parts.names.labels, parts.names.title
    if _has_colorbar(parts):
        colorbar(figure, parts.names)
        heading = ""
    elif names:
        entries = {**dict(zip(names, heads(parts.kinds), strict=True)), "": mark(""), **entries}
    legend(figure, list(entries.values()), list(entries), heading)
    return figure


def _has_colorbar(parts: Slots) -> bool:
    return len(parts.names.labels) > FEW and parts.names.values is not None


def _draw_accuracy(axes: Axes, table: pd.DataFrame, parts: Slots) -> dict[str, Line2D]:
    """Draws runs and medians of the accuracy; returns their legend entries."""
    percent_axis(axes, "best validation accuracy (%)")
    crowd = len(parts.runs) > CROWD
    for look, runs, runs_at, medians, medians_at in parts.parts:
        axes.scatter(runs_at, 100 * runs["best_val_acc"], s=8 if crowd else 18, color=look.color, marker=look.marker,
                     alpha=0.15 if crowd else 0.5, linewidths=0, rasterized=crowd, zorder=3)  # fmt: skip
        axes.plot(medians_at, 100 * medians["best_val_acc"], color=look.color, linestyle=look.line,
                  marker=look.marker, markersize=7, markeredgecolor="white", zorder=4)  # fmt: skip
    color = NOTE if parts.names.labels else parts.kinds[0].color
    median = {"median": mark("o", color, line="-")} if not parts.names.labels or _has_colorbar(parts) else {}
    return {**median, "a run": mark("o", color, size=4)}


def _draw_steps(axes: Axes, table: pd.DataFrame, parts: Slots) -> dict[str, Line2D]:
    """Draws runs, and medians with their intervals, of the grok step; returns the legend entries that occur."""
    runs, medians, named = parts.runs, parts.medians, bool(parts.names.labels)
    seen = np.r_[runs["step"].dropna(), runs["memorize_step"].dropna(), 1.0 if runs.empty else []]
    beyond = 2.0 * medians["budget"].max() if np.isinf(medians["step"]).any() else 1.0
    step_axis(axes, "y", seen.min(), max(seen.max(), beyond), f"steps to {goal(table['threshold'])} accuracy")
    for look, mine, at, ours, ours_at in parts.parts:
        color = look.color if named else NOTE
        axes.plot(at, mine["memorize_step"].clip(lower=1), "x", color=color, alpha=0.3, markersize=4,
                  rasterized=len(mine) > CROWD)  # fmt: skip
        points(axes, at, mine["step"].clip(lower=1), mine["observed"].eq(True), look.color)
        _draw_medians(axes, ours_at, ours, look)
    color = NOTE if named else parts.kinds[0].color
    entries = {
        "median, 95% interval": (np.isfinite(medians["step"]), mark("" if named else "o", color, line="-")),
        "median not reached": (np.isinf(medians["step"]), mark(UP, color)),
        "a run": (runs["observed"].eq(True), mark("o", color, size=4)),
        "not grokked (so far)": (runs["observed"].eq(False), mark("^", color, open=True, size=5)),
        "memorized": (runs["memorize_step"].notna(), mark("x", FAINT, size=4)),
    }
    return {label: handle for label, (occurs, handle) in entries.items() if occurs.any()}


def _draw_medians(axes: Axes, at: np.ndarray, rows: pd.DataFrame, look: Look) -> None:
    """Draws medians joined by a line, their intervals, and arrows up from the budget where they were not reached."""
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


def _describe(parts: Slots, quantity: Quantity) -> str:
    """The note: numbers of runs, and how the medians are computed."""
    runs = parts.runs
    counts = f"{counted(len(runs), 'run')} ({each(parts.medians['n'])} per median)"
    if quantity == "steps":
        counts += f", {int(runs['observed'].eq(True).sum()):,} grokked"
    if diverged := int((runs["status"] == "diverged").sum()):
        counts += f", {diverged:,} diverged"
    if quantity == "accuracy" and (unknown := int(runs["best_val_acc"].isna().sum())):
        counts += f", {unknown:,} without any accuracy left out"
    method = {
        "steps": "Medians by Kaplan-Meier with 95% intervals; dotted: no upper end.",
        "accuracy": "Each run counts with the best of its evaluations; the line joins the medians.",
    }
    return f"{counts}. {method[quantity]}"
