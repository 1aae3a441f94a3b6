"""Formulas evaluated row by row with Python's integers, to compare with the package's columns.

A formula is a tree of tuples: ``("x", k)`` operand k, ``("number", n)``, ``("-", a)``, ``(symbol, a, b)`` with a symbol
of ``+ - * / // %``, ``("**", a, n)``, ``("if", condition, a, b)`` and ``("compare", first, (symbol, next), ...)``.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

Tree = tuple[Any, ...]
_BINDS = {"if": 0, "compare": 1, "+": 2, "-": 2, "*": 3, "/": 3, "//": 3, "%": 3, "negative": 4, "**": 5}
_COMPARISONS = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip


UNDEFINED = None  # what a division by zero gives, and all that is computed from it


class Unsupported(Exception):
    """The algebra has no such operation."""


@dataclass(frozen=True)
class Plain:
    """An integer of a condition, which is not an element of the algebra."""

    number: int


class Modulo:
    """The integers 0 to p - 1."""

    def __init__(self, modulus: int) -> None:
        self.modulus = modulus
        self.is_prime = all(modulus % divisor for divisor in range(2, math.isqrt(modulus) + 1))

    @property
    def operands(self) -> Sequence[Any]:
        """The elements that operands run over."""
        return range(self.modulus)

    def literal(self, number: int) -> Any:
        """The element that a number denotes."""
        return number % self.modulus

    def integer(self, element: Any) -> int:
        """What a condition compares."""
        return int(element)

    def combine(self, symbol: str, left: Any, right: Any) -> Any:
        """The result of an operator."""
        if symbol == "/":
            inverse = self.power(right, -1)
            return UNDEFINED if inverse is UNDEFINED else left * inverse % self.modulus
        if symbol not in ("+", "-", "*"):
            raise Unsupported
        return {"+": left + right, "-": left - right, "*": left * right}[symbol] % self.modulus

    def power(self, base: Any, exponent: int) -> Any:
        """A power; a negative one of zero is undefined."""
        if exponent < 0:
            if not self.is_prime:
                raise Unsupported
            if base == 0:
                return UNDEFINED
        return pow(base, exponent, self.modulus)

    def negative(self, element: Any) -> Any:
        """The element to be added to this one for zero."""
        return -element % self.modulus


class Permutations:
    """Permutations of n items as tuples of their images, in lexicographic order."""

    def __init__(self, degree: int) -> None:
        self._all = list(itertools.permutations(range(degree)))

    @property
    def operands(self) -> Sequence[Any]:
        """All permutations."""
        return self._all

    def number(self, element: Any) -> int:
        """The place of an element in the order."""
        return self._all.index(element)

    def literal(self, number: int) -> Any:
        """Numbers denote no permutation."""
        raise Unsupported

    def integer(self, element: Any) -> int:
        """Permutations have no order."""
        raise Unsupported

    def combine(self, symbol: str, left: Any, right: Any) -> Any:
        """The result of an operator; the right factor acts first."""
        if symbol == "/":
            right = self.power(right, -1)
        elif symbol != "*":
            raise Unsupported
        return tuple(left[item] for item in right)

    def power(self, base: Any, exponent: int) -> Any:
        """A power."""
        if exponent < 0:
            base = tuple(base.index(item) for item in range(len(base)))
        result = tuple(range(len(base)))
        for _ in range(abs(exponent)):
            result = self.combine("*", result, base)
        return result

    def negative(self, element: Any) -> Any:
        """Permutations have no minus."""
        raise Unsupported


def evaluate(tree: Tree, row: Sequence[Any], algebra: Modulo | Permutations, condition: bool = False) -> Any:
    """The value of a tree: an element, ``Plain``, or ``UNDEFINED`` if the branch taken divides by zero.

    Raises:
        Unsupported: The algebra has no such operation, be it in a branch that is not taken.
    """
    kind = tree[0]
    if kind == "x":
        return row[tree[1]]
    if kind == "number":
        return Plain(tree[1])
    if kind == "compare":
        values = [evaluate(tree[1], row, algebra, True), *(evaluate(side, row, algebra, True) for _, side in tree[2:])]
        if UNDEFINED in values:
            return UNDEFINED
        truth = True
        for (symbol, _), left, right in zip(tree[2:], values, values[1:], strict=False):
            elements = not isinstance(left, Plain) and not isinstance(right, Plain)
            if not (elements and symbol in ("==", "!=")):
                left, right = _integer(left, algebra), _integer(right, algebra)
            truth &= _COMPARISONS[symbol](left, right)
        return Plain(int(truth))
    if kind == "if":
        test = evaluate(tree[1], row, algebra, True)
        body, other = (_element(evaluate(branch, row, algebra, condition), algebra) for branch in tree[2:])
        truth = _integer(test, algebra)
        return UNDEFINED if truth is UNDEFINED else body if truth else other
    if kind == "**":
        base = _element(evaluate(tree[1], row, algebra, condition), algebra)
        return _where_defined(lambda one: algebra.power(one, tree[2]), base, algebra=algebra)
    if kind == "-" and len(tree) == 2:
        inner = evaluate(tree[1], row, algebra, condition)
        if isinstance(inner, Plain):
            return Plain(-inner.number)
        return _where_defined(algebra.negative, inner, algebra=algebra)
    left, right = (evaluate(side, row, algebra, condition) for side in tree[1:])
    if kind == "%" and condition:
        dividend, divisor = _integer(left, algebra), _integer(right, algebra)
        return UNDEFINED if UNDEFINED in (dividend, divisor) or divisor == 0 else Plain(dividend % divisor)
    return _where_defined(
        partial(algebra.combine, kind), *(_element(side, algebra) for side in (left, right)), algebra=algebra
    )


def _where_defined(compute: Callable[..., Any], *values: Any, algebra: Modulo | Permutations) -> Any:
    """Computes with any element instead of undefined ones, to see whether the algebra can, and forgets the result."""
    anything = algebra.operands[-1]
    result = compute(*(anything if value is UNDEFINED else value for value in values))
    return UNDEFINED if UNDEFINED in values else result


def _integer(value: Any, algebra: Modulo | Permutations) -> int | None:
    if isinstance(value, Plain):
        return value.number
    integer = algebra.integer(algebra.operands[-1] if value is UNDEFINED else value)
    return UNDEFINED if value is UNDEFINED else integer


def _element(value: Any, algebra: Modulo | Permutations) -> Any:
    return algebra.literal(value.number) if isinstance(value, Plain) else value


def table_of(tree: Tree, algebra: Modulo | Permutations, arity: int) -> list[tuple[tuple[int, ...], int]]:
    """All rows on which a tree is defined, with its value, as numbers of elements.

    Raises:
        Unsupported: The algebra has no such operation.
    """
    rows = []
    for row in itertools.product(algebra.operands, repeat=arity):
        value = _element(evaluate(tree, row, algebra), algebra)
        if value is not UNDEFINED:
            rows.append((tuple(_number(item, algebra) for item in row), _number(value, algebra)))
    return rows


def _number(element: Any, algebra: Modulo | Permutations) -> int:
    return algebra.number(element) if isinstance(algebra, Permutations) else int(element)


def write(tree: Tree, names: Sequence[str], space: str = " ", within: int = 0) -> str:
    """A tree as a formula, with the parentheses that it needs.

    Args:
        tree: The tree.
        names: Of the operands.
        space: What stands around operators.
        within: How strongly the place binds in which the text will stand.
    """
    kind = tree[0]
    if kind == "x":
        return names[tree[1]]
    if kind == "number":
        return str(tree[1])
    binds = _BINDS["negative" if kind == "-" and len(tree) == 2 else kind]

    def part(inner: Tree, more: int = 0) -> str:
        return write(inner, names, space, binds + more)

    if kind == "if":
        text = f"{part(tree[2], 1)} if {part(tree[1], 1)} else {part(tree[3])}"
    elif kind == "compare":
        text = part(tree[1], 1) + "".join(f"{space}{symbol}{space}{part(side, 1)}" for symbol, side in tree[2:])
    elif kind == "**":
        text = f"{part(tree[1], 1)}**{tree[2]}"
    elif len(tree) == 2:
        text = f"-{part(tree[1])}"
    else:
        text = f"{part(tree[1])}{space}{kind}{space}{part(tree[2], 1)}"
    return f"({text})" if binds < within else text
