"""What a formula may use is told by its algebra: operators, constants and functions, and errors list them."""

import re
from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import pytest

from grok_lightning.data.algebra import OPERATORS, Algebra, Column, Mask
from grok_lightning.data.dihedral import DihedralGroup
from grok_lightning.data.fields import FiniteField
from grok_lightning.data.formula import Formula, count_operands
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.matrices import Matrices
from grok_lightning.data.operation import Operation
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.data.signed import SignedRemainders
from grok_lightning.data.tabulated import TabulatedAlgebra
from grok_lightning.errors import UserError

ALGEBRAS = [IntegersMod(5), SignedRemainders(5), SymmetricGroup(3), DihedralGroup(4), FiniteField(2, 2), Matrices(2)]


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=lambda algebra: algebra.title)
def test_operators_are_those_that_work(algebra: Algebra) -> None:
    for operator in OPERATORS:
        formula = "x**2" if operator == "**" else f"x {operator} y"
        if operator in algebra.operators:
            assert len(Operation(formula, algebra)) > 0
        else:
            with pytest.raises(UserError, match=rf"^data\.formula uses .*{re.escape(algebra.title)}' has only "):
                Operation(formula, algebra)
            with pytest.raises(UserError, match=r"^data\.formula uses .* has only "):
                algebra.binary(operator, np.zeros(1, np.int64), np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("algebra", "formula", "same"),
    [
        (DihedralGroup(5), "x * s0 * y", lambda x, y, names: (x, y)),
        (SymmetricGroup(3), "x * e / y", lambda x, y, names: (x, y)),
    ],
)
def test_constants_are_elements(algebra: Algebra, formula: str, same: Callable[..., object]) -> None:
    number = {"s0": algebra.names.index("s0") if "s0" in algebra.names else 0, "e": 0}
    found = Operation(formula, algebra)
    x, y = found.operands_NK.T
    name = "s0" if "s0" in formula else "e"
    inner, _ = algebra.binary("*", x, np.full_like(x, number[name]))
    expected, _ = algebra.binary("/" if "/" in formula else "*", inner, y)
    assert np.array_equal(found.results_N, expected)


def test_a_field_has_its_generator() -> None:
    field = FiniteField(3, 2)
    x = np.arange(9)
    product, square = field.binary("*", np.full(9, 3), x)[0], field.power(np.full(9, 3), 2)[0]
    assert np.array_equal(Operation("a * x + a**2", field).results_N, field.binary("+", product, square)[0])
    with pytest.raises(UserError, match="names 'a', which is no operand"):
        Operation("a * x", FiniteField(3, 1))


class Clock(IntegersMod):
    """An algebra with a few names of its own."""

    operators = ("+", "clip")
    constants: Mapping[str, int] = {"noon": 0, "x": 3}

    @property
    def functions(self) -> dict[str, Callable[..., tuple[Column, Mask | None]]]:  # type: ignore[override]
        return {"half": self.half, "least": lambda one, other: (np.minimum(one, other), None)}

    def half(self, hours: Column) -> tuple[Column, Mask | None]:
        return hours // 2, hours % 2 == 0


def test_an_own_algebra_names_its_own() -> None:
    clock = Clock(12)
    found = Operation("half(x) + least(y, noon + 2)", clock)
    expected = [((x // 2) + min(y, 2)) % 12 for x, y in product(range(12), repeat=2) if x % 2 == 0]
    assert found.results_N.tolist() == expected
    assert set(found.operands_NK[:, 0].tolist()) == {0, 2, 4, 6, 8, 10}
    assert Operation("x if half(x) == 1 else x + x", clock).results_N.tolist() == [0, 2, 8, 0, 4, 8]
    for formula, words in (
        ("x * y", r"uses '\*'; the algebra 'mod 12' has only \+ and clip"),
        (
            "x + dusk",
            r"names 'dusk'.*over the algebra 'mod 12' are .*integers, \+ clip, noon, half\(\), least",
        ),
        ("double(x)", r"has `double\(x\)`; accepted"),
        ("half(x, y)", "calls half with 2 arguments"),
        ("half(hours=x)", "calls half with 0 arguments|has `half"),
        ("least(*x)", "has|calls"),
        ("noon + noon", "'noon [+] noon' names no operand"),
        ("half + x", "names 'half'"),
        ("(lambda: x)()", "has `"),
        ("x.half()", "has `"),
    ):
        with pytest.raises(UserError, match=f"^data.formula {words}"):
            Operation(formula, clock)


def test_a_tabulated_algebra_takes_functions_and_names() -> None:
    def conjugate(z: complex) -> complex:
        return z.conjugate()

    units: dict[complex, str] = {1: "one", 1j: "i", -1: "minus one", -1j: "j"}
    algebra = TabulatedAlgebra(
        units,
        {"*": lambda x, y: x * y},
        "over the units",
        name=units.__getitem__,
        functions={"conj": conjugate, "first": lambda x, y, z: x if z == 1 else None},
    )
    found = Operation("conj(x) * i * y", algebra)
    values = list(units)
    expected = [x.conjugate() * 1j * y for x, y in product(map(complex, values), repeat=2)]
    assert [complex(values[number]) for number in found.results_N] == expected
    assert len(Operation("first(x, y, z)", algebra)) == 16
    plain = TabulatedAlgebra(units, {"*": lambda x, y: x * y}, "over the units", name=units.__getitem__)
    assert plain.fingerprint != algebra.fingerprint
    with pytest.raises(ValueError, match=r"twice\(1\) is 2, no element"):
        TabulatedAlgebra(range(2), {}, "small", functions={"twice": lambda x: 2 * x})
    with pytest.raises(ValueError, match="too many to tabulate"):
        TabulatedAlgebra(range(100), {}, "large", functions={"four": lambda a, b, c, d: a})


def test_operands_are_counted_over_whatever_algebra() -> None:
    assert [count_operands(text) for text in ("x * s0", "conj(y)", "x1 + x3", "e")] == [1, 2, 3, 1]
    with pytest.raises(UserError, match="cannot be read"):
        count_operands("x +")
    with pytest.raises(UserError, match="names 's0', which is no operand"):
        Formula("x * s0")
