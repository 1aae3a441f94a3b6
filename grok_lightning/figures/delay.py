"""Steps to grok against steps to memorize."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_lightning.figures import style
from grok_lightning.figures.conditions import PLAIN, add_legend, pick_looks, pick_names, split_conditions, stack
from grok_lightning.figures.values import list_keys
from grok_lightning.records.columns import add_columns
from grok_lightning.statistics import times


def tabulate_delay(runs: pd.DataFrame) -> pd.DataFrame:
    """The table that ``draw_delay`` draws.

    Args:
        runs: One row per run, as in a report.

    Returns:
        One row for each run, conditions in order: the keys, ``condition``, ``run``, ``status``, ``memorize_step`` (NaN:
        never, and such a run is not drawn), ``step`` (grok step, or the step of censoring), ``observed`` and
        ``threshold``.
    """
    known = times(runs, "grok")
    table = add_columns(runs, step=known["step"], observed=known["observed"])
    columns = ["run", "status", "memorize_step", "step", "observed", "threshold"]
    return stack(split_conditions(table), list_keys(runs, "condition"), columns)


def draw_delay(table: pd.DataFrame, title: str) -> Figure:
    """Each run by its two steps, on logarithmic axes, with lines of ratio 1, 10 and 100.

    Args:
        table: From ``tabulate_delay``.
        title: The figure's title.
    """
    parts = split_conditions(table)
    names = pick_names([condition for condition, _ in parts])
    kinds = pick_looks(names) if names.has_colors else [PLAIN] * len(parts)
    figure = style.make_figure(title, _describe(table), 7.5, 5)
    axes = figure.subplots()
    style.hide_frame(axes)
    shown = table[table["memorize_step"].notna()]
    x, y = (shown[name].clip(lower=1).to_numpy(float) for name in ("memorize_step", "step"))
    both, threshold = np.r_[x, y], style.format_threshold(table["threshold"])
    for which, steps, split in (("x", x, "training"), ("y", both, "validation")):
        low, high = (steps.min(), steps.max()) if len(steps) else (1, 1)
        style.set_step_axis(axes, which, low, high, f"steps to {threshold} {split} accuracy")
    _draw_diagonals(axes)
    for (_, rows), look in zip(parts, kinds, strict=True):
        known = rows[rows["memorize_step"].notna()]
        memorized, grokked = (known[name].clip(lower=1) for name in ("memorize_step", "step"))
        style.draw_points(axes, memorized, grokked, known["observed"].eq(True), look.color, look.marker)
    others = {}
    if shown["observed"].eq(False).any():
        others["not grokked (so far)"] = style.make_handle("^", open=True, size=5)
    if names.has_colors:
        never = ["" if rows["memorize_step"].notna().any() else " (none memorized)" for _, rows in parts]
        labels = [label + words for label, words in zip(names.labels, never, strict=True)]
        dots = [style.make_handle(look.marker, look.color) for look in kinds]
        add_legend(figure, names._replace(labels=labels), dots, others)
    else:
        style.draw_legend(figure, [style.make_handle("o", PLAIN.color), *others.values()], ["a run", *others])
    return figure


def _draw_diagonals(axes: Axes) -> None:
    """Draws lines of equal ratio, labeled at the edge of the frame."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for factor, line in ((1, "-"), (10, "--"), (100, ":")):
        if factor * right <= bottom or factor * left >= top:
            continue
        axes.plot(
            [left, right], [factor * left, factor * right], color=style.NOTE, linewidth=0.9, linestyle=line, zorder=1
        )
        name = "at once" if factor == 1 else f"{factor}× later"
        inside = factor * right <= top
        axes.annotate(
            name, (right, factor * right) if inside else (top / factor, top), xytext=(4, 0) if inside else (0, 3),
            textcoords="offset points", ha="left" if inside else "center", va="center" if inside else "bottom",
            fontsize=8, color=style.NOTE, annotation_clip=False,
        )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _describe(table: pd.DataFrame) -> str:
    never = int(table["memorize_step"].isna().sum())
    left_out = f"; {never:,} never memorized and {'is' if never == 1 else 'are'} not shown" if never else ""
    runs = style.describe_runs(table["observed"].eq(True), table["status"])
    return f"{runs}{left_out}. Lines: grok steps of 1, 10 and 100 times the memorize step."
