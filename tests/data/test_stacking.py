"""A run whose neighbors have other formulas and fractions sees what it would see alone."""

import itertools

import numpy as np
import pytest
import torch

from grok_lightning.data import ModularArithmeticDataModule, PermutationDataModule, SignedRemaindersDataModule
from grok_lightning.data.batches import Chunks
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.operation import Operation, find_mirrors
from grok_lightning.data.stacking import unite_tables
from grok_lightning.errors import UserError

CPU = torch.device("cpu")
FOUR = ["x / y", "x + y", "x - y", "x * y"]
SYMMETRIC = ["x + y", "x - y", "x * y", "x / y"]
OPTIONS = {
    "formulas": {"formula": FOUR},
    "one formula several times": {"formula": ["x + y", "x / y", "x + y", "x / y"]},
    "modulo 7": {"formula": FOUR, "modulus": 7},
    "branches": {"formula": ["x / y if y % 2 else x - y", "x / (y + 1)", "x / (x - y)", "x**2 * y"]},
    "fractions": {"formula": FOUR, "train_fraction": [0.3, 0.7, 0.5, 0.4], "val_fraction": [0.2, 0.3, 0.5, 0.1]},
    "counts": {"formula": FOUR, "train_rows": [20, 70, 30, 50], "split_seed": [3, 3, 1, 1]},
    "pairs together": {"formula": SYMMETRIC, "pairing": "together", "train_rows": [49, 51, 55, 50]},
    "halves": {"formula": SYMMETRIC, "pairing": "half"},
    "pairs apart": {"formula": SYMMETRIC, "commutative_fraction": [0.0, 0.3, 0.5, 0.2]},
    "pairs apart of one formula": {"commutative_fraction": [0.0, 0.3, 0.5, 0.2], "val_fraction": [0.3, 0.5, 0.4, 0.3]},
    "copied noise": {"formula": FOUR, "answer_noise": 0.4},
    "uniform noise": {"formula": FOUR, "answer_noise": 30, "answer_noise_kind": "uniform"},
    "samples": {"formula": FOUR, "rows": 60, "rows_seed": 5},
    "more operands": {"formula": ["x / z", "x + y", "x - y * z", "x"], "operands": 3, "modulus": 5},
    "characters": {"formula": FOUR, "tokenizer": "characters"},
    "noisy characters": {"formula": FOUR, "tokenizer": "characters", "answer_noise": 0.4},
    "no signs": {"formula": FOUR, "operator_token": False, "equals_token": False},
}
SEEDS = [[7, 0, 2, 2], [1, 1, 1, 1]]


def stack_and_singles(options, seeds, kind=ModularArithmeticDataModule):
    shared = {"batch_size": 16} | ({"modulus": 11} if kind is ModularArithmeticDataModule else {})
    stack = kind(**shared | options, seeds=seeds)
    singles = [
        kind(**shared | {n: v[run] if isinstance(v, list) else v for n, v in options.items()}, seeds=[seed])
        for run, seed in enumerate(seeds)
    ]
    return stack, singles


def assert_sees_the_same(stack, run, single):
    def equal(one, other):
        assert torch.equal(one.tokens_RBT[run], other.tokens_RBT[0])
        assert torch.equal(one.targets_RBA[run], other.targets_RBA[0])
        operands = [data.operands_NK[part] for data, part in ((stack, one.rows_RB[run]), (single, other.rows_RB[0]))]
        assert np.array_equal(*operands)
        if one.beginnings is not None:
            shared, own = one.beginnings, other.beginnings
            assert torch.equal(shared.tokens_PS[shared.index_RB[run]], own.tokens_PS[own.index_RB[0]])

    for step in range(12):
        equal(stack.training_batch(step, CPU), single.training_batch(step, CPU))
    for split in ("train", "val", "test"):
        (count,) = single.counts(split)
        assert stack.counts(split)[run] == count
        for chunk in Chunks(split, count, 10):
            equal(stack.chunk(chunk, CPU), single.chunk(chunk, CPU))
        for chunk in Chunks(split, max(stack.counts(split)), 10):
            whole, past = stack.chunk(chunk, CPU), torch.arange(chunk.start, chunk.stop) >= count
            assert torch.equal(whole.rows_RB[run] == -1, past)
            assert torch.equal(whole.targets_RBA[run, :, 0] == -100, past)
    assert stack.splits[run].commutative_fraction == single.splits[0].commutative_fraction
    assert (stack.vocabulary_size, stack.length) == (single.vocabulary_size, single.length)
    assert stack.operations[run % len(stack.operations)].formula.text == single.operation.formula.text


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_run_sees_what_its_single_run_sees(options) -> None:
    for seeds in SEEDS:
        stack, singles = stack_and_singles(options, seeds)
        for run, single in enumerate(singles):
            assert_sees_the_same(stack, run, single)


