"""Whether a stack of ordinary modules computes what its runs compute one by one."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grok_lightning.batch import Draw
from grok_lightning.errors import UserError
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.randomness import seeded


def find_obstacle(
    build: Callable[[Sequence[int]], ModuleStack], tokens_BT: Tensor, answer_length: int, seeds: Sequence[int] = (0, 1)
) -> str | None:
    """Why runs of a network cannot be trained as one stack; None if they can.

    Networks are built for each seed alone and for all of them, and their logits, gradients and buffers are compared.

    Args:
        build: Builds the network of some seeds.
        tokens_BT: Some rows of input tokens.
        answer_length: A, the positions from the last whose logits are used.
        seeds: Seeds.
    """
    if any(_draws_numbers(build(seeds[:1]), tokens_BT, training) for training in (True, False)):
        return "it draws random numbers"
    singles = [_compute(build([seed]), tokens_BT, answer_length) for seed in seeds]
    try:
        stacked = _compute(build(seeds), tokens_BT, answer_length)
    except UserError as error:
        return str(error).rpartition(": ")[2].partition(";")[0]
    except Exception as error:  # of torch.func, of many kinds; the network alone has just been called
        return f"torch.func.vmap does not take it ({' '.join(str(error).split())[:80]}...)"
    for name, part in stacked.items():
        for run, single in enumerate(singles):
            if not torch.allclose(part[run].double(), single[name][0].double(), 1e-3, 1e-4, equal_nan=True):
                return f"its {name} are others in a stack"
    return None


@torch.no_grad()
def _draws_numbers(network: ModuleStack, tokens_BT: Tensor, training: bool) -> bool:
    """Whether a forward pass moves a global generator."""

    def states() -> list[Any]:
        numpy: Any = np.random.get_state()
        return [torch.get_rng_state().tolist(), numpy[1].tolist(), numpy[2:], random.getstate()]

    network.module.train(training)
    with seeded(0, "trial"):
        before = states()
        network.compute(tokens_BT[None], training)
        return states() != before


def _compute(network: ModuleStack, tokens_BT: Tensor, answer_length: int) -> dict[str, Tensor]:
    """Logits of evaluation and training, gradients, and buffers afterwards, each led by R."""
    runs = len(network.seeds)
    tokens_RBT = tokens_BT.expand(runs, -1, -1)
    with torch.no_grad():
        evaluated = network(tokens_RBT, answer_length)
    trained = network(tokens_RBT, answer_length, Draw(torch.zeros((), dtype=torch.int64)))
    named = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    weight = torch.linspace(-1, 1, trained[0].numel()).view(trained.shape[1:])  # of each logit in what is derived
    gradients = torch.autograd.grad((trained * weight).sum(), list(named.values()), allow_unused=True)
    found = {"logits": evaluated, "training logits": trained.detach()}
    for name, gradient in zip(named, gradients, strict=True):
        found[f"gradients of {name}"] = torch.zeros(runs, 1) if gradient is None else gradient
    return found | {f"buffers {name}": buffer for name, buffer in network.named_buffers()}
