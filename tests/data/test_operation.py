"""Tables of any number of operands, and samples of tables."""

import itertools
import re

import numpy as np
import pytest

from grok_lightning.data import ModularArithmeticDataModule, sampling
from grok_lightning.data.formula import Formula
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.operation import Operation
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.data.signed import SignedRemainders
from grok_lightning.errors import UserError

PARITY = "x1 + x2 + x3"


def total(arity):
    return " + ".join(f"x{k + 1}" for k in range(arity))


def rows_of(operation):
    return list(map(tuple, operation.operands_NK.tolist()))


def is_increasing(rows):
    return all(row < following for row, following in itertools.pairwise(rows))


def test_sums_of_k_operands() -> None:
    for p, arity in ((97, 2), (31, 3), (11, 4), (7, 5)):
        operation = Operation(total(arity), IntegersMod(p))
        assert rows_of(operation) == list(itertools.product(range(p), repeat=arity))
        assert np.array_equal(operation.results_N, operation.operands_NK.sum(axis=1) % p)


def test_samples_are_distinct_ordered_and_right() -> None:
    for modulus, operands, rows in ((97, 3, 5000), (2, 43, 2000), (97, 43, 500), (59, 5, 3000)):
        for rows_seed in (0, 7):
            operation = Operation(PARITY, IntegersMod(modulus), operands, rows, rows_seed)
            sample = rows_of(operation)
            assert operation.operands_NK.shape == (rows, operands)
            assert is_increasing(sample)  # strictly, so no row occurs twice
            assert operation.operands_NK.min() >= 0
            assert operation.operands_NK.max() < modulus
            assert operation.results_N.tolist() == [sum(row[:3]) % modulus for row in sample]


def test_a_sample_is_a_function_of_its_seed() -> None:
    for modulus, operands in ((11, 3), (2, 43), (97, 43)):
        one, again, other = (
            rows_of(Operation(PARITY, IntegersMod(modulus), operands, 300, seed)) for seed in (3, 3, 4)
        )
        assert one == again
        assert len(set(one) & set(other)) < 150


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    for modulus, operands in ((11, 3), (97, 43)):
        small, large = (set(rows_of(Operation(PARITY, IntegersMod(modulus), operands, rows))) for rows in (100, 400))
        assert small < large


def test_all_operands_are_equally_likely() -> None:
    for modulus, operands in ((5, 3), (2, 43), (5, 43)):
        rows = 100 if modulus**operands < 1000 else 5000
        operation = Operation(PARITY, IntegersMod(modulus), operands, rows)
        for column in operation.operands_NK.T:
            counts = np.bincount(column, minlength=modulus)
            # five standard deviations of a binomial count
            assert np.all(np.abs(counts - rows / modulus) < 5 * np.sqrt(rows / modulus))


def test_drawn_columns_are_independent() -> None:
    operands_NK = Operation(PARITY, IntegersMod(2), 43, 4000).operands_NK
    correlations = np.corrcoef(operands_NK.T) - np.eye(43)
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)


def test_a_sample_leaves_out_undefined_rows() -> None:
    enumerated = Operation("x / y", IntegersMod(97), 2, 5000)
    drawn = Operation("x1 / x2", IntegersMod(3), 43, 5000)
    for operation, p in ((enumerated, 97), (drawn, 3)):
        x, y = operation.operands_NK[:, 0], operation.operands_NK[:, 1]
        assert len(operation) == 5000
        assert np.all(y != 0)
        assert np.array_equal(operation.results_N * y % p, x)


def test_a_sample_may_be_one_row_or_the_whole_table() -> None:
    for rows in (1, 9312):
        whole, sample = Operation("x / y", IntegersMod(97)), Operation("x / y", IntegersMod(97), rows=rows)
        assert set(rows_of(sample)) <= set(rows_of(whole))
        assert len(sample) == rows


def test_drawing_finds_every_row_of_a_small_space() -> None:
    formula = Formula("x1 / x2")
    operands_NK, results_N = sampling.draw(formula, IntegersMod(7), 42, 0)
    whole = Operation("x1 / x2", IntegersMod(7))
    assert np.array_equal(operands_NK, whole.operands_NK)
    assert np.array_equal(results_N, whole.results_N)
    with pytest.raises(UserError, match=r"^data\.rows is 43, but .* only 42 different ones"):
        sampling.draw(formula, IntegersMod(7), 43, 0)


def test_samples_of_other_algebras() -> None:
    signed = Operation("x1 - x2", SignedRemainders(97), 20, 500)
    names = np.array([int(name) for name in signed.algebra.names])
    x = names[signed.operands_NK]
    assert x.min() == 1
    assert x.max() == 97
    assert np.array_equal(names[signed.results_N], x[:, 0] - x[:, 1])  # a difference is never reduced
    group = Operation("x1 * x2", SymmetricGroup(5), 9, 500)
    images = group.algebra.images[group.operands_NK]
    product = np.take_along_axis(images[:, 0], images[:, 1], axis=1)
    assert np.array_equal(group.algebra.images[group.results_N], product)


