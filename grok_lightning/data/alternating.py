"""Alternating groups: the even permutations."""

from typing import Any

import numpy as np

from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.data.table_datamodule import TableDataModule


class AlternatingGroup(SymmetricGroup):
    """All even permutations of n items, in lexicographic order of their images; products as in ``SymmetricGroup``.

    Args:
        degree: n, from 2 to 8.
    """

    def __init__(self, degree: int) -> None:
        super().__init__(degree)
        self.title = f"over A{degree}"
        before, after = np.triu_indices(degree, 1)
        inversions = (self.images[:, before] > self.images[:, after]).sum(axis=1)
        even = inversions % 2 == 0
        self.images, self._codes = self.images[even], self._codes[even]

    @property
    def size(self) -> int:
        return len(self.images)


class AlternatingDataModule(TableDataModule):
    """Operations over all even permutations of n items, with (x * y)(i) = x(y(i)).

    Args:
        formula: Formula, such as x * y * x**-1.
        degree: n, number of permuted items; of n! / 2 elements.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str | list[str] = "x * y", degree: int = 5, **options: Any) -> None:
        self.degree = degree
        super().__init__(formula, **options)

    def algebra(self) -> AlternatingGroup:
        return AlternatingGroup(self.degree)
