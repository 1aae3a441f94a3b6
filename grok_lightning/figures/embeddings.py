"""First principal components of the token embeddings."""

import math

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from grok_lightning.figures.elements import NothingToShow, add_axes, entitle, name_ticks, room_for
from grok_lightning.figures.style import NOTE

COMPONENTS = 4
LABEL_POINTS = 6.0  # size of a label's letters
PANEL_INCHES = 4.3
MARGIN = 0.06  # of the data's range, left free on each side


def tabulate_components(vectors_VD: NDArray[np.floating], elements: list[str]) -> pd.DataFrame:
    """The first four principal components of the vectors of V elements.

    The sign of a component, which is arbitrary, makes its largest score positive. Scores of components that do not
    exist, for D or V below four, are 0.

    Args:
        vectors_VD: A vector in each row, shape (V, D).
        elements: Labels of the elements.

    Returns:
        A row for each component and element: ``component`` 1 to 4, ``explained`` (its share of the variance, 0 to 1),
        ``element`` (an ordered categorical) and ``score``.

    Raises:
        NothingToShow: A number is not finite.
    """
    if not np.isfinite(vectors_VD).all():
        raise NothingToShow("the embedding has numbers that are not finite")
    centered = vectors_VD.astype(np.float64) - vectors_VD.mean(axis=0, dtype=np.float64)
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    kept = min(COMPONENTS, len(sizes))
    scores = np.zeros((len(elements), COMPONENTS))
    scores[:, :kept] = left[:, :kept] * sizes[:kept]
    largest = scores[np.abs(scores).argmax(axis=0), np.arange(COMPONENTS)]
    scores *= np.where(largest < 0, -1.0, 1.0)
    explained = np.zeros(COMPONENTS)
    total = (sizes**2).sum()
    if total > 0:
        explained[:kept] = sizes[:kept] ** 2 / total
    count = len(elements)
    return pd.DataFrame(
        {
            "component": np.repeat(np.arange(1, COMPONENTS + 1), count),
            "explained": np.repeat(explained, count),
            "element": pd.Categorical(np.tile(elements, COMPONENTS), categories=elements, ordered=True),
            "score": scores.T.ravel(),
        }
    )


def draw_components(table: pd.DataFrame, title: str, cyclic: bool = False) -> Figure:
    """Scatter plots of the elements in the first two principal components, and in the third and fourth.

    Args:
        table: From ``tabulate_components``.
        title: The figure's title.
        cyclic: Whether the first element follows the last, as in the integers mod p.
    """
    names = list(table["element"].cat.categories)
    figure, size = Figure(), (2 * PANEL_INCHES + 2.5 + room_for(names), PANEL_INCHES + 1.15)
    lefts = (0.8, PANEL_INCHES + 1.8)
    panels = [add_axes(figure, (left, 0.55, PANEL_INCHES, PANEL_INCHES), size) for left in lefts]
    entitle(figure, title, size[0] / 2)
    scores = table.pivot(index="component", columns="element", values="score").to_numpy()
    explained = table.groupby("component")["explained"].first()
    colors = matplotlib.colormaps["twilight" if cyclic else "viridis"]
    for axes, first in zip(panels, (1, 3), strict=True):
        points = axes.scatter(
            scores[first - 1], scores[first], c=np.arange(len(names)), cmap=colors, vmin=0,
            vmax=len(names) if cyclic else max(1, len(names) - 1), s=18, linewidths=0.4, edgecolors=NOTE,
        )  # fmt: skip
        axes.margins(MARGIN)
        axes.set_aspect("equal", adjustable="datalim")
        axes.locator_params(nbins=6)
        axes.grid(alpha=0.25)
        axes.set(xlabel=_label(first, explained[first]), ylabel=_label(first + 1, explained[first + 1]))
        _name_points(axes, scores[first - 1 : first + 1].T, names)
    bar = figure.colorbar(points, cax=panels[1].inset_axes((1.03, 0.1, 0.04, 0.8)), label="element")
    name_ticks(bar.ax.yaxis, names)
    return figure


def _label(component: int, explained: float) -> str:
    return f"principal component {component} ({100 * explained:.1f} % of the variance)"


def _name_points(axes: Axes, places_V2: NDArray[np.float64], names: list[str]) -> None:
    """Labels points, outward if possible, leaving out labels that would overlap something drawn before."""
    span = max(np.ptp(places_V2, axis=0).max(), 1e-12)
    side = 72 * PANEL_INCHES  # all in points of the page, from the middle of the panel
    middle = (places_V2.max(axis=0) + places_V2.min(axis=0)) / 2
    points_V2 = (places_V2 - middle) * (side / (1 + 2 * MARGIN) / span)
    boxes = np.hstack([points_V2 - 2.0, points_V2 + 2.0])
    for place, name in enumerate(names):
        half = np.array([0.32 * len(name), 0.4]) * LABEL_POINTS
        outward = math.atan2(points_V2[place, 1], points_V2[place, 0])
        for turn in (0, 1, -1, 2, -2, 3, -3, 4):
            angle = outward + turn * math.pi / 4
            offset = np.array([math.cos(angle), math.sin(angle)]) * (3.5 + half)
            box = np.concatenate([points_V2[place] + offset - half, points_V2[place] + offset + half])
            meets = (boxes[:, :2] < box[2:]).all(axis=1) & (boxes[:, 2:] > box[:2]).all(axis=1)
            if not meets.any() and np.abs(box).max() < side / 2:
                boxes = np.vstack([boxes, box])
                axes.annotate(
                    name, places_V2[place], xytext=tuple(offset), textcoords="offset points", ha="center", va="center",
                    fontsize=LABEL_POINTS, color=NOTE, in_layout=False,
                )  # fmt: skip
                break
