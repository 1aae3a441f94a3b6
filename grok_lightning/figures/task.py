"""Figures of a task: its table, its split, a model's predictions, and the counts of answers."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from grok_lightning.figures.elements import NothingToShow, add_axes, are_long, entitle, name_ticks, room_for, wrap_title
from grok_lightning.figures.style import NOTE, TRAIN

MOST_ELEMENTS = 1024  # of an operand; with more, a cell of a map is smaller than a dot of the picture
SIDE = 4.6  # of a map, in inches
SPLITS = {"train": "training", "val": "validation", "test": "test", "unused": "in no split"}

# Okabe and Ito's colors, lightened and darkened so that every cell can be told from every other in gray, too
MEMBERS = {"train": TRAIN, "val": "#E8A33D", "test": "#F7E3B5", "unused": "#FFFFFF"}
RIGHT = {"train": "#56B4E9", "val": "#A6D6F2", "test": "#D6ECF9", "unused": "#F4FAFD"}
WRONG = {"train": "#3D1A00", "val": "#8F3E00", "test": "#D55E00", "unused": "#E67F33"}
NO_EQUATION: dict[str, Any] = {"facecolor": "white", "edgecolor": "#777777", "hatch": "//////"}  # unlike any of these


def draw_answers(table: pd.DataFrame, title: str, cyclic: bool = False) -> Figure:
    """Map of the answer of each pair of operands.

    Args:
        table: An equation a row: two operands, then ``answer``; categoricals, whose categories are the elements as
            they are written, in their order.
        title: The figure's title; below it stands how symmetric the table is.
        cyclic: Whether the first element follows the last, as in the integers mod p.

    Raises:
        NothingToShow: The table does not have two operands, or has more than 1,024 elements.
    """
    x, y = find_operands(table)
    elements = list(table["answer"].cat.categories)
    image = _arrange(table, table["answer"].cat.codes.to_numpy(dtype=np.float64))
    figure, axes = _draw_map(table, title, _list_missing(image), right=0.7 + room_for(elements))
    bounds = (0, len(elements)) if cyclic else (np.nanmin(image), np.nanmax(image))
    drawn = axes.imshow(
        image, origin="lower", interpolation="nearest", cmap="twilight" if cyclic else "viridis",
        vmin=bounds[0], vmax=bounds[1],
    )  # fmt: skip
    colors = figure.colorbar(drawn, cax=axes.inset_axes((1.03, 0.1, 0.045, 0.8)), label="answer")
    name_ticks(colors.ax.yaxis, elements)
    agreeing, pairs = count_symmetric(table)
    share = f" ({_format_percent(agreeing, pairs)})" if pairs else ""
    _annotate(axes, f"({x}, {y}) and ({y}, {x}) have the same answer in {agreeing:,} of {pairs:,} pairs{share}")
    return figure


def count_symmetric(table: pd.DataFrame) -> tuple[int, int]:
    """Number of mirrored pairs (x, y), (y, x) with the same answer, and of those with both in the table.

    Raises:
        NothingToShow: The table does not have two operands, or has more than 1,024 elements.
    """
    image = _arrange(table, table["answer"].cat.codes.to_numpy(dtype=np.float64))
    above, below = image[np.triu_indices(len(image), 1)], image.T[np.triu_indices(len(image), 1)]
    both = ~np.isnan(above) & ~np.isnan(below)
    return int((above[both] == below[both]).sum()), int(both.sum())


def draw_split(table: pd.DataFrame, title: str) -> Figure:
    """Map of the split of each pair of operands.

    Args:
        table: As in ``draw_answers``, with ``split``: train, val, test, or unused where a row is in none.
        title: The figure's title.

    Raises:
        NothingToShow: The table does not have two operands, or has more than 1,024 elements.
    """
    counts = table["split"].value_counts()
    kinds = {split: color for split, color in MEMBERS.items() if counts.get(split)}
    labels = {color: f"{SPLITS[split]} ({counts[split]:,})" for split, color in kinds.items()}
    number = {split: place for place, split in enumerate(kinds)}
    kind = table["split"].astype(object).map(number).to_numpy(dtype=np.float64)
    figure, axes = _draw_kinds(table, title, kind, labels)
    _annotate(axes, f"{len(table):,} equations")
    return figure


def draw_predictions(table: pd.DataFrame, title: str) -> Figure:
    """Map of the pairs of operands that a model answers correctly, by split.

    Args:
        table: As in ``draw_split``, with ``correct``.
        title: The figure's title; below it stand the accuracies.

    Raises:
        NothingToShow: The table does not have two operands, or has more than 1,024 elements.
    """
    kind = np.full(len(table), np.nan)
    labels: dict[str, str] = {}
    shares = []
    for split in SPLITS:
        inside = (table["split"] == split).to_numpy()
        right = inside & table["correct"].to_numpy()
        if inside.any():
            shares.append(f"{SPLITS[split]} {_format_percent(right.sum(), inside.sum())}")
        for rows, word, colors in ((right, "right", RIGHT), (inside & ~right, "wrong", WRONG)):
            if rows.any():
                kind[rows] = len(labels)
                labels[colors[split]] = f"{SPLITS[split]}, {word} ({rows.sum():,})"
    figure, axes = _draw_kinds(table, title, kind, labels)
    _annotate(axes, "right: " + ", ".join(shares))
    return figure


def tabulate_value_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Counts of each answer in a table of any number of operands.

    Returns:
        One row per element in its order, also those that are never an answer: ``answer``, ``count`` and ``even``, the
        count if all elements that occur occurred equally often (0 for the others).
    """
    counts = table["answer"].value_counts(sort=False).rename_axis("answer").rename("count").reset_index()
    occurring = counts["count"] > 0
    return counts.assign(even=np.where(occurring, len(table) / max(1, occurring.sum()), 0.0))


