"""Loss and accuracy count what is to be answered, and nothing else."""

import itertools
import math

import pytest
import torch
from scoring import score
from torch.nn.functional import cross_entropy

from grok_lightning.objective import equation_losses, equation_targets, probabilities, token_losses


def random_answers(runs=3, batch=7, answers=2, vocabulary=5):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(runs, batch, answers, vocabulary, dtype=torch.float64, generator=generator)
    return logits, torch.randint(vocabulary, (runs, batch, answers), generator=generator)


def test_each_run_sums_its_equations_mean_losses() -> None:
    logits, targets = random_answers()
    found = score(logits, targets)
    for run in range(3):
        by_hand = [cross_entropy(logits[run, row], targets[run, row]) for row in range(7)]
        torch.testing.assert_close(found.loss[run], torch.stack(by_hand).sum(), rtol=1e-12, atol=0)
        torch.testing.assert_close(equation_losses(logits, targets)[run], torch.stack(by_hand), rtol=1e-12, atol=0)
    assert found.loss.shape == found.correct.shape == found.equations.shape == (3,)
    assert found.equations.tolist() == [7, 7, 7]
    assert found.correct.dtype == found.equations.dtype == torch.int64


def test_an_answer_counts_only_when_whole() -> None:
    targets = torch.tensor([[[1, 2], [1, 2], [1, 2], [1, 2]]])
    predictions = torch.tensor([[[1, 2], [1, 0], [0, 2], [0, 0]]])
    logits = torch.nn.functional.one_hot(predictions, 3).double()
    assert score(logits, targets).correct.tolist() == [1]


@pytest.mark.parametrize("answers", [1, 2])
def test_rows_without_an_answer_do_not_count(answers) -> None:
    logits, targets = random_answers(answers=answers)
    present = torch.rand(3, 7, generator=torch.Generator().manual_seed(1)) < 0.6
    found = score(logits, targets.masked_fill(~present[..., None], -100))
    for run in range(3):
        alone = score(logits[run : run + 1, present[run]], targets[run : run + 1, present[run]])
        torch.testing.assert_close(found.loss[run], alone.loss[0], rtol=1e-12, atol=0)
        assert (found.correct[run], found.equations[run]) == (alone.correct[0], alone.equations[0])


def test_a_run_without_any_row_scores_zero() -> None:
    logits, targets = random_answers()
    targets[1] = -100
    found = score(logits, targets)
    assert (found.loss[1], found.correct[1], found.equations[1]) == (0, 0, 0)


def test_answers_may_be_shorter_than_the_longest() -> None:
    logits, targets = random_answers(runs=1, batch=1, answers=3)
    targets[0, 0, 2] = -100
    logits[0, 0, :2].scatter_(1, targets[0, 0, :2, None], 50.0)
    found = score(logits, targets)
    expected = cross_entropy(logits[0, 0, :2], targets[0, 0, :2])
    torch.testing.assert_close(found.loss[0], expected)
    assert (found.correct.item(), found.equations.item()) == (1, 1)


