"""Formulas as the grammar allows them, and as it does not, with their trees."""

import ast
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from plain_formulas import Tree, write

ALGEBRAS = ("mod 2", "mod 3", "mod 5", "mod 7", "mod 9", "S3")


def trees(arity: int, permutations: bool) -> SearchStrategy[Tree]:
    """Formulas over some operands; now and then with what permutations have not."""
    operands = st.integers(0, arity - 1).map(lambda place: ("x", place))
    numbers = st.integers(0, 12).map(lambda number: ("number", number))
    leaves = st.one_of(operands, operands, numbers) if not permutations else operands
    symbols = "*/" if permutations else "+-*/"
    exponents = st.integers(-6, 6)

    def inside(part: SearchStrategy[Tree]) -> SearchStrategy[Tree]:
        parts = [
            st.tuples(st.sampled_from(symbols), part, part),
            st.tuples(st.just("**"), part, exponents),
            st.tuples(st.just("if"), conditions(part), part, part),
        ]
        return st.one_of(*parts, *([] if permutations else [st.tuples(st.just("-"), part)]))

    def conditions(part: SearchStrategy[Tree]) -> SearchStrategy[Tree]:
        sides = part if permutations else st.one_of(part, st.tuples(st.just("%"), part, st.one_of(part, numbers)))
        comparisons = st.sampled_from(["==", "!="] if permutations else ["==", "!=", "<", "<=", ">", ">="])
        steps = st.lists(st.tuples(comparisons, sides), min_size=1, max_size=3)
        compared = st.builds(lambda first, rest: ("compare", first, *rest), sides, steps)
        return compared if permutations else st.one_of(compared, sides)

    return st.recursive(leaves, inside, max_leaves=10)


@st.composite
def formulas(draw: Any) -> tuple[str, str, Tree | None, int]:
    """A formula as text, the name of its algebra, its tree (None if the text was changed), and how many operands."""
    algebra = draw(st.sampled_from(ALGEBRAS))
    arity = draw(st.integers(1, 3)) if algebra in ("mod 2", "mod 3", "mod 5") else draw(st.integers(1, 2))
    tree = draw(trees(arity, algebra == "S3"))
    names = draw(st.sampled_from([["x", "y", "z"], ["x1", "x2", "x3"]]))
    text = write(tree, names, draw(st.sampled_from([" ", "", "  "])))
    if draw(st.integers(0, 2)):
        return text, algebra, tree, arity
    for _ in range(draw(st.integers(1, 4))):
        place, length = draw(st.integers(0, len(text))), draw(st.integers(0, 6))
        text = text[:place] + draw(_SNIPPETS) + text[place + length :]
    return text, algebra, None, arity


_SNIPPETS = st.one_of(
    st.text(alphabet="xyz0123456789+-*/%()<>=!. \t\n\\'\"[]{}:,;@#~^&|_", max_size=4),
    st.text(max_size=3),
    st.sampled_from([
        *("**", "//", "%", " if x else ", " if ", " else ", "(", ")", "-", "--", "** -1", "x**64", "**-64", "0", "x1",
        "x99", "x100"),
        *("2147483647", "2147483648", "9" * 60, "１", "x²", "ｘ", "∗", "−", "\x00", "\u202e", "(" * 80, "-" * 120,
        "x+" * 60),
        *("x.real", "f(x)", "[x]", "x if x else (", "lambda: x", "not x", " and ", "1e3", "0x10", "1_000", "True",
        "x := 3", "x < y"),
    ]),
)  # fmt: skip


def tree_of(text: str) -> tuple[Tree, int] | None:
    """The tree of a formula's text and its number of operands; None if it is no formula as far as Python knows."""
    try:
        root = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names = {node.id for node in ast.walk(root) if isinstance(node, ast.Name)}
    places = {
        name: "xyz".find(name) if name in ("x", "y", "z") else int(name[1:]) - 1 for name in names if _is_operand(name)
    }
    if names != places.keys() or not names:
        return None
    try:
        return _tree(root, places), max(places.values()) + 1
    except (KeyError, TypeError):
        return None


def _is_operand(name: str) -> bool:
    return name in ("x", "y", "z") or (
        name[0] == "x" and name[1:].isascii() and name[1:].isdigit() and int(name[1:]) > 0
    )


_SYMBOLS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


def _tree(node: ast.expr, places: dict[str, int]) -> Tree:
    match node:
        case ast.Name():
            return "x", places[node.id]
        case ast.Constant():
            return "number", int(node.value)  # type: ignore[arg-type]
        case ast.UnaryOp(op=ast.USub()):
            return "-", _tree(node.operand, places)
        case ast.BinOp(op=ast.Pow()):
            exponent = ast.literal_eval(node.right)
            return "**", _tree(node.left, places), exponent
        case ast.BinOp():
            return _SYMBOLS[type(node.op)], _tree(node.left, places), _tree(node.right, places)
        case ast.IfExp():
            return "if", *(_tree(part, places) for part in (node.test, node.body, node.orelse))
        case ast.Compare():
            sides = zip(node.ops, node.comparators, strict=True)
            return (
                "compare",
                _tree(node.left, places),
                *((_SYMBOLS[type(op)], _tree(side, places)) for op, side in sides),
            )
    raise TypeError(node)
