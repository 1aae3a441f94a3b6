"""Noise falls on exactly the training rows it was asked for."""

import itertools

import numpy as np
import pytest
import torch

from grok_lightning.data import ModularArithmeticDataModule, SignedRemaindersDataModule
from grok_lightning.data.batches import Chunks
from grok_lightning.data.noise import add_answer_noise, count_noisy_rows
from grok_lightning.errors import UserError

CPU = torch.device("cpu")
KINDS = ("copied", "uniform")


def shown(data, split, run=0):
    """The answers that a run is shown: row to element number."""
    batches = [data.chunk(chunk, CPU) for chunk in Chunks(split, max(data.counts(split)), 64)]
    rows = torch.cat([batch.rows_RB for batch in batches], dim=1)
    targets = torch.cat([batch.targets_RBA for batch in batches], dim=1)
    known = rows[run] >= 0
    return dict(zip(rows[run, known].tolist(), targets[run, known, 0].tolist(), strict=True))


COUNTS = [
    (0, 60, 0),
    (1, 60, 1),
    (60, 60, 60),
    (0.5, 61, 30),
    (0.7, 10, 7),
    (0.29, 100, 29),
    (0.999, 100, 99),
    (0.0, 9, 0),
]


def test_counts_are_exact() -> None:
    for amount, rows, expected in COUNTS:
        assert count_noisy_rows(amount, rows) == expected


def test_amounts_out_of_range_are_refused() -> None:
    for amount in (-1, 61, 1.0, 1.5, -0.1, 60.0, float("nan"), float("inf"), 0.01):
        with pytest.raises(UserError, match=r"^data\.answer_noise is .*$") as caught:
            ModularArithmeticDataModule(modulus=11, answer_noise=amount)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"pairing": "together"}, {"pairing": "half"}, {"val_fraction": 0.2}])
def test_only_the_first_training_rows_change(options) -> None:
    for kind in KINDS:
        for amount in (1, 40, 0.5):
            data = ModularArithmeticDataModule(
                modulus=23, seeds=[3], answer_noise=amount, answer_noise_kind=kind, **options
            )
            (split,) = data.splits
            count = amount if isinstance(amount, int) else len(split.train) // 2
            truth = (data.operation.operands_NK.sum(axis=1) % 23).tolist()
            assert data.operation.results_N.tolist() == truth
            train = shown(data, "train")
            assert sorted(train) == sorted(split.train.tolist())
            changed = {row for row, answer in train.items() if answer != truth[row]}
            assert changed <= set(split.train[:count].tolist())
            if count > 1:
                assert len(changed) > 0.8 * count
            for part in ("val", "test"):
                if data.counts(part)[0]:
                    assert all(answer == truth[row] for row, answer in shown(data, part).items())


def test_training_batches_show_the_noise() -> None:
    data = ModularArithmeticDataModule(modulus=23, seeds=[3, 4], answer_noise=100, batch_size="full")
    batch = data.training_batch(5, CPU)
    for run in (0, 1):
        seen = dict(zip(batch.rows_RB[run].tolist(), batch.targets_RBA[run, :, 0].tolist(), strict=True))
        assert seen == shown(data, "train", run)


def test_a_stack_has_the_noise_of_its_single_runs() -> None:
    for kind in KINDS:
        options = {"modulus": 11, "answer_noise": 0.5, "answer_noise_kind": kind}
        stack = ModularArithmeticDataModule(seeds=[4, 9], train_fraction=[0.3, 0.6], **options)
        for run, (seed, fraction) in enumerate([(4, 0.3), (9, 0.6)]):
            single = ModularArithmeticDataModule(seeds=[seed], train_fraction=fraction, **options)
            for split in ("train", "val"):
                assert shown(stack, split, run) == shown(single, split)


def test_answers_of_several_characters_are_shown_as_they_are_asked() -> None:
    options = {"modulus": 11, "answer_noise": 0.9, "tokenizer": "characters", "batch_size": "full"}
    stack = ModularArithmeticDataModule(seeds=[4, 9], **options).training_batch(0, CPU)
    for run, seed in enumerate([4, 9]):
        single = ModularArithmeticDataModule(seeds=[seed], **options).training_batch(0, CPU)
        for name in ("tokens_RBT", "targets_RBA"):
            whole = getattr(stack, name)
            assert torch.equal(whole.expand(2, *whole.shape[1:])[run], getattr(single, name)[0])
        shown_before = single.tokens_RBT[0, :, -2:]  # an answer's tokens but the last, beside what is to be answered
        asked = single.targets_RBA[0, :, :-1]
        assert torch.equal(shown_before[asked >= 0], asked[asked >= 0])


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_a_function_of_the_split_seed(kind) -> None:
    def answers(**seeds):
        return ModularArithmeticDataModule(modulus=23, answer_noise=200, answer_noise_kind=kind, **seeds).answers_XN

    assert np.array_equal(answers(seeds=[1]), answers(seeds=[2], split_seed=1))
    assert not np.array_equal(answers(seeds=[1]), answers(seeds=[2]))
    rows, results = np.arange(529), ModularArithmeticDataModule(modulus=23).operation.results_N
    one, other = (add_answer_noise(results, rows, seed, 529, kind) for seed in (1, 2))
    assert np.mean(one == other) < 0.15  # on the same rows, other answers


def test_copied_answers_follow_the_table_and_uniform_ones_do_not() -> None:
    results = np.repeat([3, 8, 5], [9000, 900, 100])  # very uneven
    rows = np.arange(10_000)
    copied, uniform = (add_answer_noise(results, rows, 0, 10_000, kind) for kind in KINDS)
    for noisy, shares in ((copied, {3: 0.9, 8: 0.09, 5: 0.01}), (uniform, {3: 1 / 3, 8: 1 / 3, 5: 1 / 3})):
        assert set(noisy.tolist()) <= set(shares)
        for answer, share in shares.items():
            assert np.mean(noisy == answer) == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 10_000))


def test_uniform_noise_draws_answers_that_occur() -> None:
    data = SignedRemaindersDataModule("x + y", modulus=11, answer_noise=60, answer_noise_kind="uniform")
    names = data.operation.algebra.names
    assert {int(names[answer]) for answer in data.answers_XN.flat} <= set(range(11))  # sums of 1..11 have no sign


def test_without_noise_all_runs_share_one_table_of_answers() -> None:
    for none in (0, 0.0):
        data = ModularArithmeticDataModule(modulus=11, seeds=[0, 1], answer_noise=none)
        assert data.rows().answers_XNA.shape == (1, 121, 1)
    noisy = ModularArithmeticDataModule(modulus=11, seeds=[0, 1], answer_noise=1)
    assert noisy.rows().answers_XNA.shape == (2, 121, 1)


def test_a_part_of_the_answers_stays_right_by_chance() -> None:
    results = np.tile(np.arange(2), 5000)
    for kind, seed in itertools.product(KINDS, range(3)):
        noisy = add_answer_noise(results, np.arange(10_000), seed, 10_000, kind)
        assert np.mean(noisy == results) == pytest.approx(0.5, abs=0.03)
