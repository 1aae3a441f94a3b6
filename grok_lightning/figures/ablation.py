"""Median grok step of conditions, a row for each."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grok_lightning.figures import style
from grok_lightning.figures.conditions import pick_names, split_conditions, stack
from grok_lightning.figures.medians import describe_medians, draw_intervals, name_median, summarize_median
from grok_lightning.figures.values import list_keys, spread
from grok_lightning.statistics import times

MOST = 40  # rows that fit a page
ROW = 0.27  # inches


def tabulate_ablation(runs: pd.DataFrame) -> pd.DataFrame:
    """The table that ``draw_ablation`` draws.

    Args:
        runs: One row per run, as in a report.

    Returns:
        The keys and ``condition``, in order, and ``kind``. Rows of kind ``run`` have ``run``, ``status``, ``step``
        (grok step, or the step of censoring) and ``observed``; rows of kind ``median`` have ``step`` by Kaplan-Meier
        (infinity: not reached), its 95 % interval ``low``, ``high`` (NaN with fewer than 5 runs), ``n`` and
        ``grokked``. Both have ``budget`` and ``threshold``.
    """
    keys = list_keys(runs, "condition")
    known = runs[[*keys, "condition", "run", "status", "budget", "threshold"]].assign(kind="run")
    parts = [
        (condition, pd.DataFrame([*group.to_dict("records"), summarize_median(group)]))
        for condition, group in split_conditions(pd.concat([known, times(runs, "grok")], axis=1))
    ]
    columns = ["kind", "run", "status", "step", "observed", "low", "high", "n", "grokked", "budget", "threshold"]
    return stack(parts, keys, columns).astype(dict.fromkeys(("step", "low", "high"), float))


def draw_ablation(table: pd.DataFrame, title: str) -> Figure:
    """A row for each condition: median grok step with its 95 % interval, single runs, and how many grokked of how many.

    Only the first 40 conditions are drawn, and the note then says so.

    Args:
        table: From ``tabulate_ablation``.
        title: The figure's title.
    """
    conditions = [condition for condition, _ in split_conditions(table)]
    drawn = table[table["condition"].isin([condition.label for condition in conditions[:MOST]])]
    runs, medians = drawn[drawn["kind"] == "run"], drawn[drawn["kind"] == "median"]
    row = {name: place for place, name in enumerate(medians["condition"])}
    names = pick_names(conditions[:MOST], 52)
    labels = names.labels
    tall = 1 + max((label.count("\n") for label in labels), default=0)
    more = f" The first {MOST} of {len(conditions):,} conditions; the rest is in the table only."
    note = style.describe_runs(runs["observed"].eq(True), runs["status"])
    several = bool((medians["n"] > 1).any())
    note += f". {describe_medians(medians)}" if several else "."
    note += more * (len(conditions) > MOST)
    figure = style.make_figure(title, note, 8, 1.5 + ROW * tall * max(2, len(row)))
    axes = figure.subplots()
    style.hide_frame(axes)
    axes.grid(visible=False, axis="y")
    known = runs["step"].clip(lower=1)
    reached = np.isfinite(medians["step"])
    low, high = (known.min(), known.max()) if len(known) else (1.0, 1.0)
    high = max(high, 1.0 if reached.all() else 2.0 * medians["budget"].max())
    style.set_step_axis(
        axes, "x", low, high, f"steps to {style.format_threshold(table['threshold'])} validation accuracy"
    )
    at = runs["condition"].map(row).to_numpy(float)
    style.draw_points(axes, known, at + spread(at, 0.55), runs["observed"].eq(True), style.NOTE)
    places = np.arange(len(medians), dtype=float)
    middle = draw_intervals(axes, "x", places, medians, style.VAL, 1.8)
    axes.plot(middle, places, "o", color=style.VAL, markersize=8, markeredgecolor="white", zorder=5)
    axes.set(yticks=range(len(row)), yticklabels=labels, ylim=(max(len(row), 1) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    for name, grokked, n in zip(row, medians["grokked"], medians["n"], strict=True):
        counts, beside = f"{int(grokked):,}/{int(n):,}", axes.get_yaxis_transform()
        axes.text(1.015, row[name], counts, transform=beside, va="center", fontsize=9)
    axes.text(1.015, 1.01, "grokked", transform=axes.transAxes, va="bottom", fontsize=8, color=style.NOTE)
    axes.text(
        -0.015, 1.01, names.title, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=style.NOTE
    )
    marks = {
        name_median(medians): (
            reached,
            style.make_handle("o", style.VAL, line="-" if np.isfinite(medians["low"]).any() else ""),
        ),
        "median not reached": (~reached & several, style.make_handle(style.RIGHT, style.VAL)),
        "a run": (runs["observed"].eq(True) & several, style.make_handle("o", size=4)),
        "not grokked (so far)": (runs["observed"].eq(False), style.make_handle("^", open=True, size=5)),
    }
    shown = {label: handle for label, (occurs, handle) in marks.items() if occurs.any()}
    style.draw_legend(figure, list(shown.values()), list(shown))
    return figure
