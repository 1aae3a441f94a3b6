"""Splits have exactly the sizes, and mirrored pairs exactly the places, that were asked for."""

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, just, sampled_from

from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.operation import Operation
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.data.split import count_split_rows, split_table
from grok_lightning.errors import UserError

ADDITION = Operation("x + y", IntegersMod(97))
DIVISION = Operation("x / y", IntegersMod(97))
SMALL = Operation("x + y", IntegersMod(11))
any_operation = sampled_from([ADDITION, DIVISION, SMALL])
any_share = just(None) | floats(0.05, 0.95)  # of the rows that training leaves


def parts(split):
    return {"train": split.train, "val": split.val, "test": split.test}


def of_the_rest(alpha, share):
    """A share of the rows that training leaves as a fraction of all rows; a row of half the smallest table at least."""
    return None if share is None else max(share * (1 - alpha), 1 / 60)


def share_with_mirror_in_val(operation, split):
    pairs = [tuple(pair) for pair in operation.operands_NK.tolist()]
    in_val = {pairs[row] for row in split.val}
    return sum(pairs[row][::-1] in in_val for row in split.train) / len(split.train)


PUBLISHED_COUNTS = [(9409, (6586, 1411, 1412)), (9312, (6518, 1396, 1398)), (12769, (8938, 1915, 1916))]


def test_published_counts() -> None:
    for rows, expected in PUBLISHED_COUNTS:
        assert count_split_rows(rows, 0.7, 0.15) == expected


PUBLISHED = {
    97**2: [
        *[(f"x {operator} y", 97) for operator in "+-*"],
        *[("x / y if y % 2 else x - y", 97), ("x + y if x % 2 == 0 else x * y", 97)],
        *[("x + y if x % 2 == 0 else x - y", 97), ("x**2 + y", 97), ("x**3 + y", 97), ("x**2 + y**2", 97)],
        *[("x**2 + x*y + y**2", 97), ("x**2 + x*y + y**2 + x", 97), ("x**3 + x*y", 97), ("x**3 + x*y**2 + y", 97)],
    ],
    97 * 96: [("x / y", 97)],
    113**2: [("x + y", 113), ("x - y", 113)],
    23**3: [("x1 + x2 + x3", 23)],
    7**4: [("x1 + x2 + x3 + x4", 7)],
}


def test_published_row_counts() -> None:
    for rows, tables in PUBLISHED.items():
        for formula, modulus in tables:
            assert len(Operation(formula, IntegersMod(modulus))) == rows, formula
    for formula in ("x * y", "x * y * x**-1", "x * y * x"):
        assert len(Operation(formula, SymmetricGroup(5))) == 14_400, formula


@given(
    operation=any_operation,
    seed=integers(0, 1000),
    alpha=floats(0.02, 0.98),
    share=any_share,
    pairing=sampled_from(["free", "together"]),
)
def test_parts_are_disjoint_and_complete(operation, seed, alpha, share, pairing) -> None:
    val_fraction = of_the_rest(alpha, share)
    counts = count_split_rows(len(operation), alpha, val_fraction)
    split = split_table(operation, seed, alpha, val_fraction, pairing=pairing)
    assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(len(operation)))
    assert tuple(len(part) for part in parts(split).values()) == counts


@pytest.mark.parametrize("options", [{}, {"pairing": "together"}, {"pairing": "half"}, {"commutative_fraction": 0.5}])
def test_a_split_is_a_function_of_its_seed(options) -> None:
    one, again, other = (split_table(SMALL, seed, 0.5, **options) for seed in (3, 3, 4))
    assert np.array_equal(one.train, again.train)
    assert np.array_equal(one.val, again.val)
    assert set(one.train.tolist()) != set(other.train.tolist())


@given(operation=any_operation, seed=integers(0, 1000), alpha=floats(0.1, 0.9), share=any_share)
def test_together_keeps_mirrored_pairs_in_one_part(operation, seed, alpha, share) -> None:
    split = split_table(operation, seed, alpha, of_the_rest(alpha, share), pairing="together")
    part_of = {tuple(operation.operands_NK[row]): name for name, part in parts(split).items() for row in part}
    assert all(part_of.get((y, x), name) == name for (x, y), name in part_of.items())
    assert split.commutative_fraction == share_with_mirror_in_val(operation, split) == 0


