"""Accuracy and loss of conditions over the steps: medians with bands, or a thin line for each run."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from grok_lightning.figures import style
from grok_lightning.figures.conditions import add_legend, make_handles, pick_looks, pick_names, split_conditions
from grok_lightning.figures.multiples import draw_panels

Measure = Literal["acc", "loss"]
COLORS = {"train": style.TRAIN, "val": style.VAL}
SPLITS = {"train": "training", "val": "validation"}
LABELS: dict[Measure, str] = {"acc": "accuracy (%)", "loss": "loss (nats)"}


def draw_condition_curves(table: pd.DataFrame, title: str, measure: Measure = "acc") -> Figure:
    """Accuracy above loss, training beside validation, colored by condition; one condition's medians in one column.

    With more than 8 conditions: colored by their number, medians without bands, if they are numbers of one key; else a
    panel for each, of one measure.

    Args:
        table: From ``tabulate_medians``, for medians, or ``tabulate_single_runs``, for single runs.
        title: The figure's title.
        measure: ``acc`` or ``loss``: which to draw where each condition has a panel.
    """
    medians, parts = "median" in table, split_conditions(table)
    names = pick_names([condition for condition, _ in parts])
    sizes = [int(rows["runs"].fillna(0).iloc[0]) for _, rows in parts]  # none where no run has evaluations
    shaded = not names.has_scale
    draw: Callable[..., None]
    if medians:
        draw, note = partial(_draw_median, shaded=shaded), _describe_medians(table, sum(sizes), shaded)
        losses = table.loc[table["measure"].astype(str).str.endswith("loss"), ["low", "median", "high"]]
    else:
        number = int(table["run"].nunique())
        draw, note = partial(_draw_runs, lines=number), _describe_runs(number, sum(sizes))
        losses = table.filter(regex="/loss")
    set_axes = partial(_set_axes, steps=table["step"], losses=losses)
    if not names.has_colors:
        label, set_axes = LABELS[measure], partial(set_axes, measure=measure, narrow=True)
        figure, cells = draw_panels(title, note, names, sizes, label, set_axes)
        for (_, rows), axes in zip(parts, cells, strict=False):
            for split, color in COLORS.items():
                draw(axes, rows, f"{split}/{measure}", color, style.SOLID)
        lines = [style.make_handle("", color, line=style.SOLID) for color in COLORS.values()]
        figure.legend(lines, list(SPLITS.values()), loc="upper right", frameon=False, fontsize=8, ncols=2)
        return figure
    if medians and len(parts) == 1:
        return _draw_single(table, title, note, set_axes)
    figure = style.make_figure(title, note, 9.5 if len(parts) > 1 else 8, 6)
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    for row, kind in enumerate(LABELS):
        set_axes(grid[row, 0], measure=kind)
        for axes, split in zip(grid[row], SPLITS, strict=True):
            style.hide_frame(axes)
            axes.set(xlabel="optimizer steps" if row else "", ylabel="" if split == "val" else LABELS[kind])
            for (_, rows), look in zip(parts, pick_looks(names), strict=True):
                draw(axes, rows, f"{split}/{kind}", look.color, look.line)
    for axes, name in zip(grid[0], SPLITS.values(), strict=True):
        axes.set_title(name, fontsize=10)
    if len(parts) > 1:
        labels = [f"{label} ({'n = ' * medians}{n:,})" for label, n in zip(names.labels, sizes, strict=True)]
        add_legend(figure, names._replace(labels=labels), make_handles(pick_looks(names), markers=False), {})
    return figure


def _draw_single(table: pd.DataFrame, title: str, note: str, set_axes: Callable[..., None]) -> Figure:
    """Draws the medians of one condition, training and validation in one panel."""
    figure = style.make_figure(title, note, 7.5, 6)
    for measure, axes in zip(LABELS, figure.subplots(2, 1, sharex=True), strict=True):
        style.hide_frame(axes)
        set_axes(axes, measure=measure)
        axes.set_xlabel("optimizer steps" if measure == "loss" else "")
        for split, line in (("train", style.DASHED), ("val", style.SOLID)):
            _draw_median(axes, table, f"{split}/{measure}", COLORS[split], line, True)
    handles = [
        style.make_handle("", COLORS["train"], line=style.DASHED),
        style.make_handle("", COLORS["val"], line=style.SOLID),
    ]
    style.draw_legend(figure, handles, ["training", "validation"])
    return figure


def _draw_median(axes: Axes, rows: pd.DataFrame, measure: str, color: str, line: style.Line, shaded: bool) -> None:
    rows = rows[rows["measure"] == measure]
    scale = 100 if measure.endswith("acc") else 1
    axes.plot(rows["step"], scale * rows["median"], color=color, linestyle=line, linewidth=1.5)
    if shaded:
        axes.fill_between(rows["step"], scale * rows["low"], scale * rows["high"], color=color, alpha=0.16, linewidth=0)


def _draw_runs(axes: Axes, rows: pd.DataFrame, measure: str, color: str, line: style.Line, lines: int) -> None:
    scale = 100 if measure.endswith("acc") else 1
    points = np.column_stack([rows["step"].to_numpy(float), scale * rows[measure].to_numpy(float)])
    starts = np.flatnonzero(rows["run"].to_numpy()[1:] != rows["run"].to_numpy()[:-1]) + 1
    width, alpha = (1.2, 0.85) if lines <= 12 else (0.8, 0.6) if lines <= 60 else (0.6, 0.35)
    drawn = LineCollection(
        np.split(points, starts), colors=color, linestyles=line if lines <= 60 else style.SOLID, linewidths=width,
        alpha=alpha, rasterized=len(points) > 20 * style.CROWD,
    )  # fmt: skip
    axes.add_collection(drawn, autolim=False)


def _set_axes(
    axes: Axes, measure: Measure, steps: "pd.Series[float]", losses: pd.DataFrame, narrow: bool = False
) -> None:
    """Sets scales, limits and labels of a panel that is to include all these steps and losses."""
    known = steps.dropna()
    style.set_step_axis(axes, "x", known.min() if len(known) else 1, known.max() if len(known) else 1, narrow=narrow)
    if measure == "acc":
        style.set_percent_axis(axes)
        return
    values = losses.to_numpy(float).ravel()
    seen = values[np.isfinite(values) & (values > 0)]
    axes.set(ylabel=LABELS["loss"])
    if len(seen):
        style.set_loss_axis(axes)
        axes.set_ylim(seen.min() / 1.3, seen.max() * 1.3)
        if seen.max() > 100 * seen.min():  # ticks cost most of the time
            axes.yaxis.set_minor_locator(NullLocator())


def _describe_medians(table: pd.DataFrame, runs: int, shaded: bool) -> str:
    interval = next(iter(table["interval"].dropna()), "min-max")
    bands = f"band: {interval}" if shaded else f"bands ({interval}) are in the table only"
    note = f"{style.format_count(runs, 'run')}. Lines: medians, up to the step that half of the runs reached; {bands}."
    if not (table["carried"] > 0).any():
        return note
    return f"{note} Runs that diverged, or stopped early after grokking, count with their last values afterwards."


def _describe_runs(lines: int, runs: int) -> str:
    if lines == runs:
        return f"{style.format_count(runs, 'run')}, one line each."
    return f"{lines:,} of {runs:,} runs, one line each, chosen evenly from all conditions."
