"""Accuracy and loss of conditions over the steps: medians with bands, or a thin line for each run."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from grok_lightning.figures import style
from grok_lightning.figures.conditions import (
    Condition,
    Naming,
    add_legend,
    make_handles,
    pick_looks,
    pick_names,
    split_conditions,
)
from grok_lightning.figures.multiples import draw_panels

Measure = Literal["acc", "loss"]
COLORS = {"train": style.TRAIN, "val": style.VAL}
LINES: dict[str, style.Line] = {"train": style.DASHED, "val": style.SOLID}
SPLITS = {"train": "training", "val": "validation"}
MOST_COLUMNS = 4  # conditions side by side, accuracy above loss
PALE = 0.35  # of lines that some run is carried on in
LABELS: dict[Measure, str] = {"acc": "accuracy (%)", "loss": "loss (nats)"}


def draw_condition_curves(
    table: pd.DataFrame, title: str, measure: Measure | None = None, panels: bool = False
) -> Figure:
    """Accuracy above loss: training beside validation, colored by condition, or a panel for each condition with both.

    Each condition has a panel if ``panels`` is true, if there is only one, or if there are more than 8 that are not
    numbers of one key, which a color scale could tell apart. Up to 4 stand side by side, accuracy above loss; more
    need ``measure``.

    Args:
        table: From ``tabulate_medians``, for medians, or ``tabulate_single_runs``, for single runs.
        title: The figure's title.
        measure: ``acc`` or ``loss``: which to draw in the panels of more than 4 conditions; default: accuracy.
        panels: Whether each condition has a panel.
    """
    medians, parts = "median" in table, split_conditions(table)
    names = pick_names([condition for condition, _ in parts])
    sizes = [int(rows["runs"].fillna(0).iloc[0]) for _, rows in parts]  # none where no run has evaluations
    panels = panels or len(parts) < 2 or not names.has_colors
    shaded = panels or not names.has_scale
    draw: Callable[..., None]
    if medians:
        draw, note = partial(_draw_median, shaded=shaded), _describe_medians(table, sum(sizes), shaded)
        losses = table.loc[table["measure"].astype(str).str.endswith("loss"), ["low", "median", "high"]]
    else:
        number = int(table["run"].nunique())
        draw, note = partial(_draw_runs, lines=number), _describe_runs(number, sum(sizes))
        losses = table.filter(regex="/loss")
    set_axes = partial(_set_axes, steps=table["step"], losses=losses)
    splits = _find_splits(table)
    if not panels:
        figure = style.make_figure(title, note, 9.5 if len(splits) > 1 else 7.5, 6)
        return _overlay(figure, parts, names, sizes, splits, medians, draw, set_axes)
    cells: list[tuple[Axes, pd.DataFrame, Measure]]
    if len(parts) <= MOST_COLUMNS:
        figure = style.make_figure(title, note, max(7.5, 2.6 + 2.6 * len(parts)), 6)
        grid = figure.subplots(2, max(1, len(parts)), sharex=True, sharey="row", squeeze=False)
        _set_columns(grid, names, sizes, set_axes)
        cells = [
            (axes, rows, kind)
            for row, kind in zip(grid, LABELS, strict=True)
            for axes, (_, rows) in zip(row, parts, strict=False)
        ]
    else:
        measure = measure or "acc"
        set_axes = partial(set_axes, measure=measure, narrow=True)
        figure, places = draw_panels(title, note, names, sizes, LABELS[measure], set_axes)
        cells = [(axes, rows, measure) for axes, (_, rows) in zip(places, parts, strict=False)]
    for axes, rows, kind in cells:
        for split in splits:
            draw(axes, rows, f"{split}/{kind}", COLORS[split], LINES[split])
    handles = [style.make_handle("", COLORS[split], line=LINES[split]) for split in splits]
    labels = [SPLITS[split] for split in splits]
    if len(parts) > MOST_COLUMNS:
        figure.legend(handles, labels, loc="upper right", frameon=False, fontsize=8, ncols=2)
    else:
        style.draw_legend(figure, handles, labels)
    return figure


def _find_splits(table: pd.DataFrame) -> list[str]:
    """Training and validation, as far as any run has them."""
    if "median" in table:
        measures = table["measure"].astype(str)
        found = [split for split in SPLITS if measures.str.startswith(f"{split}/").any()]
    else:
        found = [split for split in SPLITS if table[[f"{split}/acc", f"{split}/loss"]].notna().any(axis=None)]
    return found or list(SPLITS)


def _overlay(
    figure: Figure,
    parts: Sequence[tuple[Condition, pd.DataFrame]],
    names: Naming,
    sizes: Sequence[int],
    splits: Sequence[str],
    medians: bool,
    draw: Callable[..., None],
    set_axes: Callable[..., None],
) -> Figure:
    """Draws accuracy above loss, training beside validation, a color for each condition."""
    grid = figure.subplots(2, len(splits), sharex=True, sharey="row", squeeze=False)
    for row, kind in enumerate(LABELS):
        set_axes(grid[row, 0], measure=kind)
        for axes, split in zip(grid[row], splits, strict=True):
            style.hide_frame(axes)
            axes.set(xlabel="optimizer steps" if row else "", ylabel=LABELS[kind] if split == splits[0] else "")
            for (_, rows), look in zip(parts, pick_looks(names), strict=True):
                draw(axes, rows, f"{split}/{kind}", look.color, look.line)
    for axes, split in zip(grid[0], splits, strict=True):
        axes.set_title(SPLITS[split], fontsize=10)
    labels = [f"{label} ({'n = ' * medians}{n:,})" for label, n in zip(names.labels, sizes, strict=True)]
    add_legend(figure, names._replace(labels=labels), make_handles(pick_looks(names), markers=False), {})
    return figure


def _set_columns(grid: NDArray[np.object_], names: Naming, sizes: Sequence[int], set_axes: Callable[..., None]) -> None:
    """Sets up a column for each condition, accuracy above loss."""
    for row, kind in zip(grid, LABELS, strict=True):
        set_axes(row[0], measure=kind, narrow=grid.shape[1] > 2)
        for place, axes in enumerate(row):
            style.hide_frame(axes)
            axes.set(xlabel="optimizer steps" if kind == "loss" else "", ylabel="" if place else LABELS[kind])
    if len(sizes) > 1:
        for axes, label, size in zip(grid[0], names.labels, sizes, strict=True):
            name = f"{names.title}: {label}" if names.title else label
            several = f" ({size:,})" if max(sizes) > 1 else ""
            axes.set_title(style.wrap_text(f"{name.replace(chr(10), ' ')}{several}", 30), fontsize=9)


def _draw_median(axes: Axes, rows: pd.DataFrame, measure: str, color: str, line: style.Line, shaded: bool) -> None:
    rows = rows[rows["measure"] == measure]
    scale = 100 if measure.endswith("acc") else 1
    whole = int((rows["carried"] == 0).sum())  # runs that have stopped are carried on to the end
    for part, alpha in ((rows.iloc[:whole], 1.0), (rows.iloc[max(0, whole - 1) :], PALE)):
        axes.plot(part["step"], scale * part["median"], color=color, linestyle=line, linewidth=1.5, alpha=alpha)
    if shaded and (rows["n"] > 1).any():
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
    if not (table["runs"] > 1).any():
        return f"{style.format_count(runs, 'run')}, each in a condition of its own."
    bands = f"band: {interval}" if shaded else f"bands ({interval}) are in the table only"
    note = f"{style.format_count(runs, 'run')}. Lines: medians, up to the step that half of the runs reached; {bands}."
    if not (table["carried"] > 0).any():
        return note
    return (
        f"{note} Pale: a run of the condition has diverged, or has stopped after grokking, and counts with its last "
        "values from there on."
    )


def _describe_runs(lines: int, runs: int) -> str:
    ends = "Lines end where runs ended." if runs > 1 else "The line ends where the run ended."
    if lines == runs:
        return f"{style.format_count(runs, 'run')}{', one line each' * (runs > 1)}. {ends}"
    return f"{lines:,} of {runs:,} runs, one line each, chosen evenly from all conditions. {ends}"
