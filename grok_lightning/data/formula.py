"""Formulas: expressions over named operands, parsed with ``ast`` and walked over an allow-list of nodes.

A formula is never handed to ``eval``. Its names are operands: ``x y z`` or ``x1 x2 x3 ...``.
"""

import ast
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grok_lightning.data.algebra import Algebra, Column, Mask
from grok_lightning.errors import UserError, show

LONGEST_FORMULA = 300
LARGEST_EXPONENT = 64
LARGEST_LITERAL = 2**31 - 1
LARGEST_OPERAND = 99
ROWS_AT_ONCE = 2**14

_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"}
_COMPARE: dict[type[ast.cmpop], Callable[[Column, Column], Mask]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _reject(reason: str) -> UserError:
    return UserError(
        f"data.formula {reason}; accepted are operands (x y z or x1 x2 ...), integers, + - * / ** (signed remainders: "
        "// % for /), and `a if condition else b` with % and comparisons in the condition"
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

    Raises:
        UserError: If the text is no formula: a call, an attribute, an unknown name, an exponent that is no small
            integer, anything outside the allow-list; or if it uses more operands than there are.
    """

    def __init__(self, text: str, operands: int | None = None) -> None:
        if len(text) > LONGEST_FORMULA:
            raise UserError(f"data.formula has {len(text)} characters; at most {LONGEST_FORMULA} are accepted")
        try:
            text.encode("ascii")  # Python itself would take ｘ for x
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._root = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise _reject(f"{show(text)} cannot be read as an expression") from None
        self.text = text
        self._check(self._root, in_condition=False)
        names = {node.id for node in ast.walk(self._root) if isinstance(node, ast.Name)}
        self._position = {name: _operand_position(name) for name in names}
        if not names:
            raise _reject(f"{show(text)} names no operand")
        letters = any(name in ("x", "y", "z") for name in names)
        if letters and any(name not in ("x", "y", "z") for name in names):
            raise _reject(f"{show(text)} mixes x, y, z with numbered operands")
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
            return
        if isinstance(node, ast.Constant):
            if type(node.value) is not int:
                raise _reject(f"has the constant {show(node.value)}")
            if abs(node.value) > LARGEST_LITERAL:
                raise _reject(f"has an integer above {LARGEST_LITERAL}")
            return
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            exponent = _exponent(node.right)
            if exponent is None or abs(exponent) > LARGEST_EXPONENT:
                raise _reject(
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
        raise _reject(f"has `{ast.unparse(node)[:40]}`")

    def _walk(self, node: ast.expr, algebra: Algebra, operands_NK: Column, in_condition: bool = False) -> _Value:
        everywhere = np.ones(len(operands_NK), dtype=bool)
        match node:
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
        raise AssertionError(f"unchecked node {node!r}")

    def _apply(self, symbol: str, left: _Value, right: _Value, algebra: Algebra) -> _Value:
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
            if isinstance(op, ast.Eq | ast.NotEq) and not (left.plain or right.plain):
                truth &= _COMPARE[type(op)](left.numbers, right.numbers)
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


def _operand_position(name: str) -> int:
    if name in ("x", "y", "z"):
        return "xyz".index(name)
    number = name[1:]
    if name[0] == "x" and number.isascii() and number.isdigit() and not number.startswith("0"):
        if int(number) > LARGEST_OPERAND:
            raise _reject(f"names the operand {name}; the last possible one is x{LARGEST_OPERAND}")
        return int(number) - 1
    raise _reject(f"names {show(name)}, which is no operand")


def _exponent(node: ast.expr) -> int | None:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    return sign * node.value if isinstance(node, ast.Constant) and type(node.value) is int else None
