"""Which figures a report has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: The stem of its files.
        caption: What it shows, a sentence.
        table: What is drawn.
        figure: The figure.
    """

    name: str
    caption: str
    table: pd.DataFrame
    figure: Figure


def drawings(runs: pd.DataFrame, curves: pd.DataFrame, keys: Sequence[str]) -> Iterator[Drawing]:
    """The figures that these runs allow.

    Args:
        runs: As ``frame`` gives them.
        curves: Their evaluations.
        keys: What parts them into conditions.
    """
    from grok_lightning.figures.survival import survival, survival_table

    table = survival_table(runs)
    yield Drawing("survival", "Share of runs that have not grokked yet.", table, survival(table, "s"))
