"""Finite algebras: their elements, operators and the text of an element.

An algebra works on whole columns at once: a value is an int64 array of element numbers 0..size-1, and each operator
returns the result together with a mask of the rows on which it is defined.
"""

from abc import ABC, abstractmethod
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from grok_lightning.errors import UserError

Column = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Algebra(ABC):
    """A finite set of elements, numbered 0..size-1, with operators.

    Attributes:
        title: What follows a formula in titles and reports, such as ``mod 97``; empty: the class and its options.
    """

    title: str = ""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of elements."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Text of each element, in the order of their numbers."""

    @property
    def operands(self) -> range:
        """The numbers of the elements that operands run over; by default all."""
        return range(self.size)

    @property
    def columns(self) -> int:
        """About how many int64 columns are alive at once while a formula is evaluated."""
        return 8

    @abstractmethod
    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        """Applies ``+ - * / // %`` elementwise; the mask (None: everywhere) tells where it is defined.

        Raises:
            UserError: If the algebra has no such operator.
        """

    @abstractmethod
    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        """``base ** exponent`` for an integer exponent that is never reduced."""

    @abstractmethod
    def literal(self, value: int) -> int:
        """The element denoted by an integer in a formula."""

    @abstractmethod
    def representative(self, column: Column) -> Column:
        """The integers that conditions compare; raises UserError where elements have no order."""

    def remainder(self, dividend: Column, divisor: Column) -> Column:
        """``%`` in a condition, on integers; no divisor is 0."""
        return dividend % divisor


def identify_algebra(algebra: Algebra) -> str:
    """The class of an algebra with those of its attributes that are numbers or text, ``IntegersMod(modulus=97)``."""
    options = {name: value for name, value in vars(algebra).items() if isinstance(value, int | float | str)}
    own = ", ".join(f"{name}={value!r}" for name, value in sorted(options.items()) if name != "title")
    return f"{type(algebra).__qualname__}({own})"


def repeated_product(algebra: Algebra, base: Column, exponent: int, one: Column) -> Column:
    """``base ** exponent`` for exponent >= 0 by squaring, with the algebra's own ``*``."""
    result = one
    while exponent:
        if exponent & 1:
            result, _ = algebra.binary("*", result, base)
        base, _ = algebra.binary("*", base, base)
        exponent >>= 1
    return result


class IntegersMod(Algebra):
    """The integers modulo p: every result is reduced to its representative in 0..p-1.

    Args:
        modulus: p, at least 2. Division and negative powers need p prime; dividing by zero is undefined.
    """

    LARGEST = 2**31 - 1  # so that a product of two elements fits an int64

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
        where = " outside a condition" if operator == "%" else ""
        raise UserError(
            f"data.formula uses {operator!r}{where}, which only SignedRemaindersDataModule has; use + - * / or **"
        )

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


class SymmetricGroup(Algebra):
    """All permutations of n items, in lexicographic order of their images.

    A product acts with its right factor first: (x * y)(i) = x(y(i)). The original paper's code composes the other way
    round (its c[i] = y[x[i]] is our y * x). Elements are written in cycles, ``(0 1 2)(3 4)``; the identity is ``()``.

    Args:
        degree: n, from 2 to 8.
    """

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
            hint = " (// and % belong to SignedRemaindersDataModule)" if operator in ("//", "%") else ""
            raise UserError(f"data.formula uses {operator!r}; permutations have only *, / and **{hint}")
        return self._find_numbers(np.take_along_axis(self.images[left], self.images[right], axis=1)), None

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        if exponent < 0:
            base = self._find_numbers(np.argsort(self.images[base], axis=1))
        return repeated_product(self, base, abs(exponent), np.zeros_like(base)), None

    def literal(self, value: int) -> int:
        raise UserError(f"data.formula uses the number {value}; over permutations a number can only be an exponent")

    def representative(self, column: Column) -> Column:
        raise UserError("data.formula has a condition with an order or a remainder; permutations have only == and !=")

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
