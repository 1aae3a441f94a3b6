"""Panels of accuracy and loss in training and validation."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from grok_lightning.figures.style import SOLID, TRAIN, VAL, bare, loss_axis, mark, percent_axis, step_axis

Measure = Literal["acc", "loss"]
COLORS = {"train": TRAIN, "val": VAL}
SPLITS = {"train": "training", "val": "validation"}
LABELS = {"acc": "accuracy (%)", "loss": "loss (nats)"}
MEASURES = [f"{split}/{measure}" for measure in LABELS for split in SPLITS]


def accuracy_and_loss(figure: Figure, steps: Iterable[float], losses: pd.DataFrame) -> dict[tuple[str, str], Axes]:
    """Four panels by split and measure: accuracy above loss, training left of validation.

    Args:
        figure: An empty figure.
        steps: All steps to include.
        losses: All losses to include, in columns with names in ``/loss``.
    """
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    for row, measure in enumerate(LABELS):
        frame(grid[row, 0], measure, steps, losses)
        for axes in grid[row]:
            bare(axes)
            axes.set(xlabel="optimizer steps" if row else "", ylabel="" if axes is grid[row, 1] else LABELS[measure])
    for column, name in enumerate(SPLITS.values()):
        grid[0, column].set_title(name, fontsize=10)
    return {
        (split, measure): grid[row, column] for row, measure in enumerate(LABELS) for column, split in enumerate(SPLITS)
    }


def frame(axes: Axes, measure: str, steps: Iterable[float], losses: pd.DataFrame, narrow: bool = False) -> None:
    """Sets scales, limits and labels of both axes of a panel."""
    known = np.asarray(list(steps), float)
    step_axis(axes, "x", known.min() if len(known) else 1, known.max(initial=1), narrow=narrow)
    if measure == "acc":
        percent_axis(axes)
        return
    values = losses.filter(regex="/loss").to_numpy(float).ravel()
    seen = values[np.isfinite(values) & (values > 0)]
    axes.set(ylabel=LABELS["loss"])
    if len(seen):
        loss_axis(axes)
        axes.set_ylim(seen.min() / 1.3, seen.max() * 1.3)
        if seen.max() > 100 * seen.min():  # ticks cost most of the time
            axes.yaxis.set_minor_locator(NullLocator())


def legend_of_splits(figure: Figure) -> None:
    """Draws a legend of the splits' colors in the upper right corner."""
    figure.legend([mark("", color, line=SOLID) for color in COLORS.values()], list(SPLITS.values()), loc="upper right",
                  frameon=False, fontsize=8, ncols=2)  # fmt: skip
