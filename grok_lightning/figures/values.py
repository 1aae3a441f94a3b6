"""Places of a key's values on an axis: numbers linear or logarithmic, names evenly spaced."""

from collections.abc import Iterable, Sequence
from math import log10
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import AutoLocator

from grok_lightning.figures.style import wrap_text

MANY = 12  # more values get ticks at round numbers


class Places(NamedTuple):
    """The distinct values of a key in order, and the place of each."""

    values: list[float] | list[str]
    at: np.ndarray

    def of(self, column: "pd.Series[float]") -> np.ndarray:
        """The places of a column's values."""
        return self.at[pd.Index(self.values).get_indexer(pd.Index(to_ordered(column)))]

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers, which have places of their own."""
        return bool(self.values) and not isinstance(self.values[0], str)

    @property
    def gap(self) -> float:
        """The smallest distance between neighbors."""
        return float(np.diff(self.at).min()) if len(self.at) > 1 else 1.0


def to_ordered(column: "pd.Series[float]") -> pd.Series:
    """A key's values as numbers if they all are, else as text."""
    numbers = pd.to_numeric(column.astype(object), errors="coerce")
    return numbers.astype(float) if numbers.notna().all() else column.astype(str)


def find_distinct(column: "pd.Series[float]") -> list[float] | list[str]:
    """Distinct values of a key: numbers ascending, names in order of appearance."""
    typed = to_ordered(column)
    found = list(pd.unique(typed))
    return sorted(found) if typed.dtype.kind == "f" else found


def find_places(column: "pd.Series[float]") -> Places:
    """Linear; logarithmic where values span more than a factor of 20, with a 0 left of them; names evenly spaced."""
    values = find_distinct(column)
    if not values or isinstance(values[0], str):
        return Places(values, np.arange(len(values), dtype=float))
    positive = [float(value) for value in values if float(value) > 0]
    if float(values[0]) >= 0 and positive and positive[-1] > 20 * positive[0]:
        at = [log10(value) for value in positive]
        if len(positive) < len(values):
            at.insert(0, at[0] - max(0.5, (at[-1] - at[0]) / (len(at) - 1)))
        return Places(values, np.array(at))
    return Places(values, np.array(values, float))


def find_jitter(where: Places, slot: float) -> float:
    """Width over which to spread runs at one name: within its slot, at least 2 % of the axis; 0 at a number."""
    if where.is_numeric:
        return 0.0
    return max(0.6 * (slot or 0.5 * where.gap), 0.02 * float(np.ptp(where.at)) if len(where.at) else 0.0)


def set_value_axis(axes: Axes, where: Places, label: str, width: float = 60) -> None:
    """Sets ticks of an x axis at a key's values, as many as are legible.

    Args:
        axes: The axes.
        where: The values and their places.
        label: Label of the axis.
        width: Number of characters that fit along it.
    """
    axes.set_xlabel(wrap_text(label, 60))
    if not len(where.at):
        axes.set_xticks([])
        return
    texts = format_values(where.values)
    span = float(np.ptp(where.at)) or 1.0
    edge = max(0.5 * where.gap, 0.04 * span) if len(texts) > 1 else 0.5
    sizes = [(max(map(len, text.split("\n"))) + 1.5) * (span + 2 * edge) / width for text in texts]
    shown = [0]
    for place in range(1, len(texts)):
        if where.at[place] - where.at[shown[-1]] >= (sizes[place] + sizes[shown[-1]]) / 2:
            shown.append(place)
    if where.at.tolist() == where.values and len(shown) < len(texts) > MANY:
        axes.xaxis.set_major_locator(AutoLocator())
    else:
        axes.set_xticks(where.at[shown], [texts[place] for place in shown])
    axes.set_xlim(where.at[0] - edge, where.at[-1] + edge)


def format_value(value: object, width: int = 16) -> str:
    """A value as a label, of several lines where a name is longer than the width."""
    return f"{value:.6g}" if isinstance(value, float) else wrap_text(value, width)


def format_values(values: Sequence[object], width: int = 16) -> list[str]:
    """Tick labels of values, numbers with as few digits as distinguish them."""
    for digits in (3, 4, 5):
        texts = [f"{value:.{digits}g}" if isinstance(value, float) else format_value(value, width) for value in values]
        if len(set(texts)) == len(values):
            return texts
    return [format_value(value, width) for value in values]


def spread(groups: Iterable[object], width: float) -> np.ndarray:
    """Deterministic offsets that keep the members of each group from overlapping.

    Args:
        groups: The group of each point.
        width: The distance from the first to the last of a group with many.
    """
    frame = pd.DataFrame({"group": pd.factorize(np.asarray(list(map(str, groups))))[0]})
    rank = frame.groupby("group").cumcount().to_numpy()
    size = frame.groupby("group")["group"].transform("size").to_numpy()
    # golden-ratio steps beyond a few: neighbors in the table do not become neighbors in the figure
    even = np.where(size > 1, rank / np.maximum(size - 1, 1) - 0.5, 0.0) * np.minimum(1, (size - 1) / 6)
    scattered = (rank * 0.618033988749895) % 1 - 0.5
    return width * np.where(size <= 12, even, scattered)


def sort_by(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The rows of a table in the order of its keys' values, otherwise as they are."""
    order = {name: {value: place for place, value in enumerate(find_distinct(table[name]))} for name in keys}
    ranks = pd.DataFrame({name: table[name].map(order[name]) for name in keys})
    return table.loc[ranks.sort_values(keys, kind="stable").index].reset_index(drop=True)


def list_keys(table: pd.DataFrame, end: str = "kind") -> list[str]:
    """The keys of a table: its columns before the one named."""
    return list(map(str, table.columns[: list(table.columns).index(end)]))
