"""Formulas mean what Python's integers say, and nothing else gets in."""

import contextlib
import itertools
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import builds, integers, recursive, sampled_from
from hypothesis.strategies import text as any_text

from grok_lightning.data.cyclic import CyclicProduct
from grok_lightning.data.fields import FiniteField
from grok_lightning.data.formula import Formula
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.matrices import Matrices
from grok_lightning.data.operation import Operation
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.data.signed import SignedRemainders
from grok_lightning.errors import UserError

SEVEN = IntegersMod(7)
MOD_P = {
    "x + y": lambda x, y, p: x + y,
    "x - y": lambda x, y, p: x - y,
    "x * y": lambda x, y, p: x * y,
    "x / y": lambda x, y, p: x * pow(y, -1, p) if y else None,
    "x / y if y % 2 else x - y": lambda x, y, p: x * pow(y, -1, p) if y % 2 == 1 else x - y,
    "x + y if x % 2 == 0 else x * y": lambda x, y, p: x + y if x % 2 == 0 else x * y,
    "x + y if x % 2 == 0 else x - y": lambda x, y, p: x + y if x % 2 == 0 else x - y,
    "x**2 + y": lambda x, y, p: x * x + y,
    "x**3 + y": lambda x, y, p: x * x * x + y,
    "x**2 + y**2": lambda x, y, p: x * x + y * y,
    "x**2 + x*y + y**2": lambda x, y, p: x * x + x * y + y * y,
    "x**2 + x*y + y**2 + x": lambda x, y, p: x * x + x * y + y * y + x,
    "x**3 + x*y": lambda x, y, p: x * x * x + x * y,
    "x**3 + x*y**2 + y": lambda x, y, p: x * x * x + x * y * y + y,
}
CONDITIONS = {
    "x / y if x % 2 else x + y": lambda x, y, p: x + y if x % 2 == 0 else x * pow(y, -1, p) if y else None,
    "y / x if y else x": lambda x, y, p: x if y == 0 else y * pow(x, -1, p) if x else None,
    "x if x else y": lambda x, y, p: x if x else y,
    "x if x < y else y": lambda x, y, p: min(x, y),
    "x if 1 < x <= y < 5 else y - x": lambda x, y, p: x if 1 < x <= y < 5 else y - x,
    "x if x != y == 3 else 2": lambda x, y, p: x if x != y and y == 3 else 2,
    "x + y if x - y > 3 else 0 - x": lambda x, y, p: x + y if (x - y) % p > 3 else -x,
    "x + 1 if x % y == 1 else y": lambda x, y, p: None if y == 0 else x + 1 if x % y == 1 else y,
    "x + (1 if y >= 4 else -1)": lambda x, y, p: x + 1 if y >= 4 else x - 1,
    "x if (x if y % 2 else y) > 2 else 1000": lambda x, y, p: x if (x if y % 2 else y) > 2 else 1000,
    "-x**2 * -(y - 9**8)": lambda x, y, p: x * x * (y - 9**8),
}


def by_hand(function, p, arity=2):
    rows = [(operands, function(*operands, p)) for operands in itertools.product(range(p), repeat=arity)]
    return [(operands, value % p) for operands, value in rows if value is not None]


def table(formula, algebra):
    operation = Operation(formula, algebra)
    return [
        (tuple(row), result) for row, result in zip(operation.operands_NK.tolist(), operation.results_N, strict=True)
    ]


def test_published_operations() -> None:
    for formula, function in MOD_P.items():
        for p in (7, 97):
            assert table(formula, IntegersMod(p)) == by_hand(function, p), (formula, p)


