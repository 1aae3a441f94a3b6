"""Finite algebras: their elements, operators and the text of an element.

An algebra works on whole columns at once: a value is an int64 array of element numbers 0..size-1, and each operator
returns the result together with a mask of the rows on which it is defined.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

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
