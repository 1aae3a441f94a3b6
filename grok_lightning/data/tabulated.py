"""An algebra given by its elements and by functions of two of them."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from inspect import signature
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np

from grok_lightning.data.algebra import (
    OPERATORS,
    Algebra,
    Column,
    Mask,
    missing_operator,
    repeated_product,
    without_integers,
)
from grok_lightning.errors import UserError

BINARY = OPERATORS[:-1]
INVERSE_OF = {"-": "+", "/": "*"}
UNDEFINED = -1


class TabulatedAlgebra(Algebra):
    """A finite algebra given by its elements and operators; each operator is called once for every pair.

    Where only ``*`` is given, ``x / y`` is the one z with ``z * y = x``, undefined where there is none or several;
    ``-`` follows from ``+`` alike. Powers are repeated products; ``x**-1`` is what gives the identity.

    Args:
        elements: The elements, at most 2,048: any hashable values, all different.
        operators: Functions by ``+ - * / // %``: of two elements to a third, or None where undefined.
        title: What follows a formula in titles and reports, such as ``over D7``.
        name: Text of an element in prompts and files; default: ``str``. Formulas may name an element whose text is a
            word, such as ``i`` of the quaternions.
        functions: Functions by the name that formulas use, of one element or several.

    Raises:
        ValueError: An element or a name occurs twice, a result is no element, or an operator is none of those above.

    Example:
        >>> clock = TabulatedAlgebra(range(12), {"+": lambda x, y: (x + y) % 12}, title="on a clock")
        >>> clock.binary("-", np.array([3]), np.array([5]))[0].tolist()
        [10]
    """

    LARGEST = 2048

    def __init__(
        self,
        elements: Iterable[Hashable],
        operators: Mapping[str, Callable[[Any, Any], Any]],
        title: str,
        name: Callable[[Any], str] = str,
        functions: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    ) -> None:
        self.elements = list(elements)
        if not 2 <= len(self.elements) <= self.LARGEST:
            raise UserError(
                f"the algebra {title!r} has {len(self.elements)} elements; from 2 to {self.LARGEST} will do"
            )
        self.title = title
        self._names = [name(element) for element in self.elements]
        self._places = {element: place for place, element in enumerate(self.elements)}
        for what, distinct in (("an element", self._places), ("a name", set(self._names))):
            if len(distinct) < len(self.elements):
                raise ValueError(f"the algebra {title!r} has {what} twice")
        unread = next((text for text in self._names if not text or text != text.strip()), None)
        if unread is not None:
            raise ValueError(f"the algebra {title!r} has the name {unread!r}; a space at its end cannot be read back")
        wrong = next((symbol for symbol in operators if symbol not in BINARY), None)
        if wrong is not None:
            raise ValueError(f"the algebra {title!r} has the operator {wrong!r}; expected: {' '.join(BINARY)}")
        self._tables = {symbol: self._tabulate(symbol, act, 2) for symbol, act in operators.items()}
        for symbol, other in INVERSE_OF.items():
            if other in self._tables and symbol not in self._tables:
                self._tables[symbol] = _invert(self._tables[other])
        powers = ["**"] if "*" in self._tables else []
        self.operators = [*sorted(self._tables, key=OPERATORS.index), *powers]
        self.constants = {text: number for number, text in enumerate(self._names) if text.isidentifier()}
        tables = {text: self._tabulate(text, act, len(signature(act).parameters)) for text, act in functions.items()}
        self.functions = {text: _as_called(table, functions[text]) for text, table in tables.items()}
        known = (self._tables | tables).items()
        content = [repr(self._names), *(symbol + table.tobytes().hex() for symbol, table in known)]
        self.fingerprint = hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]

    @property
    def size(self) -> int:
        return len(self.elements)

    @property
    def names(self) -> list[str]:
        return list(self._names)

    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        if operator not in self._tables:
            raise missing_operator(self, operator)
        return _look_up(self._tables[operator], left, right)

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        if "*" not in self._tables:
            raise missing_operator(self, "**")
        if exponent > 0:
            return self._multiply_repeatedly(base, exponent)
        identity = self._find_identity("*", f"the exponent {exponent}")
        if exponent == 0:
            return np.full_like(base, identity), None
        inverse, has_one = self.binary("/", np.full_like(base, identity), base)
        numbers, defined = self._multiply_repeatedly(inverse, -exponent)
        return numbers, defined if has_one is None else has_one if defined is None else defined & has_one

    def literal(self, value: int) -> int:
        if value == 0 and "+" in self._tables:
            return self._find_identity("+", "the number 0")
        if value == 1 and "*" in self._tables:
            return self._find_identity("*", "the number 1")
        raise UserError(
            f"data.formula uses the number {value}, which stands for no element of the algebra {self.title!r}; "
            "0 stands for the identity of + and 1 for that of *, where it has these operators"
        )

    def representative(self, column: Column) -> Column:
        raise without_integers(f"the algebra {self.title!r}", "has")

    def _tabulate(self, symbol: str, act: Callable[..., Any], arity: int) -> Column:
        """The results of an operator or function, one axis for each of its elements."""
        if not arity >= 1 or self.size**arity > self.LARGEST**2:
            raise ValueError(f"the algebra {self.title!r} has {symbol!r} of {arity} elements, too many to tabulate")
        results = []
        for elements in product(self.elements, repeat=arity):
            result = act(*elements)
            if result is not None and result not in self._places:
                shown = ", ".join(map(repr, elements)) if arity != 2 or symbol not in BINARY else ""
                shown = f"{symbol}({shown})" if shown else f"{elements[0]!r} {symbol} {elements[1]!r}"
                raise ValueError(f"{shown} is {result!r}, no element of the algebra {self.title!r}")
            results.append(UNDEFINED if result is None else self._places[result])
        return np.array(results, dtype=np.int64).reshape((self.size,) * arity)

    def _multiply_repeatedly(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        if (self._tables["*"] != UNDEFINED).all():
            return repeated_product(self, base, exponent - 1, base), None
        result, defined = base, np.ones(len(base), dtype=bool)
        for _ in range(exponent - 1):
            result, where = self.binary("*", result, base)
            defined &= True if where is None else where
        return result, defined

    def _find_identity(self, symbol: str, use: str) -> int:
        table, every = self._tables[symbol], np.arange(self.size)
        for number in range(self.size):
            if np.array_equal(table[number], every) and np.array_equal(table[:, number], every):
                return number
        raise UserError(f"data.formula uses {use}; the algebra {self.title!r} has no identity of {symbol!r}")


def _as_called(table: Column, act: Callable[..., Any]) -> Callable[..., tuple[Column, Mask | None]]:
    """A function of columns, with the parameters of that of elements."""
    found = partial(_look_up, table)
    found.__signature__ = signature(act)  # type: ignore[attr-defined]
    return found


def _look_up(table: Column, *columns: Column) -> tuple[Column, Mask | None]:
    numbers = table[columns]
    defined = numbers != UNDEFINED
    return np.where(defined, numbers, 0), None if defined.all() else defined


def _invert(table: Column) -> Column:
    """The table of z with ``z * y = x``, by x and y; undefined where there is none or several."""
    size = len(table)
    inverse, times = np.full((size, size), UNDEFINED, dtype=np.int64), np.zeros((size, size), dtype=np.int64)
    z, y = np.nonzero(table != UNDEFINED)
    np.add.at(times, (table[z, y], y), 1)
    inverse[table[z, y], y] = z
    inverse[times != 1] = UNDEFINED
    return inverse
