"""The group of a formula is found from its table, and only where there is one."""

import numpy as np
import pytest
from known import GROUPS, heisenberg, quaternions

from grok_lightning.data.algebra import Algebra
from grok_lightning.data.alternating import AlternatingGroup
from grok_lightning.data.cyclic import CyclicProduct
from grok_lightning.data.dihedral import DihedralGroup
from grok_lightning.data.fields import FiniteField
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.matrices import Matrices
from grok_lightning.data.operation import Operation
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.data.signed import SignedRemainders
from grok_lightning.groups.law import GroupLaw, find_law, find_own_group


def law_of(formula: str, algebra: Algebra) -> tuple[GroupLaw | None, Operation]:
    operation = Operation(formula, algebra)
    return find_law(operation), operation


def check_law(law: GroupLaw, operation: Operation) -> None:
    """There are f, g and H with H(f(x) g(y)) = T(x, y): read off, and put together again for all rows that are kept."""
    size = operation.algebra.size
    kept = law.kept_N
    x_N, y_N = operation.operands_NK[kept].T
    products_N, results_N = law.products_N[kept], operation.results_N[kept]
    assert set(products_N) == set(range(len(law.group)))
    table = np.full((size, size), -1)
    table[x_N, y_N] = products_N
    xs, ys = np.unique(x_N), np.unique(y_N)
    assert len(xs) * len(ys) == len(products_N)  # a rectangle, nothing missing in it
    part = table[np.ix_(xs, ys)]
    group = law.group.table_GG
    back = law.group.inverses_G[part[0, 0]]
    straight, turned = group[group[part[:, :1], back], part[:1]], group[group[part[:1], back], part[:, :1]]
    assert np.array_equal(straight, part) or np.array_equal(turned, part)
    of_x, of_y = law.operands_G
    for numbers, own in ((of_x, xs), (of_y, ys)):
        assert numbers is None or set(numbers) == set(own)
    if of_x is not None and of_y is not None:
        products = table[np.ix_(of_x, of_y)]
        assert np.array_equal(products, group) or np.array_equal(products, group.T)
    answers = {}
    for product, answer in zip(products_N.tolist(), results_N.tolist(), strict=True):
        assert answers.setdefault(product, answer) == answer
    if law.answer_G is not None:
        assert law.answer_G.tolist() == [answers[product] for product in range(len(law.group))]
    else:
        assert len(set(answers.values())) < len(answers)
    assert not np.isin(operation.results_N[~kept], results_N).any()
    if law.operand_G is not None:  # T(operand g, y0) is g times a constant
        assert len(set(law.operand_G.tolist())) == len(law.group)


@pytest.mark.parametrize(
    ("formula", "modulus", "order", "left_out"),
    [
        ("x + y", 97, 97, set()), ("x - y", 12, 12, set()), ("y - x", 5, 5, set()), ("x + y", 2, 2, set()),
        ("x + y", 3, 3, set()), ("x * y", 97, 96, {0}), ("x / y", 97, 96, {0}), ("y / x", 11, 10, {0}),
        ("x * y", 3, 2, {0}), ("x * y", 27, 18, set(range(0, 27, 3))), ("x * y", 10, 4, {0, 2, 4, 5, 6, 8}),
        ("x + 2*y", 97, 97, set()), ("3*x - 5*y + 4", 11, 11, set()), ("x*y + x + y", 97, 96, {96}),
        ("(x + 3) * (2*y - 1)", 13, 12, None), ("x * y + 1", 13, 12, {0}), ("2 * x * y", 13, 12, {0}),
        ("x**3 * y", 11, 10, {0}), ("x**2 * y", 13, 12, {0}), ("x**2 * y**2", 13, 6, {0}),
        ("x**2 + y**2", 13, 13, set()), ("x*y**2 + x", 13, 12, None),
        ("x**2 + y", 12, 12, set()), ("x + y**3", 11, 11, set()), ("(x + y)**2", 97, 97, set()),
        ("x**2 + 2*x*y + y**2", 11, 11, set()), ("(x + y**2)**3", 7, 7, set()), ("(x**2 - y)**2", 7, 7, set()),
        ("1 if x == y else 0", 7, 7, set()), ("2*x + 2*y", 10, 5, set()),
        ("x + y if x % 2 else x + y + 2", 10, 10, set()),
    ],
)  # fmt: skip
def test_formulas_mod_p_that_are_products_in_a_cyclic_group(formula, modulus, order, left_out) -> None:
    law, operation = law_of(formula, IntegersMod(modulus))
    assert law is not None
    assert law.is_cyclic
    assert len(law.group) == order
    check_law(law, operation)
    if left_out is not None:
        gone = operation.operands_NK[~law.kept_N]
        assert set(gone[(gone[:, 0] == gone[:, 1]), 0].tolist()) <= left_out
        assert all(left_out & set(row) for row in gone.tolist())


