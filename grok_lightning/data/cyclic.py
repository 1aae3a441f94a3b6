"""Products of two cyclic groups, which are rings as well."""

from typing import Any

import numpy as np

from grok_lightning.data.algebra import Algebra, Column, Mask, missing_operator, repeated_product, without_integers
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError


class CyclicProduct(Algebra):
    """Pairs (a, b) of an integer modulo n and one modulo m, added, subtracted and multiplied part by part.

    As a group under + it is C_n x C_m, which is cyclic only if n and m have no common divisor. A number in a formula is
    the pair of its remainders.

    Args:
        moduli: n and m, each at least 2.
    """

    operators = ("+", "-", "*", "**")
    LARGEST = 2**10

    def __init__(self, moduli: tuple[int, int]) -> None:
        for modulus in moduli:
            if not 2 <= modulus <= self.LARGEST:
                raise UserError(f"data.moduli is {list(moduli)}; each must be an integer from 2 to {self.LARGEST}")
        self.first, self.second = moduli
        self.title = f"over C{self.first} × C{self.second}"

    @property
    def size(self) -> int:
        return self.first * self.second

    @property
    def names(self) -> list[str]:
        return [f"({a},{b})" for a in range(self.first) for b in range(self.second)]

    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        if operator not in ("+", "-", "*"):
            raise missing_operator(self, operator)
        act = {"+": np.add, "-": np.subtract, "*": np.multiply}[operator]
        (a, b), (c, d) = np.divmod(left, self.second), np.divmod(right, self.second)
        result: Column = act(a, c) % self.first * self.second + act(b, d) % self.second
        return result, None

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        if exponent < 0:
            raise UserError(f"data.formula has the exponent {exponent}; in a product of cyclic groups use at least 0")
        return repeated_product(self, base, exponent, np.full_like(base, self.literal(1))), None

    def literal(self, value: int) -> int:
        return value % self.first * self.second + value % self.second

    def representative(self, column: Column) -> Column:
        raise without_integers("pairs")


class CyclicProductDataModule(TableDataModule):
    """Operations over pairs of integers modulo n and modulo m, part by part: the group C_n x C_m under +.

    Args:
        formula: Formula, such as x + y.
        moduli: n and m, the moduli of the two parts.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str | list[str] = "x + y", moduli: tuple[int, int] = (8, 12), **options: Any) -> None:
        self.moduli = moduli
        super().__init__(formula, **options)

    def algebra(self) -> CyclicProduct:
        return CyclicProduct(self.moduli)
