"""Loss and accuracy count what is to be answered, and nothing else."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from grok_lightning.objective import equation_losses, score, token_losses


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
