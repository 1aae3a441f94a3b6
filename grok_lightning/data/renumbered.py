"""An algebra whose elements are numbered in random order."""

from collections.abc import Callable
from functools import cached_property, wraps

import numpy as np

from grok_lightning.data.algebra import Algebra, Column, Mask, identify_algebra
from grok_lightning.randomness import derive_keys, permutations

Function = Callable[..., tuple[Column, Mask | None]]


class RenumberedAlgebra(Algebra):
    """An algebra with the numbers of its elements permuted: the same elements, texts and results under other numbers.

    Element n of the algebra has the number ``places_E[n]``. Networks see numbers only, so what has been built into one
    for the usual order does not fit here, while what learns from the rows alone has the same task. Operands are
    permuted among themselves. The permutation is drawn when first needed: an algebra may be too large for a table.

    Args:
        algebra: The algebra.
        seed: Seed of the permutation.
    """

    def __init__(self, algebra: Algebra, seed: int) -> None:
        self._algebra = algebra
        self.seed, self.of = seed, identify_algebra(algebra)
        self.title = f"{algebra.title or f'over {self.of}'}, renumbered"
        self.operators = algebra.operators
        self.constants = {name: int(self.places_E[number]) for name, number in algebra.constants.items()}
        self.functions = {name: self._wrap(function) for name, function in algebra.functions.items()}

    @cached_property
    def places_E(self) -> Column:
        """The number here of each number of the algebra's own."""
        first, count = self.operands.start, len(self.operands)
        places_E = np.arange(self.size)
        places_E[self.operands] = first + permutations(derive_keys([self.seed], "numbering"), count)[0].numpy()
        return places_E

    @cached_property
    def _own_E(self) -> Column:
        return np.argsort(self.places_E)

    @property
    def original(self) -> Algebra:
        """The algebra whose elements are renumbered."""
        return self._algebra

    @property
    def size(self) -> int:
        return self._algebra.size

    @property
    def names(self) -> list[str]:
        own = self._algebra.names
        return [own[number] for number in self._own_E]

    @property
    def operands(self) -> range:
        return self._algebra.operands

    @property
    def columns(self) -> int:
        return self._algebra.columns + 2

    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        return self._renumber(self._algebra.binary(operator, self._own_E[left], self._own_E[right]))

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        return self._renumber(self._algebra.power(self._own_E[base], exponent))

    def literal(self, value: int) -> int:
        return int(self.places_E[self._algebra.literal(value)])

    def representative(self, column: Column) -> Column:
        return self._algebra.representative(self._own_E[column])

    def remainder(self, dividend: Column, divisor: Column) -> Column:
        return self._algebra.remainder(dividend, divisor)

    def _wrap(self, function: Function) -> Function:
        @wraps(function)  # formulas look at its signature
        def renumbered(*columns: Column) -> tuple[Column, Mask | None]:
            return self._renumber(function(*(self._own_E[column] for column in columns)))

        return renumbered

    def _renumber(self, result: tuple[Column, Mask | None]) -> tuple[Column, Mask | None]:
        return self.places_E[result[0]], result[1]
