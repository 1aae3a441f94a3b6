"""Conditions of a figure: their order, names, colors, markers and lines."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from grok_lightning.figures.style import DASHED, HUES, SOLID, Line, draw_legend, make_handle, wrap_text
from grok_lightning.figures.values import list_keys, to_ordered
from grok_lightning.records.words import format_option

MARKERS = ("o", "s", "D", "v", "P", "X", "p", "h", "*")
LINES: tuple[Line, ...] = (SOLID, DASHED, (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 2, 1, 2, 1, 2)))
SEQUENCE: Colormap = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, 256)), "sequence")
FEW = 8  # conditions that a legend can tell apart


class Condition(NamedTuple):
    """A condition: its value of each key, by the key's name, and its label."""

    values: dict[str, Any]
    label: str


class Look(NamedTuple):
    """Color, marker and line style of one condition."""

    color: str
    marker: str
    line: Line


PLAIN = Look(HUES[0], MARKERS[0], LINES[0])


class Naming(NamedTuple):
    """Legend title and labels of conditions; their numbers, if there is one key and all its values are numbers."""

    title: str
    labels: list[str]
    values: list[float] | None

    @property
    def has_scale(self) -> bool:
        """Whether a color scale names them: numbers, too many for a legend."""
        return len(self.labels) > FEW and self.values is not None

    @property
    def has_colors(self) -> bool:
        """Whether a legend or a color scale can tell them apart."""
        return len(self.labels) <= FEW or self.values is not None


def pick_names(conditions: Sequence[Condition], width: int = 32) -> Naming:
    """Legend entries of conditions: where labels are ``key=value, ...``, the keys are the title, the values the labels.

    Args:
        conditions: Conditions with the same keys.
        width: Most characters in a line of the legend.
    """
    names = shorten_names(list(conditions[0].values) if conditions else [])
    for exactly in (False, True) if names else ():
        words = [
            {key: format_option(value, exactly=exactly) for key, value in each.values.items()} for each in conditions
        ]
        if all(
            each.label == ", ".join(f"{names[key]}={word}" for key, word in row.items())
            for each, row in zip(conditions, words, strict=True)
        ):
            labels = [wrap_text(", ".join(row.values()), width) for row in words]
            column = to_ordered(pd.Series([next(iter(each.values.values())) for each in conditions], dtype=object))
            numeric = len(names) == 1 and column.dtype.kind == "f" and all(map(isfinite, column))
            return Naming(wrap_text(", ".join(names.values())), labels, column.tolist() if numeric else None)
    return Naming("", [wrap_text(each.label, width) for each in conditions], None)


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """The shortest end of each dotted name that no other name ends in: ``evaluation.every``, ``checkpoint.every``."""
    found = {}
    for name in names:
        parts = name.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [f".{other}" for other in names if other != name]
        found[name] = next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), name)
    return found


def pick_looks(names: Naming) -> list[Look]:
    """Looks of conditions: numbers of one key go from dark to bright, others have distinct hues."""
    values, count = names.values, len(names.labels)
    if values is not None and names.has_scale:
        return [PLAIN._replace(color=hue) for hue in pick_shades(make_norm(values)(values))]
    hues = [HUES[place % len(HUES)] for place in range(count)]
    if values is not None and count > 2:  # by rank, so that neighbors can be told apart
        hues = pick_shades(np.argsort(np.argsort(values)) / (count - 1))
    return [Look(hue, MARKERS[place % len(MARKERS)], LINES[place % len(LINES)]) for place, hue in enumerate(hues)]


def pick_shades(places: ArrayLike) -> list[str]:
    """Colors from dark (0) to bright (1)."""
    return [to_hex(tuple(color)) for color in SEQUENCE(np.asarray(places, float))]


def make_norm(values: Sequence[float]) -> Normalize:
    """From values to places on a colormap: logarithmic where they span more than a factor of 20."""
    low, high = min(values), max(values)
    return LogNorm(low, high) if 0 < 20 * low < high else Normalize(low, high if high > low else low + 1)


def split_conditions(table: pd.DataFrame) -> list[tuple[Condition, pd.DataFrame]]:
    """The rows of each condition, in the order of the categories if ``condition`` is categorical, else of the rows.

    Args:
        table: One column for each key, then ``condition``, the label, then others.
    """
    ordered = isinstance(table["condition"].dtype, pd.CategoricalDtype)
    keys = list_keys(table, "condition")
    firsts = table[[*keys, "condition"]].drop_duplicates("condition").astype(object).to_dict("records")
    values = {str(row.pop("condition")): {str(key): value for key, value in row.items()} for row in firsts}
    groups = table.groupby("condition", observed=True, sort=ordered)
    return [(Condition(values[str(label)], str(label)), rows) for label, rows in groups]


def stack(parts: Sequence[tuple[Condition, pd.DataFrame]], keys: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """One table of the rows of all conditions: the keys, ``condition`` and the columns named.

    A condition without rows gets one of missing values, so that every figure knows all conditions and colors them
    alike.
    """
    columns = [*keys, "condition", *columns]
    found = [
        (rows if len(rows) else rows.reindex([0])).assign(**each.values, condition=each.label) for each, rows in parts
    ]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def make_handles(looks: Sequence[Look], markers: bool = True) -> list[Line2D]:
    """Legend handles of conditions."""
    return [make_handle(look.marker if markers else "", look.color, line=look.line) for look in looks]


def add_legend(figure: Figure, names: Naming, handles: Sequence[Line2D], others: Mapping[str, Line2D]) -> None:
    """Draws a legend of conditions, or a color scale where a legend would be too long, and a legend of other marks.

    Args:
        figure: The figure.
        names: Names of the conditions.
        handles: Their legend handles.
        others: The other marks by their labels.
    """
    if not names.has_scale:
        draw_legend(figure, [*handles, *others.values()], [*names.labels, *others], names.title)
        return
    scale = ScalarMappable(make_norm(names.values or [0.0]), SEQUENCE)
    bar = figure.colorbar(scale, ax=figure.axes, label=names.title, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9)
    draw_legend(figure, list(others.values()), list(others))
