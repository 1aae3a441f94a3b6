"""Places of runs and medians on the axis of a key, those of a second key side by side."""

from math import isfinite
from typing import NamedTuple

import numpy as np
import pandas as pd

from grok_lightning.figures.conditions import PLAIN, Look, Naming, looks
from grok_lightning.figures.style import plain
from grok_lightning.figures.values import Places, distinct, jitter, keys_of, ordered_type, places, spread, value_text

MOST = 6  # groups that are drawn side by side


class Slot(NamedTuple):
    """Runs and medians of one value of the second key, with their places on the x axis."""

    look: Look
    runs: pd.DataFrame
    runs_at: np.ndarray
    medians: pd.DataFrame
    medians_at: np.ndarray


class Slots(NamedTuple):
    """Runs and medians with their places and looks.

    Attributes:
        key: The key of the x axis.
        where: Its values and their places.
        runs: Rows of single runs.
        medians: Rows of medians.
        names: The second key and its values, empty without one.
        parts: One for each of them, or the only one.
    """

    key: str
    where: Places
    runs: pd.DataFrame
    medians: pd.DataFrame
    names: Naming
    parts: list[Slot]

    @property
    def kinds(self) -> list[Look]:
        """The look of each part."""
        return [part.look for part in self.parts]


def slots(table: pd.DataFrame) -> Slots:
    """Splits a table by its second key, if it has one.

    Args:
        table: Its one or two keys, then ``kind``: ``run`` or ``median``.
    """
    key, *rest = keys_of(table)
    by = rest[0] if rest else ""
    runs, medians = table[table["kind"] == "run"], table[table["kind"] == "median"]
    groups: list[object] = list(distinct(table[by])) if by and len(table) else [""]
    numbers = [group for group in groups if isinstance(group, float) and isfinite(group)]
    labels = [plain(group if isinstance(group, str) else value_text(group)) for group in groups]
    names = Naming(plain(by), labels, numbers if len(numbers) == len(groups) else None) if by else Naming("", [], None)
    where = places(table[key])
    width = 0.7 * where.gap / len(groups) if len(groups) <= MOST else 0.0
    parts = []
    for place, (group, look) in enumerate(zip(groups, looks(names) or [PLAIN], strict=True)):
        shift = width * (place - (len(groups) - 1) / 2)
        mine, ours = (part[ordered_type(part[by]) == group] if by else part for part in (runs, medians))
        at = where.of(mine[key]) + shift + spread(mine[key], jitter(where, width))
        parts.append(Slot(look, mine, at, ours, where.of(ours[key]) + shift))
    return Slots(key, where, runs, medians, names, parts)
