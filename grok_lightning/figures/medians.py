"""Median grok steps: a row of a figure's table, and how it is drawn."""

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from grok_lightning.figures import style
from grok_lightning.statistics import LEAST_RUNS, kaplan_meier


def summarize_median(runs: pd.DataFrame) -> dict[object, object]:
    """Kaplan-Meier median of the grok step with its interval.

    Args:
        runs: ``step`` and ``observed`` of each, ``budget`` and ``threshold``.

    Returns:
        ``kind``, ``step`` (infinity: not reached), its 95 % interval ``low`` and ``high`` (NaN with fewer than 5 runs),
        ``n``, ``grokked``, and the largest ``budget`` and ``threshold``.
    """
    estimate = kaplan_meier(runs["step"], runs["observed"])
    low, high = estimate.median_interval
    counts: dict[object, object] = {"n": len(runs), "grokked": int(runs["observed"].sum())}
    limits = {"budget": runs["budget"].max(), "threshold": runs["threshold"].max()}
    return {"kind": "median", "step": estimate.median, "low": low, "high": high} | counts | limits


def describe_medians(medians: pd.DataFrame) -> str:
    """How medians of several runs, rows of ``summarize_median``, are estimated: a sentence of a figure's note."""
    few, low, high = medians["n"] < LEAST_RUNS, np.isfinite(medians["low"]), np.isfinite(medians["high"])
    if few.all():
        return f"Medians by Kaplan-Meier; intervals need {LEAST_RUNS} runs."
    of = f" of {LEAST_RUNS} runs or more" * bool(few.any())
    return f"Medians by Kaplan-Meier with 95% intervals{of}{'; dotted: no upper end' * bool((low & ~high).any())}."


def name_median(medians: pd.DataFrame) -> str:
    """Legend entry of rows of ``summarize_median``; that of the runs themselves where there is one each."""
    if not (medians["n"] > 1).any():
        return style.STEP
    return "median, 95% interval" if np.isfinite(medians["low"]).any() else "median"


def draw_intervals(
    axes: Axes, which: Literal["x", "y"], at: NDArray[np.float64], rows: pd.DataFrame, color: str, width: float
) -> NDArray[np.float64]:
    """Draws the intervals of medians, dotted without an upper end, and arrows where no median was reached.

    Args:
        axes: The axes, with the limits of the steps set.
        which: The axis of the steps.
        at: Places on the other axis.
        rows: As ``summarize_median`` makes them.
        color: Their color.
        width: Line width in points.

    Returns:
        The medians within the axes; NaN where they were not reached.
    """
    across = which == "x"
    lines, edge = (axes.hlines, axes.get_xlim()[1]) if across else (axes.vlines, axes.get_ylim()[1])
    reached, bounded, known = (np.isfinite(rows[name].to_numpy(float)) for name in ("step", "high", "low"))
    known &= reached
    low, middle, high = (rows[name].to_numpy(float).clip(1, edge) for name in ("low", "step", "high"))
    lines(at[known], low[known], middle[known], color=color, linewidth=width, zorder=4)
    for ends, line, alpha in ((known & bounded, style.SOLID, 1), (known & ~bounded, style.DOTTED, 0.45)):
        lines(at[ends], middle[ends], high[ends], color, line, linewidth=width, alpha=alpha, zorder=2)
    for place, budget in zip(at[~reached], rows["budget"].to_numpy(float)[~reached], strict=True):
        tip, tail = (((factor * budget, place) if across else (place, factor * budget)) for factor in (1.9, 1.1))
        axes.annotate("", tip, tail, zorder=4, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.6})
    return np.where(reached, middle, np.nan)