def test_so_do_runs_over_permutations() -> None:
    stack, singles = stack_and_singles(
        {"formula": ["x * y", "x * y * x**-1", "y * x"], "degree": 4, "answer_noise": 9},
        [0, 1, 2],
        PermutationDataModule,
    )
    for run, single in enumerate(singles):
        assert_sees_the_same(stack, run, single)


def test_so_does_a_run_that_needs_no_padding_beside_one_that_does() -> None:
    options = {"formula": ["x - x - y // y", "x - 2*y"], "modulus": 7, "tokenizer": "characters"}
    stack, singles = stack_and_singles(options, [0, 1], SignedRemaindersDataModule)
    assert [stack.padded, *(single.padded for single in singles)] == [True, False, True]
    for run, single in enumerate(singles):
        assert_sees_the_same(stack, run, single)


def test_prompts_and_beginnings_stay_common_to_all_runs() -> None:
    stack, _ = stack_and_singles({"formula": FOUR}, SEEDS[0])
    rows = stack.rows()
    assert rows.prompts_NT.shape == (121, 4)
    assert rows.answers_XNA.shape == (4, 121, 1)
    assert rows.beginnings_PS.shape == (11, 2)
    assert ((rows.answers_XNA >= 0) & (rows.answers_XNA < 11)).all()


def test_a_list_of_one_formula_is_that_formula() -> None:
    plain, listed = (
        ModularArithmeticDataModule(formula, modulus=11, batch_size=16, seeds=[4, 9], train_fraction=[0.3, 0.6])
        for formula in ("x / y", ["x / y", "x / y"])
    )
    assert len(plain.operations) == len(listed.operations) == 1
    assert plain.operations[0] is plain.operation
    assert plain.operands_NK is plain.operation.operands_NK
    assert len(plain.operands_NK) == 110
    assert plain.answers_XN.shape == (1, 110)
    for one, other in zip(plain.splits, listed.splits, strict=True):
        assert all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("train", "val", "test"))
    for step in range(5):
        one, other = (data.training_batch(step, CPU) for data in (plain, listed))
        assert all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("rows_RB", "tokens_RBT", "targets_RBA"))


def test_a_union_has_every_row_of_every_table_once() -> None:
    tables = [Operation(formula, IntegersMod(5)) for formula in ("x / y", "y / x", "x / (x - y)")]
    operands_NK, places = unite_tables([*tables, tables[0]])
    every = {tuple(row) for table in tables for row in table.operands_NK.tolist()}
    assert [tuple(row) for row in operands_NK.tolist()] == sorted(every)
    assert every == set(itertools.product(range(5), repeat=2)) - {(0, 0)}
    for table, place in zip([*tables, tables[0]], places, strict=True):
        assert np.array_equal(operands_NK[place], table.operands_NK)


def test_mirrors_are_found_among_all_rows() -> None:
    stack, _ = stack_and_singles({"formula": FOUR}, SEEDS[0])
    place = find_mirrors(stack.operands_NK, stack.operation.algebra.size)
    assert np.array_equal(stack.operands_NK[place], stack.operands_NK[:, ::-1])


def test_rows_are_described_by_the_first_runs_formula() -> None:
    stack, singles = stack_and_singles({"formula": FOUR, "answer_noise": 30}, SEEDS[0])
    batch, own = stack.training_batch(0, CPU), singles[0].training_batch(0, CPU)
    for row, alone in zip(batch.rows_RB[0].tolist(), own.rows_RB[0].tolist(), strict=True):
        x, y, answer = map(int, stack.describe(row))
        assert stack.describe(row) == singles[0].describe(alone)
        assert answer * y % 11 == x


APART = [
    ({"formula": ["x + y", "x**2"]}, r"'x \+ y' and 'x\*\*2' .* vocabulary size, 13 and 12"),
    ({"formula": ["x + y", "x + y + z"]}, "input length, 4 and 6"),
    ({"formula": ["x + y", "x**2"], "operator_token": False}, "input length, 3 and 2"),
    ({"formula": ["x + y", "x * 0 + y * 0"], "tokenizer": "characters"}, "answer length, 3 and 2"),
    ({"formula": ["x + y"]}, "1 values for a stack of 2 runs"),
    ({"formula": ["x + y", "x / y"], "batch_size": "full"}, "differ in training rows"),
    ({"formula": ["x + y", "x / y"], "batch_size": "paper"}, "differ in training rows"),
    ({"val_fraction": [0.1, 0.2, 0.3]}, "val_fraction has 3 values"),
    ({"val_fraction": [0.1, 0.7]}, "val_fraction is 0.7"),
    ({"commutative_fraction": [0.5]}, "commutative_fraction has 1 values"),
    ({"commutative_fraction": [0.5, 1.5]}, "commutative_fraction is 1.5"),
]


def test_what_cannot_be_one_stack_is_refused() -> None:
    for options, wanted in APART:
        with pytest.raises(UserError, match=rf"^data\..*{wanted}") as caught:
            ModularArithmeticDataModule(**({"modulus": 11, "seeds": [0, 1]} | options))
        assert "\n" not in str(caught.value)
