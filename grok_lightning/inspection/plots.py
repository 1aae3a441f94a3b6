"""Plotly figures as plain dictionaries: heat maps over pairs of operands, bars, points, and their layouts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from grok_lightning.figures.style import HUES, NOTE, TRAIN, VAL
from grok_lightning.inspection.labels import Labels

Trace = dict[str, Any]
SPLIT_COLORS = {"training": TRAIN, "validation": VAL, "test": HUES[2]}
DIVERGING = [[0, TRAIN], [0.5, "#FFFFFF"], [1, VAL]]
SEQUENTIAL = [[place / 8, to_hex(matplotlib.colormaps["viridis"](place / 8))] for place in range(9)]
CYCLIC = [[place / 16, to_hex(matplotlib.colormaps["twilight"](place / 16))] for place in range(17)]
LABELED = 30  # elements at most whose names stand beside their points
NARROW_BAR = {"thickness": 10, "len": 0.9, "outlinewidth": 0, "tickfont": {"size": 10}}


@dataclass(frozen=True)
class Plot:
    """One Plotly figure at each moment.

    Attributes:
        title: What stands above it.
        frames: Its traces at each moment; none where there is nothing to show.
        layout: Its layout.
        size: ``small``, ``map`` (both square) or ``wide``.
        notes: What stands below it at each moment.
    """

    title: str
    frames: list[list[Trace]]
    layout: dict[str, Any] = field(default_factory=dict)
    size: str = "map"
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor.
        title: Its heading.
        caption: What to look for.
        views: Plots by the name of what is chosen; a single one has no choice.
        remarks: What is left out, and why, a sentence each.
    """

    key: str
    title: str
    caption: str
    views: dict[str, list[Plot]]
    remarks: list[str]


def draw_map(values_XY: NDArray[Any], labels: Labels, colors: Any = None, bar: bool = True, **more: Any) -> list[Trace]:
    """A heat map over pairs of operands, x to the right and y upward; nothing if all is missing."""
    if is_missing(values_XY):
        return []
    least, most = float(np.nanmin(values_XY)), float(np.nanmax(values_XY))
    if colors is None:
        both = least < 0 < most
        largest = max(abs(least), abs(most))
        colors = DIVERGING if both else SEQUENTIAL
        more = {"zmin": -largest, "zmax": largest} | more if both else more
    (x, y), (xs, ys) = labels.operands, labels.values
    trace = {
        "type": "heatmap", "z": np.asarray(values_XY.T), "x": xs, "y": ys, "colorscale": colors, "showscale": bar,
        "hovertemplate": f"{x} = %{{x}}, {y} = %{{y}}<br>%{{z:.3g}}<extra></extra>",
    }  # fmt: skip
    if bar:
        trace["colorbar"] = NARROW_BAR
    return [trace | more]


def lay_over_pairs(labels: Labels, small: bool = False) -> dict[str, Any]:
    """The layout of a heat map over pairs of operands."""
    if small:
        axis: dict[str, Any] = {"visible": False, "constrain": "domain", "type": "category"}
        return {"xaxis": axis, "yaxis": axis | {"scaleanchor": "x"}, "margin": {"l": 2, "r": 2, "t": 2, "b": 2}}
    axes = {}
    for axis_name, operand, values in zip(("xaxis", "yaxis"), labels.operands, labels.values, strict=True):
        axes[axis_name] = {"title": {"text": operand, "standoff": 4}, "nticks": 8, "constrain": "domain"}
        axes[axis_name] |= {"type": "category"} if labels.are_ordered else {}
        if labels.are_long(values):
            axes[axis_name] |= {"showticklabels": False}
    return axes | {"margin": {"l": 48, "r": 8, "t": 8, "b": 40}}


def lay_bars(x: str, y: str) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x, "standoff": 4}, "nticks": 16},
        "yaxis": {"title": {"text": y, "standoff": 6}, "gridcolor": "#E6E6E6"},
        "margin": {"l": 56, "r": 8, "t": 30, "b": 44},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        "bargap": 0.15,
    }


def draw_points(x: NDArray[Any], y: NDArray[Any], colors: NDArray[Any], names: Sequence[str], labels: Labels) -> Trace:
    few = len(names) <= LABELED
    return {
        "type": "scatter", "mode": "markers+text" if few else "markers", "x": x, "y": y, "text": list(names),
        "textposition": "top center", "textfont": {"size": 10}, "showlegend": False,
        "marker": {"color": colors, "colorscale": CYCLIC if labels.is_cyclic else SEQUENTIAL, "cmin": 0, "cmax": 1,
                   "size": 7, "line": {"color": NOTE, "width": 0.5}},
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def is_missing(values: NDArray[Any]) -> bool:
    return bool(np.isnan(values.astype(float)).all()) if values.size else True


def list_moments(array: NDArray[Any] | None) -> list[NDArray[Any]]:
    return [] if array is None else list(array)
