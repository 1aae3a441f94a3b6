"""Accuracy and loss of conditions over the steps: medians with bands, or a thin line for each run."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from grok_lightning.figures.conditions import FEW, by_condition, colorbar, heads, looks, naming
from grok_lightning.figures.multiples import panel_each
from grok_lightning.figures.splits import COLORS, LABELS, Measure, accuracy_and_loss, frame
from grok_lightning.figures.style import CROWD, DASHED, SOLID, Line, bare, counted, legend, mark, new_figure


def condition_curves(table: pd.DataFrame, title: str, measure: Measure = "acc") -> Figure:
    """Accuracy above loss, training beside validation, colored by condition; one condition's medians in one column.

    With more than 8 conditions: colored by their number, medians without bands, if they are numbers of one key; else a
    panel for each, of one measure.

    Args:
        table: From ``band_table``, for medians, or ``overlaid_table``, for single runs.
        title: The figure's title.
        measure: ``acc`` or ``loss``: which to draw where each condition has a panel.
    """
    medians, parts = "median" in table, by_condition(table)
    names = naming([condition for condition, _ in parts])
    sizes = [int(rows["runs"].iloc[0]) for _, rows in parts]
    many = len(parts) > FEW
    shaded = not many or names.values is None
    if medians:
        draw, note = partial(_draw_median, shaded=shaded), _describe_medians(table, sum(sizes), shaded)
        losses = table.loc[table["measure"].str.endswith("loss"), ["low", "median", "high"]].add_suffix("/loss")
    else:
        lines = int(table["run"].nunique())
        draw, note, losses = partial(_draw_runs, lines=lines), _describe_runs(lines, sum(sizes)), table
    if many and names.values is None:
        return panel_each(title, note, names, parts, measure, losses, partial(draw, line=SOLID))
    if medians and len(parts) == 1:
        return _draw_single(table, title, note, losses)
    figure = new_figure(title, note, 9.5 if len(parts) > 1 else 8, 6)
    for (split, kind), axes in accuracy_and_loss(figure, table["step"], losses).items():
        for (_, rows), look in zip(parts, looks(names), strict=True):
            draw(axes, rows, f"{split}/{kind}", look.color, look.line)
    if many:
        colorbar(figure, names)
    elif len(parts) > 1:
        labels = [f"{label} ({'n = ' if medians else ''}{n:,})" for label, n in zip(names.labels, sizes, strict=True)]
        legend(figure, heads(looks(names), markers=False), labels, names.title)
    return figure


def _draw_single(table: pd.DataFrame, title: str, note: str, losses: pd.DataFrame) -> Figure:
    """Draws the medians of one condition, training and validation in one panel."""
    figure = new_figure(title, note, 7.5, 6)
    for measure, axes in zip(LABELS, figure.subplots(2, 1, sharex=True), strict=True):
        bare(axes)
        frame(axes, measure, table["step"], losses)
        axes.set_xlabel("optimizer steps" if measure == "loss" else "")
        for split, line in (("train", DASHED), ("val", SOLID)):
            _draw_median(axes, table, f"{split}/{measure}", COLORS[split], line, True)
    handles = [mark("", COLORS["train"], line=DASHED), mark("", COLORS["val"], line=SOLID)]
    legend(figure, handles, ["training", "validation"])
    return figure


def _draw_median(axes: Axes, rows: pd.DataFrame, measure: str, color: str, line: Line, shaded: bool) -> None:
    rows = rows[rows["measure"] == measure]
    scale = 100 if measure.endswith("acc") else 1
    axes.plot(rows["step"], scale * rows["median"], color=color, linestyle=line, linewidth=1.5)
    if shaded:
        axes.fill_between(rows["step"], scale * rows["low"], scale * rows["high"], color=color, alpha=0.16, linewidth=0)


def _draw_runs(axes: Axes, rows: pd.DataFrame, measure: str, color: str, line: Line, lines: int) -> None:
    scale = 100 if measure.endswith("acc") else 1
    points = np.column_stack([rows["step"].to_numpy(float), scale * rows[measure].to_numpy(float)])
    starts = np.flatnonzero(rows["run"].to_numpy()[1:] != rows["run"].to_numpy()[:-1]) + 1
    width, alpha = (1.2, 0.85) if lines <= 12 else (0.8, 0.6) if lines <= 60 else (0.6, 0.35)
    drawn = LineCollection(
        np.split(points, starts), colors=color, linestyles=line if lines <= 60 else SOLID, linewidths=width,
        alpha=alpha, rasterized=len(points) > 20 * CROWD,
    )  # fmt: skip
    axes.add_collection(drawn, autolim=False)


def _describe_medians(table: pd.DataFrame, runs: int, shaded: bool) -> str:
    interval = table["interval"].iloc[0] if len(table) else "min-max"
    bands = f"band: {interval}" if shaded else f"bands ({interval}) are in the table only"
    note = f"{counted(runs, 'run')}. Lines: medians, as far as half of the runs were watched; {bands}."
    if not (table["carried"] > 0).any():
        return note
    return (
        f"{note} Runs that stopped early, after a lasting grok or diverged, count with their last values from then on."
    )


def _describe_runs(lines: int, runs: int) -> str:
    if lines == runs:
        return f"{counted(runs, 'run')}, one line each."
    return f"{lines:,} of {runs:,} runs, one line each, evenly from all conditions."
