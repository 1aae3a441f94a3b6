"""Figures with a panel for each condition, for more conditions than one panel can show."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_lightning.figures.conditions import Condition, Naming
from grok_lightning.figures.splits import COLORS, LABELS, Measure, frame, legend_of_splits
from grok_lightning.figures.style import new_figure, plain

MOST = 30  # panels that fit a page
HEAD, LINE = 22, 0.14  # characters in a line of a panel's head, and its inches


class Panels(NamedTuple):
    """A figure and the panels of its first conditions, row by row."""

    figure: Figure
    cells: list[Axes]


def panels(title: str, note: str, names: Naming, sizes: Sequence[int], label: str) -> Panels:
    """Empty panels that share both axes.

    Only the first 30 conditions get a panel, and the note then says so. Only panels at the edge have ticks, and places
    are computed here, since 30 panels with their own ticks and matplotlib's layout take ten times as long.

    Args:
        title: The figure's title.
        note: The note below the figure.
        names: Names of the conditions.
        sizes: Number of runs of each.
        label: Label of the y axes.
    """
    shown = min(len(sizes), MOST)
    columns = next(columns for columns in (3, 4, 5, 6) if shown <= columns**2 or columns == 6)
    rows = -(-shown // columns)
    if len(sizes) > MOST:
        note += f" The first {MOST} of {len(sizes):,} conditions; the others are in the table only."
    titles = [f"{plain(label.replace(chr(10), ' '), HEAD, 5)} ({size:,})" for label, size in
              zip(names.labels[:shown], sizes, strict=False)]  # fmt: skip
    more = LINE * max(0, max((text.count("\n") for text in titles), default=0) - 1)  # inches beyond two lines
    heads = f"{names.title} (runs)" if names.title else "condition (runs)"
    figure = new_figure(
        title, f"{note} Above each panel: {heads}.", max(7.5, 1.8 * columns), (1.5 + more) * rows + 1.0, arranged=False
    )
    width, height = figure.get_size_inches()
    below = height - (1.5 + more) * rows - 0.45  # inches
    figure.subplots_adjust(
        left=0.85 / width,
        right=1 - 0.15 / width,
        bottom=below / height,
        top=1 - (0.65 + more) / height,
        wspace=0.12,
        hspace=0.42 + 0.95 * more,
    )
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for place, axes in enumerate(grid):
        if place >= shown:
            axes.remove()
            continue
        axes.set_title(titles[place], fontsize=8, pad=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_visible(place >= shown - columns)
        axes.yaxis.set_visible(place % columns == 0)
        axes.tick_params(labelsize=8, labelbottom=place >= shown - columns)
    figure.supylabel(label, x=0.1 / width, fontsize=9)
    return Panels(figure, list(grid[:shown]))


def panel_each(
    title: str,
    note: str,
    names: Naming,
    parts: Sequence[tuple[Condition, pd.DataFrame]],
    measure: Measure,
    losses: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame, str, str], None],
) -> Figure:
    """A panel for each condition with training and validation in it.

    Args:
        title: The figure's title.
        note: The note below the figure.
        names: Names of the conditions.
        parts: The rows of each condition, with ``step`` and ``runs``, their number.
        measure: ``acc`` or ``loss``.
        losses: Losses that the loss axis must include.
        draw: Draws into a panel, one condition's rows of a column such as ``val/acc`` in a color.
    """
    grid = panels(title, note, names, [int(rows["runs"].iloc[0]) for _, rows in parts], LABELS[measure])
    for (_, rows), axes in zip(parts, grid.cells, strict=False):
        for split, color in COLORS.items():
            draw(axes, rows, f"{split}/{measure}", color)
    frame(grid.cells[0], measure, pd.concat([rows["step"] for _, rows in parts]), losses, narrow=True)
    finish(grid)
    legend_of_splits(grid.figure)
    return grid.figure


def finish(grid: Panels) -> None:
    """Labels the x axes of the lowest panels only."""
    for axes in grid.cells:
        axes.set(xlabel="optimizer steps" if axes.xaxis.get_visible() else "", ylabel="")
        axes.xaxis.label.set_fontsize(8)
