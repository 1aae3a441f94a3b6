"""Grok step, or best validation accuracy, against a key, the train fraction for example."""

from math import isfinite
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grok_lightning.figures import style
from grok_lightning.figures.conditions import PLAIN, Look, Naming, add_legend, make_handles, pick_looks, shorten_names
from grok_lightning.figures.medians import describe_medians, draw_intervals, name_median, summarize_median
from grok_lightning.figures.values import (
    Places,
    find_distinct,
    find_jitter,
    find_places,
    format_value,
    list_keys,
    set_value_axis,
    sort_by,
    spread,
    to_ordered,
)
from grok_lightning.statistics import times

Quantity = Literal["steps", "accuracy"]
MOST = 6  # groups that are drawn side by side


class Slot(NamedTuple):
    """Runs and medians of one value of the second key, with their places on the x axis."""

    look: Look
    runs: pd.DataFrame
    runs_at: np.ndarray
    medians: pd.DataFrame
    medians_at: np.ndarray


class Slots(NamedTuple):
    """Runs and medians with their places and looks.

    Attributes:
        key: The key of the x axis, in short.
        where: Its values and their places.
        runs: Rows of single runs.
        medians: Rows of medians.
        names: The second key and its values, empty without one.
        parts: One for each of them, or the only one.
    """

    key: str
    where: Places
    runs: pd.DataFrame
    medians: pd.DataFrame
    names: Naming
    parts: list[Slot]

    @property
    def kinds(self) -> list[Look]:
        """The look of each part."""
        return [part.look for part in self.parts]


def tabulate_by_value(
    runs: pd.DataFrame, key: str, by: str | None = None, quantity: Quantity = "steps"
) -> pd.DataFrame:
    """The table that ``draw_by_value`` draws.

    Args:
        runs: One row per run, as in a report.
        key: The column of the x axis.
        by: A second one, for the color.
        quantity: ``steps``, the grok step, or ``accuracy``, the best validation accuracy.

    Returns:
        The keys under their own names, then ``kind``: ``run`` or ``median``.

        Of ``steps``, rows of kind ``run`` have ``run``, ``status``, ``step`` (grok step, or the step of censoring),
        ``observed``, ``after`` (the last evaluated step before it) and ``memorize_step``; rows of kind ``median`` have
        ``step`` by Kaplan-Meier (infinity: not reached), its 95 % interval ``low``, ``high`` (NaN with fewer than 5
        runs), ``n`` and ``grokked``. Both have ``budget`` and ``threshold``.

        Of ``accuracy``, rows of kind ``run`` have ``run``, ``status`` and ``best_val_acc``; rows of kind ``median``
        that of the runs with a known accuracy, and their number ``n``.
    """
    keys = [key] if by is None else [key, by]
    typed = runs[keys].apply(to_ordered).assign(kind="run")
    if quantity == "accuracy":
        columns = ["run", "status", "best_val_acc"]
        base, summarize = pd.concat([typed, runs[columns]], axis=1), _summarize_accuracy
        columns += ["n"]
    else:
        known = runs[["run", "status", "memorize_step", "budget", "threshold"]]
        base, summarize = pd.concat([typed, known, times(runs, "grok")], axis=1), summarize_median
        columns = ["run", "status", "step", "observed", "after", "memorize_step"]
        columns += ["low", "high", "n", "grokked", "budget", "threshold"]
    medians = [
        summarize(group) | dict(zip(keys, values, strict=True))
        for values, group in base.groupby(keys, observed=True, sort=False)
    ]
    table = pd.DataFrame([*base.to_dict("records"), *medians], columns=[*keys, "kind", *columns])
    numbers = [name for name in ("step", "low", "high", "best_val_acc") if name in table]
    return sort_by(table.astype(dict.fromkeys(numbers, float)), keys)


def _summarize_accuracy(runs: pd.DataFrame) -> dict[object, object]:
    accuracy = runs["best_val_acc"]
    return {"kind": "median", "best_val_acc": accuracy.median(), "n": int(accuracy.count())}


def draw_by_value(table: pd.DataFrame, title: str, quantity: Quantity = "steps") -> Figure:
    """Grok step or best validation accuracy against a key: each run, and the medians joined by a line.

    On an axis of numbers everything stands at its value; on one of names runs, and values of a second key, lie side by
    side.

    Args:
        table: From ``tabulate_by_value``; the key's name labels the axis, a second one's the colors.
        title: The figure's title.
        quantity: As for the table.
    """
    parts = _split(table)
    figure = style.make_figure(title, _describe(parts, quantity), 7.5, 4.4 if quantity == "accuracy" else 4.6)
    axes = figure.subplots()
    style.hide_frame(axes)
    entries = (_draw_accuracy if quantity == "accuracy" else _draw_steps)(axes, table, parts)
    set_value_axis(axes, parts.where, parts.key)
    named = bool(parts.names.labels)
    if named and not parts.names.has_scale:
        entries = {"": style.make_handle(""), **entries}  # apart from the names
    add_legend(figure, parts.names, make_handles(parts.kinds) if named else [], entries)
    return figure