@given(operation=any_operation, alpha=floats(0.1, 0.9), share=any_share)
def test_half_keeps_only_one_of_each_pair(operation, alpha, share) -> None:
    val_fraction = of_the_rest(alpha, share)
    split = split_table(operation, 1, alpha, val_fraction, pairing="half")
    rows = np.concatenate([split.train, split.val, split.test])
    wanted = np.flatnonzero(operation.operands_NK[:, 0] >= operation.operands_NK[:, 1])
    assert sorted(rows) == wanted.tolist()
    assert (len(split.train), len(split.val), len(split.test)) == count_split_rows(len(wanted), alpha, val_fraction)


@given(alpha=floats(0.3, 0.7), wanted=floats(0, 0.4))
def test_the_commutative_fraction_is_reached_exactly(alpha, wanted) -> None:
    split = split_table(ADDITION, 5, alpha, commutative_fraction=wanted)
    assert split.commutative_fraction == share_with_mirror_in_val(ADDITION, split)
    assert split.commutative_fraction == int(Fraction(str(wanted)) * len(split.train)) / len(split.train)


@given(operation=any_operation, alpha=floats(0.5, 0.75), share=any_share)
def test_the_largest_commutative_fraction_is_stated_and_works(operation, alpha, share) -> None:
    val_fraction = of_the_rest(alpha, share)
    with pytest.raises(UserError, match=r"^data\.commutative_fraction is 1\.0; .*at most [\d.]+$") as caught:
        split_table(operation, 0, alpha, val_fraction, commutative_fraction=1.0)
    most = float(re.search(r"[\d.]+$", str(caught.value)).group())
    split = split_table(operation, 0, alpha, val_fraction, commutative_fraction=most)
    assert most - 1 / len(split.train) < split.commutative_fraction <= most
    with pytest.raises(UserError, match="at most"):
        split_table(operation, 0, alpha, val_fraction, commutative_fraction=most + 1 / len(split.train) + 1e-4)


@given(alpha=floats(0.15, 0.85))
def test_a_free_split_parts_mirrors_by_chance(alpha) -> None:
    split = split_table(ADDITION, 2, alpha)
    assert split.commutative_fraction == share_with_mirror_in_val(ADDITION, split)
    assert split.commutative_fraction == pytest.approx(1 - alpha, abs=0.03)


def test_only_two_operands_have_mirrors() -> None:
    three = Operation("x1 + x2 + x3", IntegersMod(5))
    assert split_table(three, 0, 0.5).commutative_fraction is None
    for options in ({"pairing": "together"}, {"pairing": "half"}, {"commutative_fraction": 0.5}):
        with pytest.raises(UserError, match=rf"^data\.{next(iter(options))} is .*two operands"):
            split_table(three, 0, 0.5, **options)


def test_fractions_out_of_range_or_too_small_are_refused() -> None:
    for value in (0, 1, 1.0, 1.2, -0.1, float("nan"), float("inf"), 1e-6):
        with pytest.raises(UserError, match=r"^data\.train_fraction is "):
            split_table(SMALL, 0, value)
        with pytest.raises(UserError, match=r"^data\.val_fraction is "):
            split_table(SMALL, 0, 0.5, value)


def test_fractions_over_one_are_refused_and_exact_sums_are_not() -> None:
    with pytest.raises(UserError, match=r"^data\.val_fraction is 0\.31; .*at most 0\.3$"):
        split_table(SMALL, 0, 0.7, 0.31)
    assert count_split_rows(9409, 0.7, 0.3) == (6586, 2823, 0)
    assert count_split_rows(10, 0.1, 0.9) == (1, 9, 0)


def test_a_commutative_fraction_out_of_range_is_refused() -> None:
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match=r"^data\.commutative_fraction is .*between 0 and 1$"):
            split_table(SMALL, 0, 0.5, commutative_fraction=value)


@pytest.mark.parametrize("pairing", ["together", "half"])
def test_a_commutative_fraction_needs_a_free_pairing(pairing) -> None:
    with pytest.raises(UserError, match=rf"^data\.commutative_fraction is 0\.5 with data\.pairing {pairing}"):
        split_table(SMALL, 0, 0.5, pairing=pairing, commutative_fraction=0.5)


