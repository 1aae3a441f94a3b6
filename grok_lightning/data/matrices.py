"""Matrices of 2 x 2 integers modulo p."""

from math import gcd
from typing import Any

import numpy as np

from grok_lightning.data.algebra import Algebra, Column, Mask, missing_operator, repeated_product, without_integers
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError


class Matrices(Algebra):
    """All 2 x 2 matrices of integers modulo p, written ``[a b; c d]``.

    ``x / y`` is ``x * y**-1``, undefined where the determinant of y has no inverse. A number in a formula is that
    multiple of the identity matrix.

    Args:
        modulus: p, from 2 to 31; it need not be prime.
    """

    operators = ("+", "-", "*", "/", "**")
    LARGEST = 31

    def __init__(self, modulus: int) -> None:
        if not 2 <= modulus <= self.LARGEST:
            raise UserError(f"data.modulus is {modulus}; for matrices it must be an integer from 2 to {self.LARGEST}")
        self.modulus = modulus
        self.title = f"over 2×2 matrices mod {modulus}"
        self._weights = modulus ** np.arange(3, -1, -1, dtype=np.int64)
        self._inverses = np.array([pow(n, -1, modulus) if gcd(n, modulus) == 1 else 0 for n in range(modulus)])

    @property
    def size(self) -> int:
        return int(self.modulus**4)

    @property
    def columns(self) -> int:
        return 24  # four entries of each factor and of the product, and what they are computed from

    @property
    def names(self) -> list[str]:
        return [f"[{a} {b}; {c} {d}]" for a, b, c, d in zip(*self._entries(np.arange(self.size)), strict=True)]

    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        defined = None
        if operator == "/":
            right, defined = self.power(right, -1)
        elif operator not in ("+", "-", "*"):
            raise missing_operator(self, operator)
        (a, b, c, d), (e, f, g, h) = self._entries(left), self._entries(right)
        if operator == "+":
            return self._numbers(a + e, b + f, c + g, d + h), None
        if operator == "-":
            return self._numbers(a - e, b - f, c - g, d - h), None
        return self._numbers(a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h), defined

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        defined = None
        if exponent < 0:
            a, b, c, d = self._entries(base)
            inverse = self._inverses[(a * d - b * c) % self.modulus]
            base, defined = self._numbers(d * inverse, -b * inverse, -c * inverse, a * inverse), inverse != 0
        return repeated_product(self, base, abs(exponent), np.full_like(base, self.literal(1))), defined

    def literal(self, value: int) -> int:
        return int(value % self.modulus * (self._weights[0] + self._weights[3]))

    def representative(self, column: Column) -> Column:
        raise without_integers("matrices")

    def _entries(self, numbers: Column) -> Column:
        """The entries a, b, c, d of matrices, shape (4, N)."""
        entries: Column = numbers // self._weights[:, None] % self.modulus
        return entries

    def _numbers(self, *entries: Column) -> Column:
        numbers: Column = self._weights @ (np.stack(entries) % self.modulus)
        return numbers


class MatrixDataModule(TableDataModule):
    """Operations over 2 x 2 matrices of integers modulo p.

    Args:
        formula: Formula, such as x * y - y * x.
        modulus: p; there are p^4 matrices.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str | list[str] = "x * y", modulus: int = 3, **options: Any) -> None:
        self.modulus = modulus
        super().__init__(formula, **options)

    def algebra(self) -> Matrices:
        return Matrices(self.modulus)
