"""Finite algebras: their elements, operators and the text of an element.

An algebra works on whole columns at once: a value is an int64 array of element numbers 0..size-1, and each operator
returns the result together with a mask of the rows on which it is defined.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from grok_lightning.errors import UserError

Column = NDArray[np.int64]
Mask = NDArray[np.bool_]


OPERATORS = ("+", "-", "*", "/", "//", "%", "**")


class Algebra(ABC):
    """A finite set of elements, numbered 0..size-1, with operators, and what formulas over it may name.

    Attributes:
        title: What follows a formula in titles and reports, such as ``mod 97``; empty: the class and its options.
        operators: The operators that a formula may use outside of conditions.
        constants: Names that stand for an element, with its number. An operand's name, such as ``x``, is none.
        functions: Functions by name, of as many columns as they have parameters; each returns the result and the mask
            of the rows on which it is defined, as ``binary`` does.
    """

    title: str = ""
    operators: Sequence[str] = OPERATORS
    constants: Mapping[str, int] = MappingProxyType({})
    functions: Mapping[str, Callable[..., tuple[Column, Mask | None]]] = MappingProxyType({})

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
        """Applies one of ``operators`` elementwise; the mask (None: everywhere) tells where it is defined.

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


def missing_operator(algebra: Algebra, operator: str) -> UserError:
    """The error for an operator that an algebra has not."""
    instead = "; SignedRemaindersDataModule has it" if operator in ("//", "%") else ""
    if operator == "/" and "//" in algebra.operators:
        instead = "; use // (floor division), or ModularArithmeticDataModule, where / multiplies by the inverse"
    known = join_names(algebra.operators) or "no operator"
    return UserError(f"data.formula uses {operator!r}; {name_algebra(algebra)} has only {known}{instead}")


def name_algebra(algebra: Algebra) -> str:
    """An algebra in an error message."""
    return f"the algebra {(algebra.title or type(algebra).__name__)!r}"


def join_names(names: Sequence[str]) -> str:
    """Names as ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


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


def without_integers(what: str, have: str = "have") -> UserError:
    """The error for a condition that needs integers, of elements that are none."""
    return UserError(
        f"data.formula has a condition with an order, a remainder or an element alone; {what} {have} only == and !="
    )


def has_integers(algebra: Algebra) -> bool:
    """Whether conditions compare integers that stand for the elements."""
    try:
        algebra.representative(np.zeros(1, dtype=np.int64))
    except UserError:
        return False
    return True