def test_a_table_too_large_for_memory_names_its_size() -> None:
    with pytest.raises(UserError, match=r"97\^5 = 8,587,340,257 rows, about [\d.,]+ GiB"):
        Operation("x1 + x2 + x3 + x4 + x5", IntegersMod(97))


def test_training_rows_may_be_counted() -> None:
    assert count_split_rows(121, 0.5, None, 1) == (1, 120, 0)
    assert count_split_rows(121, 0.5, None, 120) == (120, 1, 0)
    assert count_split_rows(100, 0.5, 0.29, 50) == (50, 29, 21)
    assert count_split_rows(100, 0.5, 0.29, 71) == (71, 29, 0)
    assert count_split_rows(121, 0.5, 0.5, 1) == (1, 60, 60)


@pytest.mark.parametrize(
    "options", [{}, {"val_fraction": 0.2}, {"pairing": "together"}, {"pairing": "half"}, {"commutative_fraction": 0.3}]
)
def test_a_count_deals_as_the_fraction_that_gives_it(options) -> None:
    fraction = split_table(SMALL, 3, 0.5, **options)
    count = split_table(SMALL, 3, 0.9, **options, train_rows=len(fraction.train))
    assert all(np.array_equal(part, parts(count)[name]) for name, part in parts(fraction).items())
    assert count.commutative_fraction == fraction.commutative_fraction


def test_counts_out_of_range_are_refused() -> None:
    for train_rows, val_fraction, most in ((0, None, 120), (-3, None, 120), (121, None, 120), (90, 0.3, 85)):
        with pytest.raises(UserError, match=rf"^data\.train_rows is {train_rows}; .*121 rows.* 1 to {most}$"):
            split_table(SMALL, 0, 0.5, val_fraction, train_rows=train_rows)
        assert len(split_table(SMALL, 0, 0.5, val_fraction, train_rows=most).train) == most


def test_a_count_leaves_validation_its_rows() -> None:
    with pytest.raises(UserError, match=r"^data\.val_fraction is 0\.001, which leaves that split empty"):
        split_table(SMALL, 0, 0.5, 0.001, train_rows=50)
    with pytest.raises(UserError, match=r"^data\.train_rows is 50; with 66 rows .* 1 to 47$"):  # of the half table
        split_table(SMALL, 0, 0.5, 0.3, pairing="half", train_rows=50)


SAMPLED = Operation("x / y", IntegersMod(97), rows=4000)


OF_A_SAMPLE = [{}, {"pairing": "together"}, {"commutative_fraction": 0.1}, {"commutative_fraction": 0.0}]


def test_mirrored_pairs_of_a_sample() -> None:
    for options in OF_A_SAMPLE:
        split = split_table(SAMPLED, 1, 0.5, 0.3, **options)
        assert split.commutative_fraction == share_with_mirror_in_val(SAMPLED, split)
        if options:
            assert split.commutative_fraction == options.get("commutative_fraction", 0)
        assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(4000))


def test_half_of_a_sample_keeps_its_lower_rows() -> None:
    split = split_table(SAMPLED, 1, 0.5, pairing="half")
    wanted = np.flatnonzero(SAMPLED.operands_NK[:, 0] >= SAMPLED.operands_NK[:, 1])
    assert sorted(np.concatenate([split.train, split.val])) == wanted.tolist()


@pytest.mark.parametrize("modulus", [2, 3, 4, 5])
def test_unbroken_pairs_are_dealt_wherever_it_can_be_done(modulus) -> None:
    """Each part of odd size needs a row without a mirror, of which a table of p * p rows has p."""
    operation = Operation("x + y", IntegersMod(modulus))
    for train in range(1, modulus**2):
        for val in range(1, modulus**2 - train + 1):
            rest = modulus**2 - train - val
            feasible = sum(part % 2 for part in (train, val, rest)) <= modulus
            share = (val + 0.5) / modulus**2 if rest else None  # of which the whole rows count
            if not feasible:
                continue
            split = split_table(operation, 0, 0.5, share, "together", None, train)
            assert [len(part) for part in (split.train, split.val, split.test)] == [train, val, rest]