EXPRESSIONS = recursive(
    sampled_from(["x", "y"]) | integers(0, 200).map(str),
    lambda inner: (
        builds("({} {} {})".format, inner, sampled_from(["+", "-", "*"]), inner)
        | builds("-({})".format, inner)
        | builds("({})**{}".format, inner, integers(0, 3))
        | builds("({} if {} else {})".format, inner, sampled_from(["x < y", "x == y", "x % 2", "y"]), inner)
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_arithmetic_is_that_of_python_integers(expression) -> None:
    formula = f"0 * x + 0 * y + {expression}"
    assert table(formula, SEVEN) == by_hand(lambda x, y, p: eval(formula, {"x": x, "y": y}), 7)


def test_conditions_and_the_branch_taken() -> None:
    for formula, function in CONDITIONS.items():
        assert table(formula, IntegersMod(7)) == by_hand(function, 7), formula


@pytest.mark.parametrize("arity", [1, 2, 3, 4])
def test_sums_of_many_operands(arity) -> None:
    formula = " + ".join(f"x{k + 1}" for k in range(arity))
    assert table(formula, IntegersMod(7)) == by_hand(lambda *numbers: sum(numbers[:-1]), 7, arity)


@pytest.mark.parametrize("p", [7, 11, 59])
def test_exponents_are_not_reduced(p) -> None:
    integers = IntegersMod(p)
    assert table(f"x**{p}", integers) == table("x", integers)
    assert table(f"x**{p - 1}", integers) == [((x,), int(x != 0)) for x in range(p)]
    assert table(f"x**-{p - 1}", integers) == [((x,), 1) for x in range(1, p)]
    assert table("x**0", integers) == table("x**-0", integers) == [((x,), 1) for x in range(p)]


def test_permutation_operations() -> None:
    group = SymmetricGroup(4)
    images = [tuple(image) for image in group.images.tolist()]
    inverse = [tuple(image.index(i) for i in range(4)) for image in images]
    expected = {
        "x * y": lambda x, y: tuple(images[x][i] for i in images[y]),
        "x * y * x**-1": lambda x, y: tuple(images[x][images[y][i]] for i in inverse[x]),
        "x * y / x": lambda x, y: tuple(images[x][images[y][i]] for i in inverse[x]),
        "x * y * x": lambda x, y: tuple(images[x][images[y][i]] for i in images[x]),
        "x if x == y else y**2": lambda x, y: images[x] if x == y else tuple(images[y][i] for i in images[y]),
    }
    for formula, function in expected.items():
        assert [(row, images[result]) for row, result in table(formula, group)] == [
            ((x, y), function(x, y)) for x, y in itertools.product(range(24), repeat=2)
        ]


NO_FORMULAS = [
    *(
        "f(x)",
        "abs(x) + y",
        "__import__('os')",
        "x.real",
        "().__class__",
        "w + x",
        "x + xx",
        "x0 + x1",
        "x100",
        "3",
    ),
    *("9**9**9", "x**y", "x**2**2", "x**-y", "x**65", "x**-65", "x**1.0", "x**True", "2147483648 + x"),
    *("x + 1.5", "x + 1j", "x + 'a'", "x + b'a'", "f'{x}'", "x + True", "x + None", "x + ...", "'''a\nb''' + x"),
    *("lambda: x", "lambda x: x", "(x := y)", "x[0]", "x[y:]", "[x]", "(x, y)", "{x: y}", "[x for x in y]", "*x"),
    *("x // y", "x % y", "x % 2 + y", "x if x // 2 else y", "x if x < y else y % 2", "x < y", "(x == y) + x"),
    *(
        "x and y",
        "not x",
        "x if x and y else y",
        "x if x in y else y",
        "x if x is y else y",
        "x @ y",
        "x << 1",
        "~x",
    ),
    *("x + x2", "x1 + y", "", "   ", "x +", "x; y", "x = y", "x\ny", "import os", "x\0", "x # y\n+", "\ud800x"),
    *("ｘ + y", "x１ + x2", "x**１２", "x + ٣", "x²", "x" + "9" * 250, "x**" + "9" * 250),
    *("x" * 10_000, "x+" * 4_999 + "x", "(" * 250 + "x" + ")" * 250, "(" * 299 + "x", "[" * 199 + "x" + "]" * 100),
]


def assert_refused(text, algebra=SEVEN) -> None:
    with pytest.raises(UserError, match=r"^data\.formula ") as caught:
        Operation(text, algebra)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_everything_else_is_refused_in_one_line() -> None:
    for text in NO_FORMULAS:
        assert_refused(text)


def test_permutations_have_neither_sums_nor_order() -> None:
    for text in ("x + y", "x * 2", "-x", "x - y", "x if x < y else y", "x if x else y"):
        assert_refused(text, SymmetricGroup(3))


@given(any_text(alphabet="xy012 +-*/%()<=if.,'[]:", max_size=30))
def test_whatever_is_written_is_a_table_or_refused(written) -> None:
    with contextlib.suppress(UserError):
        operation = Operation(written, SEVEN)
        assert len(operation) <= 7**operation.formula.arity
        assert set(operation.results_N.tolist()) <= set(range(7))


def test_python_itself_never_warns_about_a_formula() -> None:
    for text in ("1if x else y", "x + y if x == 0else y", r"x + '\d'"):
        with warnings.catch_warnings(record=True) as caught, contextlib.suppress(UserError):
            warnings.simplefilter("always")
            Operation(text, IntegersMod(7))
        assert [str(warning.message) for warning in caught] == []


def test_deep_formulas_within_the_limit_work() -> None:
    for text in ("-" * 298 + "x", "(" * 60 + "x" + ")" * 60, "x" + "+x-x" * 74):
        assert table(text, IntegersMod(7)) == table("x", IntegersMod(7))


def test_the_operator_that_joins_the_operands() -> None:
    joined = {f"x {symbol} y": symbol for symbol in "+-*/"}
    joined |= {"x1 + x2 + x3": "+", "x*y*z": "*", "  (x) + y ": "+", "x1 - x2": "-"}
    for formula, operator in joined.items():
        assert Formula(formula).operator == operator, formula
    for formula in (
        *("y - x", "x * y * x", "x + y - z", "x + (y + z)", "x**2 + y"),
        *("x + y if x else y", "x + 1", "x1 + x3", "x * y * x**-1"),
    ):
        assert Formula(formula).operator is None, formula


NAMES = [("y", ["x", "y"]), ("x + z", ["x", "y", "z"]), ("x3 * x1", ["x1", "x2", "x3"]), ("x", ["x"]), ("x1", ["x1"])]


def test_operands_run_up_to_the_last_one_named() -> None:
    for text, names in NAMES:
        assert Formula(text).operand_names == names


def test_a_deep_formula_takes_little_more_memory_than_its_table() -> None:
    tracemalloc.start()
    try:
        operation = Operation("(1+" * 49 + "x" + ")" * 49 + "/y", IntegersMod(701))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    x, y = operation.operands_NK.T
    assert len(operation) == 701 * 700
    assert ((operation.results_N * y - x - 49) % 701 == 0).all()
    assert most < 4 * (operation.operands_NK.nbytes + operation.results_N.nbytes)


def test_blocks_of_rows_change_no_table(monkeypatch) -> None:
    cases = [
        ("x / y if y % 2 else x - y", IntegersMod(11)),
        ("x * y * x**-1", SymmetricGroup(3)),
        ("x // y + z", SignedRemainders(3)),
    ]
    whole = [Operation(text, algebra) for text, algebra in cases]
    monkeypatch.setattr("grok_lightning.data.formula.ROWS_AT_ONCE", 5)
    monkeypatch.setattr("grok_lightning.data.operation.ROWS_AT_ONCE", 7)
    for (text, algebra), one in zip(cases, whole, strict=True):
        other = Operation(text, algebra)
        assert np.array_equal(one.operands_NK, other.operands_NK)
        assert np.array_equal(one.results_N, other.results_N)


@pytest.mark.parametrize(
    ("algebra", "condition"),
    [(Matrices(2), "x == 0"), (FiniteField(3, 2), "y != 0"), (CyclicProduct([2, 3]), "y == 0")],
    ids=["matrices", "field", "pairs"],
)
def test_elements_without_an_order_are_compared_with_the_element_that_a_number_denotes(algebra, condition) -> None:
    operation = Operation(f"x + y if {condition} else x", algebra)
    zero, column = algebra.literal(0), 0 if "x" in condition else 1
    is_zero = operation.operands_NK[:, column] == zero
    chosen = ~is_zero if "!=" in condition else is_zero
    sums, _ = algebra.binary("+", *operation.operands_NK.T)
    assert 0 < chosen.sum() < len(chosen)
    assert np.array_equal(operation.results_N, np.where(chosen, sums, operation.operands_NK[:, 0]))
    with pytest.raises(UserError, match="a condition with an order, a remainder or an element alone"):
        Operation("x if y else y + y", algebra)
