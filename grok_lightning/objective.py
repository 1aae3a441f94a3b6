"""Loss and accuracy over the positions that count. Nothing else."""

from typing import NamedTuple

import torch
from torch import Tensor

NOTHING_TO_ANSWER = -100


class Score(NamedTuple):
    """Sums over the equations of a batch, run by run, each of shape (R,).

    Attributes:
        loss: Sum of the equations' losses in nats, each the mean over its answer tokens.
        correct: Number of equations whose whole answer is right, int64.
        equations: Number of equations, int64.
    """

    loss: Tensor
    correct: Tensor
    equations: Tensor


def token_losses(logits_RBAV: Tensor, targets_RBA: Tensor) -> Tensor:
    """Cross-entropy at each answer token in nats, shape (R, B, A), in float32 or better; 0 where there is none."""
    logits = logits_RBAV if logits_RBAV.dtype == torch.float64 else logits_RBAV.float()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 2), targets_RBA.flatten(), reduction="none", ignore_index=NOTHING_TO_ANSWER
    )
    return losses.view(targets_RBA.shape)


def equation_losses(logits_RBAV: Tensor, targets_RBA: Tensor) -> Tensor:
    """Each equation's mean loss over its answer tokens, shape (R, B); 0 where there is nothing to answer."""
    tokens = (targets_RBA != NOTHING_TO_ANSWER).sum(-1).clamp(min=1)
    return token_losses(logits_RBAV, targets_RBA).sum(-1) / tokens


def score(logits_RBAV: Tensor, targets_RBA: Tensor) -> Score:
    """Sums of loss, of right answers and of equations; targets of -100 do not count."""
    counted = targets_RBA != NOTHING_TO_ANSWER
    right = (logits_RBAV.argmax(-1) == targets_RBA) | ~counted
    present = counted.any(-1)
    losses = equation_losses(logits_RBAV, targets_RBA)
    return Score(losses.double().sum(-1), (right.all(-1) & present).sum(-1), present.sum(-1))
