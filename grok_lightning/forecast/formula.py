"""Structure of a formula that decides how soon its rule is found: symmetry, separate operands, a condition."""

import ast
import re
from functools import lru_cache
from typing import NamedTuple

_TWO = 2
_OPERAND = re.compile(r"[xyz]|x[1-9][0-9]*", re.ASCII)


class Structure(NamedTuple):
    """Structure of a formula, each 1.0 for yes and 0.0 for no.

    Attributes:
        commutative: Exchanging its first two operands gives the same formula, up to the order of sums and products.
        separate: Each operand occurs once, as in ``x**2 + y``.
        conditional: It has a condition.
    """

    commutative: float
    separate: float
    conditional: float


@lru_cache(1024)
def structure(formula: str) -> Structure | None:
    """The structure of a formula; None if it has fewer than two operands, or cannot be read.

    Operands are called x, y and z, or x1, x2 and so on; other names are elements or functions. Sums and products count
    as symmetric, whatever the algebra.
    """
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and _OPERAND.fullmatch(node.id)]
    distinct = sorted(set(names), key=lambda name: (len(name), name))
    if len(distinct) < _TWO:
        return None
    swapped = {distinct[0]: distinct[1], distinct[1]: distinct[0]}
    try:
        same = _canonical(tree, {}) == _canonical(tree, swapped)
    except RecursionError:
        return None
    conditional = any(isinstance(node, ast.IfExp) for node in ast.walk(tree))
    return Structure(float(same), float(len(names) == len(distinct)), float(conditional))


def _canonical(node: ast.AST, renamed: dict[str, str]) -> str:
    """A text that is the same for formulas that differ in the order of sums and products only."""
    if isinstance(node, ast.Name):
        return renamed.get(node.id, node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        kind = type(node.op)
        return f"{kind.__name__}({','.join(sorted(_canonical(each, renamed) for each in _terms(node, kind)))})"
    inner = [_canonical(child, renamed) for child in ast.iter_child_nodes(node)]
    own = repr(node.value) if isinstance(node, ast.Constant) else ""
    return f"{type(node).__name__}{own}({','.join(inner)})"


def _terms(node: ast.AST, kind: type[ast.operator]) -> list[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, kind):
        return [*_terms(node.left, kind), *_terms(node.right, kind)]
    return [node]
