"""Signed remainders: integers whose remainder keeps the sign of the dividend."""

from typing import Any

import numpy as np

from grok_lightning.data.algebra import Algebra, Column, Mask, missing_operator, repeated_product
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError


class SignedRemainders(Algebra):
    """The integers -p..p under operators whose results keep the sign of what was divided; operands are 1..p.

    Every operator (``+ - * // % **`` and the sign) computes on the integers and then takes the remainder by p that
    keeps the dividend's sign, so that its results lie in -(p-1)..p-1: ``3 - 5`` is -2, not p - 2. Operands are not
    reduced: p is an element of its own beside 0. With p = 97, ``97 // 3`` is 32, but ``97 + 97`` and ``97 // 1`` are 0.
    ``//`` is floor division, ``%`` the remainder by its right operand with the dividend's sign, in conditions too; both
    are undefined where that operand is 0. A number in a formula stands for itself up to p, beyond for its remainder.

    A public experiment computes on the integers and reduces once, at the end. Its four functions come out the same:

    - ``x + y`` and ``x - y`` have one operator, and are reduced once here too;
    - ``x // y if y % 2 else x - y``: a choice is no operator, so the branch taken is reduced once;
    - ``x**3 + x*y**2 + y``: every part is positive, where reducing early and late agree.

    Where signs are mixed they need not: ``x + y - z`` has the same class mod p either way, but may differ in sign.

    Args:
        modulus: p, at least 2; it need not be prime.
    """

    operators = ("+", "-", "*", "//", "%", "**")
    LARGEST = 2**19 - 1  # 2**20 elements at most, for an operation; a product of two of them fits an int64

    def __init__(self, modulus: int) -> None:
        if not 2 <= modulus <= self.LARGEST:
            raise UserError(f"data.modulus is {modulus}; it must be an integer from 2 to {self.LARGEST}")
        self.modulus = modulus
        self.title = f"mod {modulus}, signed"

    @property
    def size(self) -> int:
        return 2 * self.modulus + 1

    @property
    def names(self) -> list[str]:
        return [str(number) for number in range(-self.modulus, self.modulus + 1)]

    @property
    def operands(self) -> range:
        return range(self.modulus + 1, self.size)

    @property
    def columns(self) -> int:
        return 10

    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        x, y = self.representative(left), self.representative(right)
        if operator == "+":
            return self._element(x + y), None
        if operator == "-":
            return self._element(x - y), None
        if operator == "*":
            return self._element(x * y), None
        if operator not in ("//", "%"):
            raise missing_operator(self, operator)
        defined = y != 0
        safe = np.where(defined, y, 1)
        return self._element(x // safe if operator == "//" else self.remainder(x, safe)), defined

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        if exponent < 0:
            raise UserError(
                f"data.formula has the exponent {exponent}; signed remainders have no inverses: use an exponent of at "
                "least 0, or ModularArithmeticDataModule"
            )
        return repeated_product(self, base, exponent, np.full_like(base, self.literal(1))), None

    def literal(self, value: int) -> int:
        if abs(value) > self.modulus:
            value = int(np.fmod(value, self.modulus))
        return value + self.modulus

    def representative(self, column: Column) -> Column:
        return column - self.modulus

    def remainder(self, dividend: Column, divisor: Column) -> Column:
        return np.fmod(dividend, divisor)

    def _element(self, integers: Column) -> Column:
        """The elements of integers that an operator computed, after taking their remainders."""
        return np.fmod(integers, self.modulus) + self.modulus


class SignedRemaindersDataModule(TableDataModule):
    """Operations over the integers with remainders by p that keep the dividend's sign; operands run over 1..p.

    Every operator's result is reduced, operands are not; ``//`` is floor division, ``%`` works everywhere. See
    ``SignedRemainders``.

    Args:
        formula: Formula, such as x // y if y % 2 else x - y.
        modulus: p, the modulus.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str | list[str] = "x - y", modulus: int = 97, **options: Any) -> None:
        self.modulus = modulus
        super().__init__(formula, **options)

    def algebra(self) -> SignedRemainders:
        return SignedRemainders(self.modulus)
