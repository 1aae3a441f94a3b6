"""How conditions are told apart, named and kept in order."""

import re
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from grok_lightning.figures.style import DASHED, HUES, SOLID, Line, mark, plain

MARKERS = ("o", "s", "D", "v", "P", "X", "p", "h", "*")
LINES: tuple[Line, ...] = (SOLID, DASHED, (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 2, 1, 2, 1, 2)))
SEQUENCE: Colormap = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, 256)), "sequence")
BETWEEN_KEYS = re.compile(r", (?=[\w.]+=(?!=))")
FEW = 8  # conditions that a legend can tell apart


class Look(NamedTuple):
    """How one condition is drawn."""

    color: str
    marker: str
    line: Line


class Naming(NamedTuple):
    """How conditions are called in a legend: what they have in common, then the rest of each."""

    title: str
    labels: list[str]
    values: list[float] | None  # the numbers behind the labels, if there is one key and all its values are numbers


def naming(conditions: Iterable[object], width: int = 32) -> Naming:
    """What a legend calls conditions such as ``train_fraction=0.5, layers=2``: the keys once, above their values.

    Args:
        conditions: Their names.
        width: In characters, of a legend's lines.
    """
    names = [str(name) for name in conditions]
    parts = [[part.partition("=") for part in BETWEEN_KEYS.split(name)] for name in names]
    keys = {tuple(key for key, _, _ in row) for row in parts}
    if len(keys) != 1 or not all(equals for row in parts for _, equals, _ in row):
        return Naming("", [plain(name, width) for name in names], None)
    labels = [", ".join(value for _, _, value in row) for row in parts]
    try:
        values = [float(label) for label in labels]
    except ValueError:
        values = []
    numbers = values if values and all(map(isfinite, values)) else None
    return Naming(plain(", ".join(keys.pop())), [plain(label, width) for label in labels], numbers)


def looks(conditions: Iterable[object]) -> list[Look]:
    """A look for each condition; numbers of one key go from dark to bright, others have unlike hues."""
    _, labels, values = naming(conditions)
    if values is not None and len(values) > FEW:
        return [Look(hue, MARKERS[0], LINES[0]) for hue in shades(gradient(values)(values))]
    hues = [HUES[place % len(HUES)] for place in range(len(labels))]
    if values is not None and len(values) > 2:  # by rank, so that neighbors can be told apart
        ranks = np.argsort(np.argsort(values)) / (len(values) - 1)
        hues = shades(ranks)
    return [Look(hue, MARKERS[place % len(MARKERS)], LINES[place % len(LINES)]) for place, hue in enumerate(hues)]


def shades(places: ArrayLike) -> list[str]:
    """Colors from dark (0) to bright (1)."""
    return [to_hex(tuple(color)) for color in SEQUENCE(np.asarray(places, float))]


def gradient(values: Sequence[float]) -> Normalize:
    """From values to places on a colormap: logarithmic where they span more than a factor of 20."""
    low, high = min(values), max(values)
    return LogNorm(low, high) if 0 < 20 * low < high else Normalize(low, high if high > low else low + 1)


def by_condition(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each condition's rows, in the order of display: that of the categories if it has them, else as they come."""
    ordered = isinstance(frame["condition"].dtype, pd.CategoricalDtype)
    for condition, rows in frame.groupby("condition", observed=True, sort=ordered):
        yield str(condition), rows


def heads(looks: Sequence[Look], markers: bool = True) -> list[Line2D]:
    """What stands for each condition in a legend."""
    return [mark(look.marker if markers else "", look.color, line=look.line) for look in looks]


def colorbar(figure: Figure, names: Naming) -> None:
    """Which color of ``looks`` means which value, where there are too many for a legend."""
    shown = ScalarMappable(gradient(names.values or [0.0]), SEQUENCE)
    bar = figure.colorbar(shown, ax=figure.axes, label=names.title, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9)