IMPOSSIBLE = [
    ("x + y", 97, {"rows": 9410}, r"^data\.rows is 9,410, but the table has 9,409 rows"),
    ("x / y", 97, {"rows": 9313}, r"^data\.rows is 9,313, but the table has 9,312 rows"),
    ("x / (x - x)", 97, {"rows": 1}, r"^data\.rows is 1, but the table has 0 rows"),
    ("x1 / (x1 - x1)", 97, {"rows": 1, "operands": 43}, r"^data\.rows is 1, but .* only 0 different ones"),
    ("x + y", 97, {"rows": 0}, r"^data\.rows is 0; it must be at least 1"),
    ("x + y", 97, {"rows": -5}, r"^data\.rows is -5; it must be at least 1"),
    ("x + y", 97, {"rows_seed": 1}, r"^data\.rows_seed is 1, but data\.rows is not given"),
    (PARITY, 2, {"rows": 10**9, "operands": 43}, r"^data\.rows is 1,000,000,000, about 380\.0 GiB"),
    (PARITY, 2, {"operands": 43}, r"2\^43 = 8,796,093,022,208 rows, .*set data\.rows"),
    (PARITY, 97, {"operands": 99}, r"97\^99 rows, about 10\^\d+ GiB; .*set data\.rows"),
    ("x1 + x5", 97, {}, r"97\^5 = 8,587,340,257 rows, .*set data\.rows"),
    ("x + y", 2**31 - 1, {"rows": 5}, r"^data\.modulus is 2147483647; .* from 2 to 1048576"),
    ("x + y", 97, {"operands": 1}, r"^data\.operands is 1, but data\.formula 'x \+ y' uses 2"),
    ("x1 + x7", 97, {"operands": 6}, r"^data\.operands is 6, .*uses 7; give at least 7"),
    ("x + z", 97, {"operands": 4}, r"^data\.operands is 4, .*use x1 \.\.\. x4"),
    ("x", 97, {"operands": 0}, r"^data\.operands is 0; .*from 1 to 99"),
    ("x1", 97, {"operands": 100}, r"^data\.operands is 100; .*from 1 to 99"),
]


def test_what_cannot_be_is_refused_in_one_line() -> None:
    for formula, modulus, options, message in IMPOSSIBLE:
        with pytest.raises(UserError, match=message) as caught:
            Operation(formula, IntegersMod(modulus), **options)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


def test_an_algebra_of_ones_own_that_is_too_large_is_refused() -> None:
    class Larger(IntegersMod):
        LARGEST = 2**31 - 1

    with pytest.raises(UserError, match=r"^data\.formula 'x \+ y' is over 2,147,483,647 elements"):
        Operation("x + y", Larger(2**31 - 1), rows=5)


NAMED = [
    *[("x + y", 2, ["x", "y"]), ("x + y", 3, ["x", "y", "z"]), ("y", 2, ["x", "y"]), ("x", 1, ["x"])],
    *[("x1", 3, ["x1", "x2", "x3"]), ("x1 + x2 + x3", 43, [f"x{k}" for k in range(1, 44)])],
]


def test_operands_are_named() -> None:
    for formula, operands, names in NAMED:
        assert Formula(formula, operands).operand_names == names
        assert Formula(formula, operands).arity == operands


def test_unused_operands_do_not_change_answers() -> None:
    operation = Operation("x - y", IntegersMod(7), 3)
    assert rows_of(operation) == list(itertools.product(range(7), repeat=3))
    assert operation.results_N.tolist() == [(x - y) % 7 for x, y, _ in rows_of(operation)]
    assert operation.formula.operator is None  # the operands joined by - would be another formula


def test_mirrors_are_found_or_absent() -> None:
    for formula in ("x + y", "x / y", "x"):
        for rows in (None, 40):
            operation = Operation(formula, IntegersMod(11), 2, rows)
            place = {row: number for number, row in enumerate(rows_of(operation))}
            expected = [place.get((y, x), -1) for x, y in rows_of(operation)]
            assert operation.mirrors_N.tolist() == expected
            assert (-1 in expected) == (rows is not None or formula == "x / y")


COMMUTATIVE = [
    *[("x + y", IntegersMod(11), True), ("x - y", IntegersMod(11), False), ("x / y", IntegersMod(11), False)],
    *[("x * y", SymmetricGroup(4), False), ("x + y", SignedRemainders(11), True)],
    *[("x1 + x2 + x3", IntegersMod(5), False), ("x**2", IntegersMod(5), False)],
]


def test_commutative_is_told_of_samples_too() -> None:
    for formula, algebra, expected in COMMUTATIVE:
        assert Operation(formula, algebra).is_commutative == expected
        if Formula(formula).arity == 2:
            assert Operation(formula, algebra, rows=30).is_commutative == expected


@pytest.mark.parametrize("tokenizer", ["elements", "characters"])
def test_a_formula_without_any_row_is_refused(tokenizer) -> None:
    with pytest.raises(UserError, match=re.escape("data.formula 'x / (y - y)' is defined for no operands")):
        ModularArithmeticDataModule("x / (y - y)", 7, tokenizer=tokenizer)