@pytest.mark.parametrize(
    ("formula", "modulus"),
    [
        ("x**2 + x*y + y**2", 97), ("x**3 + x*y**2 + y", 97), ("x / y if y % 2 else x - y", 97), ("x*y**2 + y", 13),
        ("x * y", 8), ("x * y", 15), ("x * y", 12), ("x + y if x < 60 else x * y * y", 97), ("x", 7), ("x + y + z", 5),
        ("x*y + x**2*y**2", 13), ("x - y if x > y else y - x", 11),
    ],
)  # fmt: skip
def test_formulas_mod_p_that_are_none(formula, modulus) -> None:
    law, _ = law_of(formula, IntegersMod(modulus))
    assert law is None or not law.is_cyclic


def test_multiplication_is_seen_in_the_logarithm_to_the_smallest_primitive_root() -> None:
    for modulus, root in ((97, 5), (113, 3), (41, 6), (9, 2), (18, 5)):
        law, operation = law_of("x * y", IntegersMod(modulus))
        assert law is not None
        expected = [pow(root, k, modulus) for k in range(len(law.group))]
        assert law.operand_G.tolist() == law.answer_G.tolist() == expected
        kept = law.kept_N
        logarithm = {number: k for k, number in enumerate(expected)}
        x, y = operation.operands_NK[kept].T.tolist()
        sums = [(logarithm[a] + logarithm[b]) % len(expected) for a, b in zip(x, y, strict=True)]
        assert law.products_N[kept].tolist() == sums


def test_addition_keeps_its_numbers() -> None:
    law, operation = law_of("x - y", IntegersMod(97))
    assert law is not None
    assert law.operand_G.tolist() == law.answer_G.tolist() == list(range(97))
    assert np.array_equal(law.products_N, operation.results_N)
    assert law.algebra is operation.algebra


def test_one_answer_that_is_wrong_and_a_sample_have_no_group() -> None:
    operation = Operation("x + y", IntegersMod(11))
    for place in (0, 17, 120):
        changed = Operation("x + y", IntegersMod(11))
        changed.results_N[place] = (changed.results_N[place] + 1) % 11
        assert find_law(changed) is None
    assert find_law(Operation("x + y", IntegersMod(11), rows=120)) is None
    assert find_law(operation) is find_law(operation) is not None


@pytest.mark.parametrize("name", [name for name in GROUPS if name != "A2"])
def test_the_product_of_a_group_is_its_own(name) -> None:
    algebra, operator, _ = GROUPS[name]
    law, operation = law_of(f"x {operator} y", algebra)
    assert law is not None
    check_law(law, operation)
    assert len(law.group) == algebra.size
    assert law.kept_N.all()


@pytest.mark.parametrize("formula", ["x / y", "x**-1 * y", "y * x", "x * s0 * y", "r1 * x * s1 / y", "x**2 * y"])
def test_other_products_in_a_group(formula) -> None:
    law, operation = law_of(formula, DihedralGroup(5))
    assert law is not None
    check_law(law, operation)
    assert law.algebra is operation.algebra
    assert law.operand_G is not None


@pytest.mark.parametrize("formula", ["x * y * x**-1", "x * y * x", "x * y * x**-1 * y**-1"])
def test_what_is_no_product_in_its_group(formula) -> None:
    law, operation = law_of(formula, SymmetricGroup(4))
    assert law is None
    own = find_own_group(operation)
    assert own is not None
    assert np.array_equal(own.products_N, operation.results_N)


def test_other_algebras() -> None:
    for formula, algebra, order, cyclic in (
        ("x * y", FiniteField(3, 2), 8, True),
        ("x / y", FiniteField(2, 4), 15, True),
        ("x + y", FiniteField(3, 2), 9, False),
        ("x * y", Matrices(2), 6, False),
        ("x + y", CyclicProduct((3, 4)), 12, True),
        ("x + y", CyclicProduct((2, 4)), 8, False),
        ("x * y", AlternatingGroup(3), 3, True),
        ("x * y", quaternions(), 8, False),
        ("x / y", heisenberg(2), 8, False),
    ):
        law, operation = law_of(formula, algebra)
        assert law is not None, formula
        assert (len(law.group), law.is_cyclic) == (order, cyclic), formula
        check_law(law, operation)
    assert law_of("x - y", SignedRemainders(7))[0] is None
    assert find_own_group(Operation("x*x + x*y", IntegersMod(7))) is None


def test_each_operand_has_the_numbers_that_stand_for_elements() -> None:
    law, _ = law_of("x + 2 * y", IntegersMod(11))
    assert law is not None
    of_x, of_y = law.operands_G
    assert of_x is not None
    assert of_y is not None
    assert np.array_equal((2 * of_y - of_x) % 11, np.full(11, (2 * of_y[0] - of_x[0]) % 11))
    law, _ = law_of("x**2 + y", IntegersMod(11))
    assert law is not None
    assert law.operands_G[0] is None
    assert law.operands_G[1] is not None


def test_no_group_of_its_own_is_found_of_a_sample() -> None:
    algebra = SymmetricGroup(4)
    assert find_own_group(Operation("x * y", algebra)) is not None
    assert find_own_group(Operation("x * y", algebra, rows=570)) is None