def _draw_accuracy(axes: Axes, table: pd.DataFrame, parts: Slots) -> dict[str, Line2D]:
    """Draws runs and medians of the accuracy; returns their legend entries."""
    style.set_percent_axis(axes, "best validation accuracy (%)")
    crowd = len(parts.runs) > style.CROWD
    for look, runs, runs_at, medians, medians_at in parts.parts:
        axes.scatter(runs_at, 100 * runs["best_val_acc"], s=8 if crowd else 18, color=look.color, marker=look.marker,
                     alpha=0.15 if crowd else 0.5, linewidths=0, rasterized=crowd, zorder=3)  # fmt: skip
        axes.plot(medians_at, 100 * medians["best_val_acc"], color=look.color, linestyle=look.line,
                  marker=look.marker, markersize=7, markeredgecolor="white", zorder=4)  # fmt: skip
    color = style.NOTE if parts.names.labels else parts.kinds[0].color
    median = (
        {"median": style.make_handle("o", color, line="-")} if not parts.names.labels or parts.names.has_scale else {}
    )
    return {**median, "a run": style.make_handle("o", color, size=4)}


def _draw_steps(axes: Axes, table: pd.DataFrame, parts: Slots) -> dict[str, Line2D]:
    """Draws runs, and medians with their intervals, of the grok step; returns the legend entries that occur."""
    runs, medians, named = parts.runs, parts.medians, bool(parts.names.labels)
    seen = np.r_[runs["step"].dropna(), runs["memorize_step"].dropna(), 1.0 if runs.empty else []]
    beyond = 2.0 * medians["budget"].max() if np.isinf(medians["step"]).any() else 1.0
    style.set_step_axis(
        axes,
        "y",
        seen.min(),
        max(seen.max(), beyond),
        f"steps to {style.format_threshold(table['threshold'])} accuracy",
    )
    for look, mine, at, ours, ours_at in parts.parts:
        color = look.color if named else style.NOTE
        axes.plot(at, mine["memorize_step"].clip(lower=1), "x", color=color, alpha=0.3, markersize=4,
                  rasterized=len(mine) > style.CROWD)  # fmt: skip
        style.draw_points(axes, at, mine["step"].clip(lower=1), mine["observed"].eq(True), look.color)
        middle = draw_intervals(axes, "y", ours_at, ours, look.color, 1.2)
        axes.plot(ours_at, middle, color=look.color, linestyle=look.line, linewidth=1.4, marker=look.marker,
                  markersize=7, markeredgecolor="white", zorder=4)  # fmt: skip
    color = style.NOTE if named else parts.kinds[0].color
    median, reached = name_median(medians), np.isfinite(medians["step"])
    entries = {
        median: (reached, style.make_handle("" if named else "o", color, line="-")),
        "median not reached": (~reached & (medians["n"] > 1), style.make_handle(style.UP, color)),
        "a run": (runs["observed"].eq(True) & (median != style.STEP), style.make_handle("o", color, size=4)),
        "not grokked (so far)": (runs["observed"].eq(False), style.make_handle("^", color, open=True, size=5)),
        "memorized": (runs["memorize_step"].notna(), style.make_handle("x", style.FAINT, size=4)),
    }
    return {label: handle for label, (occurs, handle) in entries.items() if occurs.any()}


def _describe(parts: Slots, quantity: Quantity) -> str:
    """The note: numbers of runs, and how the medians are computed."""
    runs, each_median = parts.runs, f"{style.format_range(parts.medians['n'])} per median"
    if quantity == "steps":
        counts = style.describe_runs(runs["observed"].eq(True), runs["status"])
        if not (parts.medians["n"] > 1).any():
            return f"{counts}; one at each place."
        return f"{counts}; {each_median}. {describe_medians(parts.medians)}"
    unknown = int(runs["best_val_acc"].isna().sum())
    left_out = f"; {unknown:,} without an accuracy left out" if unknown else ""
    counts = style.format_count(len(runs), "run")
    return f"{counts}; {each_median}{left_out}. Points: best evaluation of a run. Line: medians."


def _split(table: pd.DataFrame) -> Slots:
    """Splits a table by its second key, if it has one.

    Args:
        table: Its one or two keys, then ``kind``: ``run`` or ``median``.
    """
    key, *rest = list_keys(table)
    short, by = shorten_names([key, *rest]), rest[0] if rest else ""
    runs, medians = table[table["kind"] == "run"], table[table["kind"] == "median"]
    groups: list[object] = list(find_distinct(table[by])) if by and len(table) else [""]
    numbers = [group for group in groups if isinstance(group, float) and isfinite(group)]
    labels = [style.wrap_text(group if isinstance(group, str) else format_value(group)) for group in groups]
    names = Naming("", [], None)
    if by:
        names = Naming(style.wrap_text(short[by]), labels, numbers if len(numbers) == len(groups) else None)
    where = find_places(table[key])
    apart = not where.is_numeric and len(groups) <= MOST
    width = 0.7 * where.gap / len(groups) if apart else 0.0
    parts = []
    for place, (group, look) in enumerate(zip(groups, pick_looks(names) or [PLAIN], strict=True)):
        shift = width * (place - (len(groups) - 1) / 2)
        mine, ours = (part[to_ordered(part[by]) == group] if by else part for part in (runs, medians))
        at = where.of(mine[key]) + shift + spread(mine[key], find_jitter(where, width))
        parts.append(Slot(look, mine, at, ours, where.of(ours[key]) + shift))
    return Slots(short[key], where, runs, medians, names, parts)