def draw_value_counts(counts: pd.DataFrame, title: str) -> Figure:
    """Counts of each answer, with the even count as a line.

    Args:
        counts: From ``tabulate_value_counts``.
        title: The figure's title.

    Raises:
        NothingToShow: There are more than 1,024 elements.
    """
    if len(counts) > MOST_ELEMENTS:
        raise NothingToShow(f"counts of {len(counts):,} elements cannot be seen; at most {MOST_ELEMENTS:,} are drawn")
    figure = Figure()
    axes = add_axes(figure, (0.75, 0.95, 5.9, 2.2), (7, 3.9))
    elements, count = list(counts["answer"].cat.categories), counts["count"].to_numpy()
    even = counts["even"].max()
    axes.stairs(count, np.arange(len(count) + 1) - 0.5, fill=True, color=TRAIN, label="equations with that answer")
    axes.axhline(even, color="black", linewidth=1.2, linestyle="--", label=f"if all came equally often: {even:,.1f}")
    axes.set(xlabel="answer", ylabel="equations")
    axes.set(ylim=(0, 1.08 * max(even, count.max())), xlim=(-0.5, len(count) - 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    name_ticks(axes.xaxis, elements)
    entitle(figure, title, 3.7)
    _annotate(axes, f"{count.sum():,} equations; {(count > 0).sum():,} of {len(count):,} elements are answers")
    figure.legend(loc="lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def find_operands(table: pd.DataFrame) -> list[str]:
    """The names of the two operands of a map.

    Args:
        table: From ``task_table``.

    Raises:
        NothingToShow: There are more or fewer operands, or more than 1,024 elements.
    """
    names = [str(name) for name in table.columns[: table.columns.get_loc("answer")]]
    if len(names) != 2:
        raise NothingToShow(f"a map has two operands, x and y; this table has {len(names)}")
    most = max(len(table[name].cat.categories) for name in names)
    if most > MOST_ELEMENTS:
        raise NothingToShow(f"a map of {most:,} elements a side cannot be seen; at most {MOST_ELEMENTS:,} are drawn")
    return names


def _arrange(table: pd.DataFrame, values_N: NDArray[Any]) -> NDArray[np.float64]:
    """A value for each pair of operands, the second operand's elements a row each; NaN without an equation."""
    x, y = find_operands(table)
    image = np.full((len(table[y].cat.categories), len(table[x].cat.categories)), np.nan)
    image[table[y].cat.codes, table[x].cat.codes] = values_N
    return image


def _draw_kinds(table: pd.DataFrame, title: str, kind_N: NDArray[Any], labels: dict[str, str]) -> tuple[Figure, Axes]:
    """A map of kinds, each the place of its color among the labels."""
    image = _arrange(table, kind_N)
    legend = [Patch(facecolor=color, edgecolor=NOTE, linewidth=0.5, label=label) for color, label in labels.items()]
    figure, axes = _draw_map(table, title, legend + _list_missing(image))
    axes.imshow(
        image, origin="lower", interpolation="nearest", cmap=ListedColormap(list(labels)),
        vmin=-0.5, vmax=len(labels) - 0.5,
    )  # fmt: skip
    return figure, axes


def _draw_map(table: pd.DataFrame, title: str, legend: list[Patch], right: float = 0.3) -> tuple[Figure, Axes]:
    """An empty map of all pairs of operands with its legend below and room to the right, in inches."""
    x, y = find_operands(table)
    names = list(table[x].cat.categories)
    left, below = 0.35 + room_for(names), 0.55 + 0.4 * are_long(names)
    legend_rows = -(-len(legend) // 2)
    bottom = below + 0.1 + 0.2 * legend_rows
    size = (left + SIDE + right, bottom + SIDE + 0.4 + 0.19 * len(wrap_title(title)))
    figure = Figure()
    axes = add_axes(figure, (left, bottom, SIDE, SIDE), size)
    axes.set(xlabel=x, ylabel=y)
    axes.patch.set(**NO_EQUATION)
    for axis in (axes.xaxis, axes.yaxis):
        name_ticks(axis, names)
    entitle(figure, title, left + SIDE / 2)
    if legend:
        under = (left + SIDE / 2) / size[0]
        figure.legend(handles=legend, loc="lower center", bbox_to_anchor=(under, 0), ncols=2, frameon=False, fontsize=9)
    return figure, axes


def _list_missing(image: NDArray[np.float64]) -> list[Patch]:
    """The legend's entry of pairs without an equation, if there are any."""
    count = np.isnan(image).sum()
    return [Patch(**NO_EQUATION, linewidth=0.5, label=f"no equation ({count:,})")] if count else []


def _format_percent(part: int, whole: int) -> str:
    """A share in percent, rounded down: 100.0 is all."""
    return f"{math.floor(1000 * part / whole) / 10:.1f} %"


def _annotate(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9, color=NOTE)
