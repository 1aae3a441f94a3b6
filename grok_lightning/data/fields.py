"""Finite fields of p^k elements."""

from itertools import product
from typing import Any

import numpy as np

from grok_lightning.data.algebra import Algebra, Column, Mask, missing_operator, without_integers
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError


class FiniteField(Algebra):
    """GF(p^k): polynomials in ``a`` of degree below k over the integers modulo p, modulo an irreducible polynomial.

    The irreducible polynomial is the first monic one, by its coefficients from the highest degree down, of which ``a``
    is a primitive element: all elements but 0 are powers of ``a``. Element number n has the digits of n to base p as
    coefficients. A number in a formula is its remainder modulo p, ``a`` is ``a``.

    Args:
        characteristic: p, a prime.
        exponent: k, at least 1.

    Attributes:
        polynomial: Coefficients of the irreducible polynomial, from the constant term up; the last one is 1.
    """

    operators = ("+", "-", "*", "/", "**")
    LARGEST = 2**12

    def __init__(self, characteristic: int, exponent: int) -> None:
        if exponent < 1 or characteristic < 2 or characteristic**exponent > self.LARGEST:
            raise UserError(
                f"data.characteristic is {characteristic} and data.exponent {exponent}; a prime and an integer of at "
                f"least 1 are expected, with at most {self.LARGEST} elements"
            )
        if any(characteristic % divisor == 0 for divisor in range(2, int(characteristic**0.5) + 1)):
            raise UserError(f"data.characteristic is {characteristic}; it must be a prime, such as 2, 3 or 5")
        self.characteristic, self.exponent = characteristic, exponent
        self.title = f"over GF({self.size})"
        self.constants = {"a": characteristic} if exponent > 1 else {}
        self._weights = characteristic ** np.arange(exponent, dtype=np.int64)
        self.polynomial, powers = self._find_primitive_polynomial()
        self._powers = np.array(powers, dtype=np.int64)  # element numbers of a^0, a^1, ...
        self._logarithms = np.zeros(self.size, dtype=np.int64)
        self._logarithms[self._powers] = np.arange(self.size - 1)

    @property
    def size(self) -> int:
        return int(self.characteristic**self.exponent)

    @property
    def names(self) -> list[str]:
        return [_write_polynomial(digits) for digits in self._digits(np.arange(self.size)).tolist()]

    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        if operator in ("+", "-"):
            sign = 1 if operator == "+" else -1
            digits = (self._digits(left) + sign * self._digits(right)) % self.characteristic
            return digits @ self._weights, None
        if operator not in ("*", "/"):
            raise missing_operator(self, operator)
        sign = 1 if operator == "*" else -1
        exponents = self._logarithms[left] + sign * self._logarithms[right]
        numbers = np.where((left == 0) | (right == 0), 0, self._powers[exponents % (self.size - 1)])
        return numbers, None if operator == "*" else right != 0

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        numbers = self._powers[self._logarithms[base] * exponent % (self.size - 1)]
        if exponent > 0:
            return np.where(base == 0, 0, numbers), None
        return numbers, None if exponent == 0 else base != 0

    def literal(self, value: int) -> int:
        return value % self.characteristic

    def representative(self, column: Column) -> Column:
        raise without_integers("finite fields")

    def _digits(self, numbers: Column) -> Column:
        """Coefficients of elements, shape (N, k), from the constant term up."""
        digits: Column = numbers[:, None] // self._weights % self.characteristic
        return digits

    def _find_primitive_polynomial(self) -> tuple[tuple[int, ...], list[int]]:
        """The polynomial, and the element numbers of the powers of ``a``."""
        p, k = self.characteristic, self.exponent
        one = [1] + [0] * (k - 1)
        for descending in product(range(p), repeat=k):
            low = descending[::-1]  # a^k = -(low[0] + low[1] a + ...)
            element, powers = one, [1]
            for _ in range(self.size - 1):  # times a
                carried = [0, *element[:-1]]
                element = [(digit - element[-1] * part) % p for digit, part in zip(carried, low, strict=True)]
                powers.append(sum(digit * p**place for place, digit in enumerate(element)))
                if powers[-1] in (0, 1):
                    break
            if len(powers) == self.size and element == one:  # the first return to 1 is after all others
                return (*low, 1), powers[:-1]
        raise AssertionError("every finite field has a primitive element")


def _write_polynomial(digits: list[int]) -> str:
    terms = []
    for degree, digit in reversed(list(enumerate(digits))):
        if digit:
            variable = {0: "", 1: "a"}.get(degree, f"a{degree}")
            terms.append(variable if digit == 1 and variable else f"{digit}{variable}")
    return "+".join(terms) or "0"


class FiniteFieldDataModule(TableDataModule):
    """Operations over the finite field of p^k elements.

    Args:
        formula: Formula, such as x / y.
        characteristic: p, a prime.
        exponent: k, so that the field has p^k elements.
        options: Those of ``TableDataModule``.
    """

    def __init__(
        self, formula: str | list[str] = "x * y", characteristic: int = 3, exponent: int = 4, **options: Any
    ) -> None:
        self.characteristic, self.exponent = characteristic, exponent
        super().__init__(formula, **options)

    def algebra(self) -> FiniteField:
        return FiniteField(self.characteristic, self.exponent)
