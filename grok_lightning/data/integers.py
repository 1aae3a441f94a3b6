"""The integers modulo p."""

from typing import Any

import numpy as np

from grok_lightning.data.algebra import Algebra, Column, Mask, missing_operator, repeated_product
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError


class IntegersMod(Algebra):
    """The integers modulo p: every result is reduced to its representative in 0..p-1.

    Args:
        modulus: p, at least 2. Division and negative powers need p prime; dividing by zero is undefined.
    """

    operators = ("+", "-", "*", "/", "**")
    LARGEST = 2**20  # the most elements of an operation; a product of two of them fits an int64

    def __init__(self, modulus: int) -> None:
        if not 2 <= modulus <= self.LARGEST:
            raise UserError(f"data.modulus is {modulus}; it must be an integer from 2 to {self.LARGEST}")
        self.modulus = modulus
        self.title = f"mod {modulus}"

    @property
    def size(self) -> int:
        return self.modulus

    @property
    def names(self) -> list[str]:
        return [str(number) for number in range(self.modulus)]

    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        if operator == "+":
            return (left + right) % self.modulus, None
        if operator == "-":
            return (left - right) % self.modulus, None
        if operator == "*":
            return (left * right) % self.modulus, None
        if operator == "/":
            inverse, defined = self.power(right, -1)
            return (left * inverse) % self.modulus, defined
        raise missing_operator(self, operator)

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        one = np.ones_like(base)
        if exponent >= 0:
            return repeated_product(self, base, exponent, one), None
        if len(base) > self.modulus:
            numbers, defined = self.power(np.arange(self.modulus), exponent)
            return numbers[base], None if defined is None else defined[base]
        self._require_prime()
        # Fermat: the inverse of b is b ** (p - 2); zero has none.
        inverse = repeated_product(self, base, self.modulus - 2, one)
        return repeated_product(self, inverse, -exponent, one), base != 0

    def literal(self, value: int) -> int:
        return value % self.modulus

    def representative(self, column: Column) -> Column:
        return column

    def _require_prime(self) -> None:
        divisor = next((d for d in range(2, int(self.modulus**0.5) + 1) if self.modulus % d == 0), None)
        if divisor is not None:
            raise UserError(
                f"data.modulus is {self.modulus} = {divisor} * {self.modulus // divisor}; "
                "a formula with division or a negative power needs a prime modulus, such as 97"
            )


class ModularArithmeticDataModule(TableDataModule):
    """Operations over the integers modulo p.

    Args:
        formula: Formula, such as x / y if y % 2 else x - y.
        modulus: p; a prime if the formula divides.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str | list[str] = "x + y", modulus: int = 97, **options: Any) -> None:
        self.modulus = modulus
        super().__init__(formula, **options)

    def algebra(self) -> IntegersMod:
        return IntegersMod(self.modulus)
