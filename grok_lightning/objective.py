"""Losses and accuracy over the positions that count."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from grok_lightning.batch import NOTHING_TO_ANSWER

LossName = Literal["cross_entropy", "stablemax", "mse"]


class Score(NamedTuple):
    """Sums over the equations of a batch, run by run, each of shape (R,).

    Attributes:
        loss: Sum of the equations' losses, each the mean over its tokens that count.
        correct: Number of equations whose whole answer is right, int64.
        equations: Number of equations, int64.
    """

    loss: Tensor
    correct: Tensor
    equations: Tensor


def cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """-log softmax(logits)[target] in nats, shape (N,); 0 where the target is -100."""
    return torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none", ignore_index=NOTHING_TO_ANSWER)


def log_stablemax_numerators(logits: Tensor) -> Tensor:
    """log s(x), with s(x) = x + 1 for x >= 0 and 1 / (1 - x) below: the replacement of x in a softmax."""
    return torch.where(logits >= 0, logits.clamp(min=0).log1p(), -((-logits).clamp(min=0).log1p()))


def stablemax(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy with s(x) in place of exp(x), in nats, shape (N,); 0 where the target is -100.

    -log(s(x_target) / sum s(x)). It grows with the logarithm of the logits, so rounding does not reduce it to 0 as soon
    as softmax. Source: Prieto et al., arXiv 2501.04697; computed here in logarithms.
    """
    logs = log_stablemax_numerators(logits_NV)
    chosen = logs.gather(-1, targets_N.clamp(min=0)[:, None])[:, 0]
    return (logs.logsumexp(-1) - chosen).masked_fill(targets_N == NOTHING_TO_ANSWER, 0)


def squared_error(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Mean over the vocabulary of (logits - one-hot answer)^2, shape (N,); 0 where the target is -100.

    Source: Gromov, arXiv 2301.02679.
    """
    answers = torch.nn.functional.one_hot(targets_N.clamp(min=0), logits_NV.shape[-1]).to(logits_NV.dtype)
    return (logits_NV - answers).square().mean(-1).masked_fill(targets_N == NOTHING_TO_ANSWER, 0)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "stablemax": stablemax,
    "mse": squared_error,
}


def token_losses(
    logits_RBAV: Tensor, targets_RBA: Tensor, loss: LossName = "cross_entropy", double: bool = False
) -> Tensor:
    """The loss at each token, shape (R, B, A), in float32 or better, float64 if asked; 0 where the target is -100."""
    logits = logits_RBAV.double() if double or logits_RBAV.dtype == torch.float64 else logits_RBAV.float()
    return LOSSES[loss](logits.flatten(0, 2), targets_RBA.flatten()).view(targets_RBA.shape)


def equation_losses(
    logits_RBAV: Tensor, targets_RBA: Tensor, loss: LossName = "cross_entropy", double: bool = False
) -> Tensor:
    """Each equation's mean loss over its tokens that count, shape (R, B); 0 where there is none."""
    losses_RBA = token_losses(logits_RBAV, targets_RBA, loss, double)
    if targets_RBA.shape[-1] == 1:
        return losses_RBA[..., 0]
    return losses_RBA.sum(-1) / (targets_RBA != NOTHING_TO_ANSWER).sum(-1).clamp(min=1)


def equation_targets(tokens_RBT: Tensor, targets_RBA: Tensor, masked: int = 0) -> Tensor:
    """Targets of all T positions, shape (R, B, T): the next token, at the last A positions the answer's.

    Args:
        tokens_RBT: Input tokens; -1 at padding, which predicts nothing and is predicted by nothing.
        targets_RBA: The answer's tokens; -100 where there is none.
        masked: Number of an equation's first predictions that do not count.
    """
    real = tokens_RBT >= 0
    asked = tokens_RBT.shape[-1] - targets_RBA.shape[-1]
    following = tokens_RBT[..., 1 : asked + 1].masked_fill(~real[..., 1 : asked + 1], NOTHING_TO_ANSWER)
    # rows that a run of the stack does not have carry -100 throughout their answer
    following = following.masked_fill((targets_RBA == NOTHING_TO_ANSWER).all(-1, keepdim=True), NOTHING_TO_ANSWER)
    targets = torch.cat([following, targets_RBA], dim=-1)
    place = real.long().cumsum(-1) - 1
    return targets.masked_fill(~real | (place < masked), NOTHING_TO_ANSWER)


class RowScores(NamedTuple):
    """Losses and answers of a batch's equations, of shape (R, B).

    Attributes:
        losses: Each equation's loss, the mean over its tokens that count; 0 where there is none.
        right: Whether its whole answer is right; false where nothing of it counts.
        counted: Whether anything of its answer counts.
        predictions: The tokens with the highest logits at the answer's positions, (R, B, A).
    """

    losses: Tensor
    right: Tensor
    counted: Tensor
    predictions: Tensor


def row_scores(
    logits_RBAV: Tensor,
    targets_RBA: Tensor,
    loss: LossName = "cross_entropy",
    answer_length: int | None = None,
    double: bool = False,
) -> RowScores:
    """Loss and rightness of each equation; targets of -100 do not count.

    Args:
        logits_RBAV: Logits.
        targets_RBA: The targets.
        loss: Name of the loss.
        answer_length: Number of last positions that are the answer, which alone is right or wrong; default: all.
        double: Whether the loss is computed in float64 whatever the logits are.
    """
    answer = targets_RBA[..., -(answer_length or targets_RBA.shape[-1]) :]
    counted = answer != NOTHING_TO_ANSWER
    predictions = logits_RBAV[..., -answer.shape[-1] :, :].argmax(-1)
    right = (predictions == answer) | ~counted
    present = counted.any(-1)
    losses = equation_losses(logits_RBAV, targets_RBA, loss, double)
    return RowScores(losses, right.all(-1) & present, present, predictions)


def probabilities(logits: Tensor, loss: LossName) -> Tensor:
    """The probabilities that a model trained with a loss gives: stablemax, or softmax (for mse a mere scale)."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return (log_stablemax_numerators(logits) if loss == "stablemax" else logits).softmax(-1)
