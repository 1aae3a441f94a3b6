"""Formulas: expressions over named operands, parsed with ``ast`` and walked over an allow-list of nodes.

A formula is never handed to ``eval``. Its names are operands, ``x y z`` or ``x1 x2 x3 ...``, and what its algebra
names: operators, constants and functions.
"""

import ast
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature

import numpy as np

from grok_lightning.data.algebra import (
    OPERATORS,
    Algebra,
    Column,
    Mask,
    has_integers,
    missing_operator,
    name_algebra,
)
from grok_lightning.errors import UserError, show

LONGEST_FORMULA = 300
LARGEST_EXPONENT = 64
LARGEST_LITERAL = 2**31 - 1
LARGEST_OPERAND = 99
ROWS_AT_ONCE = 2**14
LETTERS = ("x", "y", "z")  # that name the first operands
MOST_NAMES = 12  # that an error lists

_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"}
_COMPARE: dict[type[ast.cmpop], Callable[[Column, Column], Mask]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _reject(reason: str, algebra: Algebra | None = None) -> UserError:
    operators = OPERATORS if algebra is None else algebra.operators
    names = [] if algebra is None else [*algebra.constants, *(f"{name}()" for name in algebra.functions)]
    names = [name for name in names if name not in LETTERS]
    named = [f"{', '.join(names[:MOST_NAMES])}{', ...' if len(names) > MOST_NAMES else ''}"] if names else []
    accepted = ", ".join(["operands (x y z or x1 x2 ...)", "integers", " ".join(operators), *named])
    where = "" if algebra is None else f" over {name_algebra(algebra)}"
    return UserError(
        f"data.formula {reason}; accepted{where} are {accepted}, and `a if condition else b` with % and comparisons in "
        "the condition"
    )


@dataclass(frozen=True)
class _Value:
    """A column of a formula under evaluation: ``numbers`` are elements, or plain integers where ``plain``."""

    numbers: Column
    defined: Mask
    plain: bool = False


class Formula:
    """A parsed formula.

    Args:
        text: The formula as typed, such as ``"x / y if y % 2 else x - y"``.
        operands: K, the number of operands, of which the formula may use only some; default: those up to the last one
            that it names.
        algebra: Over what; it decides which constants and functions may be named. Default: there are none.

    Raises:
        UserError: If the text is no formula: an attribute, an unknown name, an exponent that is no small integer,
            anything outside the allow-list; or if it uses more operands than there are.
    """

    def __init__(self, text: str, operands: int | None = None, algebra: Algebra | None = None) -> None:
        self.text, self._root, self._algebra = text, _parse(text, algebra), algebra
        self._constants = {} if algebra is None else algebra.constants
        self._functions = {} if algebra is None else algebra.functions
        self._check(self._root, in_condition=False)
        self._position = _find_operands(self._root)
        names = set(self._position)
        if not names:
            raise self._reject(f"{show(text)} names no operand")
        letters = any(name in LETTERS for name in names)
        if letters and any(name not in LETTERS for name in names):
            raise self._reject(f"{show(text)} mixes x, y, z with numbered operands")
        used = max(self._position.values()) + 1
        count = used if operands is None else operands
        if not 1 <= count <= LARGEST_OPERAND:
            raise UserError(f"data.operands is {count}; it must be an integer from 1 to {LARGEST_OPERAND}")
        if letters and count > 3:
            raise UserError(
                f"data.operands is {count}, but x, y and z in data.formula {show(text)} are only three; "
                f"use x1 ... x{count}"
            )
        if used > count:
            raise UserError(
                f"data.operands is {count}, but data.formula {show(text)} uses {used}; give at least {used}"
            )
        self.operand_names = ["x", "y", "z"][:count] if letters else [f"x{k + 1}" for k in range(count)]

    @property
    def arity(self) -> int:
        """K, the number of operands."""
        return len(self.operand_names)

    @property
    def operator(self) -> str | None:
        """The operator, if the formula is just the operands in order joined by one, as in ``x1 + x2 + x3``."""
        node, joined, found = self._root, list(reversed(self.operand_names)), set()
        for name in joined[:-1]:
            if not (isinstance(node, ast.BinOp) and isinstance(node.right, ast.Name) and node.right.id == name):
                return None
            found.add(_BINARY.get(type(node.op)))
            node = node.left
        return found.pop() if len(found) == 1 and isinstance(node, ast.Name) and node.id == joined[-1] else None

    def evaluate(self, algebra: Algebra, operands_NK: Column) -> tuple[Column, Mask]:
        """Evaluates the formula on every row, block by block: a deep formula has many columns alive at once.

        Args:
            algebra: The algebra of the operands.
            operands_NK: Element numbers, shape (N, K).

        Returns:
            The results, shape (N,), and a mask of the rows on which the branch taken is defined; results of the other
            rows are meaningless.
        """
        results_N = np.empty(len(operands_NK), dtype=np.int64)
        defined_N = np.empty(len(operands_NK), dtype=bool)
        for start in range(0, max(1, len(operands_NK)), ROWS_AT_ONCE):
            block = slice(start, start + ROWS_AT_ONCE)
            value = self._element(self._walk(self._root, algebra, operands_NK[block]), algebra)
            results_N[block], defined_N[block] = value.numbers, value.defined
        return results_N, defined_N

    def _check(self, node: ast.expr, in_condition: bool) -> None:
        """Rejects whatever is outside the allow-list, before any row is computed."""
        if isinstance(node, ast.Name):
            if _operand_position(node.id) is None and node.id not in self._constants:
                raise self._reject(f"names {show(node.id)}, which is no operand")
            return
        if isinstance(node, ast.Constant):
            if type(node.value) is not int:
                raise self._reject(f"has the constant {show(node.value)}")
            if abs(node.value) > LARGEST_LITERAL:
                raise self._reject(f"has an integer above {LARGEST_LITERAL}")
            return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self._functions:
            self._check_call(node, node.func.id)
            for argument in node.args:
                self._check(argument, in_condition)
            return
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            exponent = _exponent(node.right)
            if exponent is None or abs(exponent) > LARGEST_EXPONENT:
                raise self._reject(
                    f"has the exponent `{ast.unparse(node.right)[:40]}`; "
                    f"an exponent is an integer from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT}"
                )
            return self._check(node.left, in_condition)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            self._check(node.left, in_condition)
            return self._check(node.right, in_condition)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._check(node.operand, in_condition)
        if isinstance(node, ast.IfExp):
            self._check(node.test, in_condition=True)
            self._check(node.body, in_condition)
            return self._check(node.orelse, in_condition)
        if isinstance(node, ast.Compare) and in_condition and all(type(op) in _COMPARE for op in node.ops):
            for side in (node.left, *node.comparators):
                self._check(side, in_condition)
            return None
        raise self._reject(f"has `{ast.unparse(node)[:40]}`")

    def _check_call(self, node: ast.Call, name: str) -> None:
        try:
            signature(self._functions[name]).bind(*node.args)
        except TypeError:
            raise self._reject(f"calls {name} with {len(node.args)} arguments") from None
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self._reject(f"has `{ast.unparse(node)[:40]}`")

    def _reject(self, reason: str) -> UserError:
        return _reject(reason, self._algebra)

    def _walk(self, node: ast.expr, algebra: Algebra, operands_NK: Column, in_condition: bool = False) -> _Value:
        everywhere = np.ones(len(operands_NK), dtype=bool)
        match node:
            case ast.Name() if node.id not in self._position:
                number = algebra.constants[node.id]
                return _Value(np.full(len(operands_NK), number, dtype=np.int64), everywhere)
            case ast.Name():
                return _Value(operands_NK[:, self._position[node.id]], everywhere)
            case ast.Constant():
                return _Value(np.full(len(operands_NK), int(str(node.value)), dtype=np.int64), everywhere, plain=True)
            case ast.UnaryOp():
                inner = self._walk(node.operand, algebra, operands_NK, in_condition)
                if inner.plain:
                    return _Value(-inner.numbers, inner.defined, plain=True)
                zero = self._apply("-", inner, inner, algebra)
                return self._apply("-", zero, inner, algebra)
            case ast.BinOp(op=ast.Pow()):
                base = self._element(self._walk(node.left, algebra, operands_NK, in_condition), algebra)
                exponent = _exponent(node.right)
                assert exponent is not None
                if "**" not in algebra.operators:
                    raise missing_operator(algebra, "**")
                numbers, where = algebra.power(base.numbers, exponent)
                return _Value(numbers, base.defined if where is None else base.defined & where)
            case ast.BinOp():
                left = self._walk(node.left, algebra, operands_NK, in_condition)
                right = self._walk(node.right, algebra, operands_NK, in_condition)
                if in_condition and isinstance(node.op, ast.Mod):
                    return self._remainder(left, right, algebra)
                return self._apply(_BINARY[type(node.op)], left, right, algebra)
            case ast.IfExp():
                test = self._walk(node.test, algebra, operands_NK, in_condition=True)
                branches = (self._walk(part, algebra, operands_NK, in_condition) for part in (node.body, node.orelse))
                body, orelse = (self._element(branch, algebra) for branch in branches)
                truth = self._integer(test, algebra) != 0
                defined = test.defined & np.where(truth, body.defined, orelse.defined)
                return _Value(np.where(truth, body.numbers, orelse.numbers), defined)
            case ast.Compare():
                return self._compare(node, algebra, operands_NK)
            case ast.Call(func=ast.Name(id=name)):
                values = [self._walk(part, algebra, operands_NK, in_condition) for part in node.args]
                elements = [self._element(value, algebra) for value in values]
                numbers, where = algebra.functions[name](*(value.numbers for value in elements))
                defined = np.logical_and.reduce([everywhere, *(value.defined for value in elements)])
                return _Value(numbers, defined if where is None else defined & where)
        raise AssertionError(f"unchecked node {node!r}")

    def _apply(self, symbol: str, left: _Value, right: _Value, algebra: Algebra) -> _Value:
        if symbol not in algebra.operators:
            raise missing_operator(algebra, symbol)
        defined = left.defined & right.defined
        numbers, where = algebra.binary(
            symbol, self._element(left, algebra).numbers, self._element(right, algebra).numbers
        )
        return _Value(numbers, defined if where is None else defined & where)

    def _remainder(self, left: _Value, right: _Value, algebra: Algebra) -> _Value:
        """``%`` in a condition: on integers, and the result is one."""
        dividend, divisor = self._integer(left, algebra), self._integer(right, algebra)
        numbers = algebra.remainder(dividend, np.where(divisor == 0, 1, divisor))
        return _Value(numbers, left.defined & right.defined & (divisor != 0), plain=True)

    def _compare(self, node: ast.Compare, algebra: Algebra, operands_NK: Column) -> _Value:
        sides = (node.left, *node.comparators)
        values = [self._walk(side, algebra, operands_NK, in_condition=True) for side in sides]
        truth = np.ones(len(operands_NK), dtype=bool)
        for op, left, right in zip(node.ops, values, values[1:], strict=False):
            equality, plain = isinstance(op, ast.Eq | ast.NotEq), (left.plain, right.plain)
            as_elements = not any(plain) if has_integers(algebra) else not all(plain)
            if equality and as_elements:
                truth &= _COMPARE[type(op)](self._element(left, algebra).numbers, self._element(right, algebra).numbers)
            else:
                truth &= _COMPARE[type(op)](self._integer(left, algebra), self._integer(right, algebra))
        return _Value(truth.astype(np.int64), np.logical_and.reduce([v.defined for v in values]), plain=True)

    @staticmethod
    def _integer(value: _Value, algebra: Algebra) -> Column:
        return value.numbers if value.plain else algebra.representative(value.numbers)

    @staticmethod
    def _element(value: _Value, algebra: Algebra) -> _Value:
        if not value.plain:
            return value
        distinct, inverse = np.unique(value.numbers, return_inverse=True)
        elements = np.array([algebra.literal(int(number)) for number in distinct], dtype=np.int64)
        return _Value(elements[inverse], value.defined)


def count_operands(text: str) -> int:
    """K of a formula over whatever algebra: the place of the last operand that it names, at least 1.

    Raises:
        UserError: If the text cannot be read.
    """
    return max(_find_operands(_parse(text)).values(), default=0) + 1


def _parse(text: str, algebra: Algebra | None = None) -> ast.expr:
    if len(text) > LONGEST_FORMULA:
        raise UserError(f"data.formula has {len(text)} characters; at most {LONGEST_FORMULA} are accepted")
    try:
        text.encode("ascii")  # Python itself would take ｘ for x
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _reject(f"{show(text)} cannot be read as an expression", algebra) from None


def _find_operands(root: ast.expr) -> dict[str, int]:
    """The places of the operands that an expression names."""
    names = {node.id for node in ast.walk(root) if isinstance(node, ast.Name)}
    places = {name: _operand_position(name) for name in names}
    return {name: place for name, place in places.items() if place is not None}


def _operand_position(name: str) -> int | None:
    """The place of an operand, from 0 on; None for another name."""
    if name in LETTERS:
        return "xyz".index(name)
    number = name[1:]
    if name[0] == "x" and number.isascii() and number.isdigit() and not number.startswith("0"):
        if int(number) > LARGEST_OPERAND:
            raise _reject(f"names the operand {name}; the last possible one is x{LARGEST_OPERAND}")
        return int(number) - 1
    return None


def _exponent(node: ast.expr) -> int | None:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    return sign * node.value if isinstance(node, ast.Constant) and type(node.value) is int else None
