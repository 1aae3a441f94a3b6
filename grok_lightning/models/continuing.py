"""Answers of several tokens, each predicted after the network's own."""

import torch
from torch import Tensor

from grok_lightning.models.base import SequenceModel


def continue_rows(network: SequenceModel, tokens_RBT: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Continues rows by the most probable token, one after the other.

    Args:
        network: The stack, R runs.
        tokens_RBT: The rows so far, int64.
        count: A, by how many tokens; a network that is not causal can add one.

    Returns:
        The tokens added, int64, shape (R, B, A), and the logits that each is the highest of, (R, B, A, V).
    """
    tokens, logits = tokens_RBT, list[Tensor]()
    for _ in range(count):
        logits.append(network(tokens, 1)[:, :, -1])
        tokens = torch.cat([tokens, logits[-1].argmax(-1, keepdim=True)], dim=-1)
    return tokens[..., tokens_RBT.shape[-1] :], torch.stack(logits, dim=2)


def until_end(tokens_A: Tensor, end: int | None) -> Tensor:
    """Which tokens of answers, shape (..., A), belong to them: up to the first end mark, with it."""
    ends = tokens_A == (-1 if end is None else end)
    return ends.cumsum(-1) - ends.long() == 0
