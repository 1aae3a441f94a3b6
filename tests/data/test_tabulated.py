"""An algebra of elements and functions is the one that is written out, and its mistakes are found."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from grok_lightning.data.algebra import Algebra, identify_algebra
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.operation import Operation
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.data.tabulated import TabulatedAlgebra
from grok_lightning.errors import UserError


def integers(p: int) -> TabulatedAlgebra:
    return TabulatedAlgebra(
        range(p),
        {"+": lambda x, y: (x + y) % p, "*": lambda x, y: x * y % p},
        f"tabulated mod {p}",
        functions={"larger": lambda x, y: max(x, y)},
    )


@pytest.mark.parametrize(
    "formula", ["x - y", "x * y + x", "x**3 * y", "x**0 + y", "-x + y", "x * y if x == y else x + 1"]
)
def test_integers_by_a_table(formula: str) -> None:
    ours, theirs = Operation(formula, integers(7)), Operation(formula, IntegersMod(7))
    assert np.array_equal(ours.operands_NK, theirs.operands_NK)
    assert np.array_equal(ours.results_N, theirs.results_N)


@pytest.mark.parametrize("formula", ["x / y", "x**-2 * y", "x / y if x == y else y**-1"])
def test_division_is_undefined_where_several_or_no_elements_solve_it(formula: str) -> None:
    ours, theirs = Operation(formula, integers(7)), Operation(formula, IntegersMod(7))
    assert np.array_equal(ours.operands_NK, theirs.operands_NK)
    assert np.array_equal(ours.results_N, theirs.results_N)
    solvable = {y for y in range(6) if len({z * y % 6 for z in range(6)}) == 6}
    assert {int(y) for _, y in Operation("x / y", integers(6)).operands_NK} == solvable


@pytest.mark.parametrize("formula", ["x * y * x**-1", "x / y", "x**5"])
def test_permutations_by_a_table(formula: str) -> None:
    group = SymmetricGroup(4)
    images = [tuple(image) for image in group.images.tolist()]
    ours = TabulatedAlgebra(images, {"*": lambda x, y: tuple(x[i] for i in y)}, "over S4")
    assert np.array_equal(Operation(formula, ours).results_N, Operation(formula, group).results_N)


def test_an_operator_may_be_undefined_somewhere() -> None:
    half = TabulatedAlgebra(range(5), {"*": lambda x, y: x + y if x + y < 5 else None}, "of small sums")
    assert Operation("x * y", half).operands_NK.tolist() == [
        [x, y] for x, y in product(range(5), repeat=2) if x + y < 5
    ]
    assert Operation("x**3", half).operands_NK.tolist() == [[0], [1]]
    assert Operation("x**-1", half).results_N.tolist() == [0]
    assert Operation("x / y", half).results_N.tolist() == [x - y for x, y in product(range(5), repeat=2) if x >= y]


def test_algebras_of_other_tables_have_another_identity() -> None:
    assert identify_algebra(integers(5)) == identify_algebra(integers(5))
    plus = TabulatedAlgebra(range(5), {"+": lambda x, y: (x + y) % 5}, "tabulated mod 5")
    named = TabulatedAlgebra(range(5), {"+": lambda x, y: (x + y) % 5}, "tabulated mod 5", name=lambda x: f"e{x}")
    assert len({identify_algebra(algebra) for algebra in (integers(5), plus, named)}) == 3
    assert named.names == ["e0", "e1", "e2", "e3", "e4"]


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("x % y", r"'%'; the algebra 'tabulated mod 5' has only \+, -, \*, /"),
        ("x + 2", "uses the number 2, which stands for no element"),
        ("larger(x)", "calls larger with 1 arguments"),
        ("larger(x, y, x)", "calls larger with 3 arguments"),
        ("x if x < y else y", "only == and !="),
    ],
)
def test_what_it_has_not_is_refused(formula: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Operation(formula, integers(5))


def test_mistakes_in_it_are_found() -> None:
    for elements, operators, words in (
        (range(3), {"*": lambda x, y: x * y}, "2 [*] 2 is 4, no element"),
        ([0, 0, 1], {}, "an element twice"),
        (range(3), {"x": min}, "the operator 'x'"),
        (["a", " b"], {}, "the name ' b'"),
    ):
        with pytest.raises(ValueError, match=words):
            TabulatedAlgebra(elements, operators, "wrong")
    with pytest.raises(ValueError, match="a name twice"):
        TabulatedAlgebra(range(3), {}, "wrong", name=lambda x: "same")
    with pytest.raises(UserError, match="2049 elements"):
        TabulatedAlgebra(range(2049), {}, "large")
    semigroup = TabulatedAlgebra(range(3), {"*": lambda x, y: x}, "of left factors")
    with pytest.raises(UserError, match="no identity"):
        Operation("x**0", semigroup)


class Quaternions(TableDataModule):
    """The group of eight quaternions, in ten lines.

    Args:
        formula: Formula.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str = "x * y", **options: Any) -> None:
        super().__init__(formula, **options)

    def algebra(self) -> Algebra:
        units = {"1": (1, 0, 0, 0), "i": (0, 1, 0, 0), "j": (0, 0, 1, 0), "k": (0, 0, 0, 1)}
        elements = {
            f"{sign}{name}": tuple(int(f"{sign}1") * n for n in unit) for sign in "+-" for name, unit in units.items()
        }
        names = {value: name for name, value in elements.items()}

        def times(x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
            (a, b, c, d), (e, f, g, h) = x, y
            return (
                a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g,
                a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e,
            )  # fmt: skip

        return TabulatedAlgebra(names, {"*": times}, "over the quaternions", name=names.get)


def test_a_datamodule_of_ten_lines() -> None:
    data = Quaternions("x * y / x", train_fraction=0.5)
    rows = {tuple(data.describe(row)[:2]): data.describe(row)[2] for row in range(64)}
    assert rows["+i", "+j"] == "-j"
    assert rows["+i", "-i"] == "-i"
    assert data.operation.algebra.title == "over the quaternions"
