"""Symmetric groups: all permutations of n items."""

from collections.abc import Mapping
from itertools import permutations
from math import factorial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grok_lightning.data.algebra import Algebra, Column, Mask, missing_operator, repeated_product, without_integers
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError


class SymmetricGroup(Algebra):
    """All permutations of n items, in lexicographic order of their images.

    A product acts with its right factor first: (x * y)(i) = x(y(i)). The original paper's code composes the other way
    round (its c[i] = y[x[i]] is our y * x). Elements are written in cycles, ``(0 1 2)(3 4)``; the identity is ``()``,
    in a formula ``e``.

    Args:
        degree: n, from 2 to 8.
    """

    operators = ("*", "/", "**")
    constants: Mapping[str, int] = MappingProxyType({"e": 0})
    LARGEST = 8

    def __init__(self, degree: int) -> None:
        if not 2 <= degree <= self.LARGEST:
            raise UserError(f"data.degree is {degree}; it must be an integer from 2 to {self.LARGEST}")
        self.degree = degree
        self.title = f"over S{degree}"
        self.images = np.array(list(permutations(range(degree))), dtype=np.int64)  # (n!, n)
        self._weights = degree ** np.arange(degree - 1, -1, -1, dtype=np.int64)
        self._codes = self.images @ self._weights  # increasing, because the order is lexicographic

    @property
    def size(self) -> int:
        return factorial(self.degree)

    @property
    def columns(self) -> int:
        return 8 + 3 * self.degree  # the images of both factors and of their product

    @property
    def names(self) -> list[str]:
        return [_write_in_cycles(tuple(int(i) for i in image)) for image in self.images]

    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        if operator == "/":
            right, _ = self.power(right, -1)
        elif operator != "*":
            raise missing_operator(self, operator)
        return self._find_numbers(np.take_along_axis(self.images[left], self.images[right], axis=1)), None

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        if exponent < 0:
            base = self._find_numbers(np.argsort(self.images[base], axis=1))
        return repeated_product(self, base, abs(exponent), np.zeros_like(base)), None

    def literal(self, value: int) -> int:
        raise UserError(f"data.formula uses the number {value}; over permutations a number can only be an exponent")

    def representative(self, column: Column) -> Column:
        raise without_integers("permutations")

    def _find_numbers(self, images: NDArray[np.int64]) -> Column:
        return np.searchsorted(self._codes, images @ self._weights).astype(np.int64)


def _write_in_cycles(image: tuple[int, ...]) -> str:
    seen: set[int] = set()
    cycles = []
    for start in range(len(image)):
        cycle = []
        item = start
        while item not in seen:
            seen.add(item)
            cycle.append(item)
            item = image[item]
        if len(cycle) > 1:
            cycles.append("(" + " ".join(map(str, cycle)) + ")")
    return "".join(cycles) or "()"


class PermutationDataModule(TableDataModule):
    """Operations over all permutations of n items, with (x * y)(i) = x(y(i)).

    Args:
        formula: Formula, such as x * y * x**-1.
        degree: n, number of permuted items.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str | list[str] = "x * y", degree: int = 5, **options: Any) -> None:
        self.degree = degree
        super().__init__(formula, **options)

    def algebra(self) -> SymmetricGroup:
        return SymmetricGroup(self.degree)