def test_losses_are_computed_in_single_precision_or_better() -> None:
    logits, targets = random_answers()
    for dtype, expected in (
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        losses = token_losses(logits.to(dtype), targets)
        assert losses.dtype == expected
        wanted = cross_entropy(logits.to(dtype).to(expected).flatten(0, 2), targets.flatten(), reduction="none")
        assert torch.equal(losses.flatten(), wanted)


def test_a_run_that_is_not_finite_spoils_no_other() -> None:
    logits, targets = random_answers()
    logits.requires_grad_()
    factor = torch.tensor([1.0, torch.nan, 1.0])[:, None, None, None]
    spoiled = score(logits * factor, targets)
    clean = score(logits.detach(), targets)
    spoiled.loss.sum().backward()
    assert spoiled.loss.isnan().tolist() == [False, True, False]
    assert torch.equal(spoiled.loss[[0, 2]], clean.loss[[0, 2]])
    assert logits.grad[[0, 2]].isfinite().all()


def stablemax_by_hand(logits, target):
    """-log(s(x_target) / sum s(x)), s(x) = x + 1 from 0 on and 1 / (1 - x) below, in plain numbers."""
    numerators = [x + 1 if x >= 0 else 1 / (1 - x) for x in logits.tolist()]
    return -math.log(numerators[target] / sum(numerators))


def test_stablemax_is_its_formula() -> None:
    logits, targets = random_answers(runs=2, answers=3)
    found = token_losses(10 * logits, targets, "stablemax")
    for place in itertools.product(range(2), range(7), range(3)):
        assert float(found[place]) == pytest.approx(
            stablemax_by_hand(10 * logits[place], int(targets[place])), rel=1e-12
        )
    chosen = probabilities(logits, "stablemax").gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(-chosen.log(), token_losses(logits, targets, "stablemax"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e4])
def test_stablemax_has_the_gradient_of_its_formula(size) -> None:
    logits, targets = random_answers(runs=1, batch=2)
    logits = (size * logits).requires_grad_()
    token_losses(logits, targets, "stablemax").sum().backward()
    x = logits.detach()
    slope = 1 / (1 + x.abs())  # of log s(x), on both sides of 0
    expected = slope * (probabilities(x, "stablemax") - torch.nn.functional.one_hot(targets, 5))
    torch.testing.assert_close(logits.grad, expected, rtol=1e-9, atol=1e-15)


def test_stablemax_still_has_a_loss_where_softmax_has_none() -> None:
    logits = torch.zeros(1, 1, 1, 5)
    logits[..., 2] = 200
    target = torch.full((1, 1, 1), 2)
    assert token_losses(logits, target).item() == 0
    assert token_losses(logits, target, "stablemax").item() == pytest.approx(math.log(205 / 201), rel=1e-4)


def test_squared_error_is_torchs_on_one_hot_answers() -> None:
    logits, targets = random_answers()
    answers = torch.nn.functional.one_hot(targets, 5).double()
    expected = torch.nn.functional.mse_loss(logits, answers, reduction="none").mean(-1)
    torch.testing.assert_close(token_losses(logits, targets, "mse"), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", ["cross_entropy", "stablemax", "mse"])
def test_positions_that_do_not_count_have_no_loss_and_no_gradient(loss) -> None:
    logits, targets = random_answers()
    logits.requires_grad_()
    targets[:, 2:5, 1] = -100
    losses = token_losses(logits, targets, loss)
    assert (losses[:, 2:5, 1] == 0).all()
    losses.sum().backward()
    assert (logits.grad[:, 2:5, 1] == 0).all()
    assert (logits.grad[:, :2] != 0).any()


def test_every_position_of_an_equation_predicts_the_token_after_it() -> None:
    tokens = torch.tensor([[[4, 7, 5, 8, 1], [-1, 4, 7, 8, 2]]])  # two answer tokens, the first of them an input
    targets = torch.tensor([[[1, 3], [2, -100]]])
    found = equation_targets(tokens, targets)
    assert found.tolist() == [[[7, 5, 8, 1, 3], [-100, 7, 8, 2, -100]]]
    assert equation_targets(tokens, targets, 2).tolist() == [[[-100, -100, 8, 1, 3], [-100, -100, -100, 2, -100]]]
    assert equation_targets(tokens, targets.masked_fill(targets == 1, -100))[0, 0].tolist() == [7, 5, 8, -100, 3]


def test_a_row_without_an_answer_counts_nowhere_in_its_equation() -> None:
    tokens, targets = torch.tensor([[[4, 7, 5, 8]]]), torch.tensor([[[-100]]])
    assert equation_targets(tokens, targets).eq(-100).all()


def test_only_the_answer_is_right_or_wrong_where_the_whole_equation_has_a_loss() -> None:
    targets = torch.tensor([[[0, 1, 2], [0, 1, 2]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 0, 2], [0, 1, 1]]]), 3).double()
    assert score(logits, targets, "cross_entropy", 1).correct.tolist() == [1]
    assert score(logits, targets).correct.tolist() == [0]
    torch.testing.assert_close(score(logits, targets, "mse", 1).loss, torch.tensor([4 / 9]).double())


def test_a_loss_in_64_bits_does_not_round_to_zero() -> None:
    logits = torch.zeros(1, 1, 1, 5)
    logits[..., 2] = 25
    target = torch.full((1, 1, 1), 2)
    assert score(logits, target).loss.item() == 0
    exact = score(logits, target, double=True).loss.item()
    assert exact == pytest.approx(math.log1p(4 * math.exp(-25)), rel=1e-4)
