"""Clipping of each run's gradient by its norm."""

from collections.abc import Sequence

import torch
from torch import Tensor

from grok_lightning.optim.base import PerRun, check_range, per_run, spread
from grok_lightning.optim.filters import GradientFilter


def clip(gradients: list[Tensor], largest: Tensor) -> None:
    """g <- g min(1, largest / (|g| + 1e-6)) in place, where |g| is each run's norm over all tensors together.

    Source: torch.nn.utils.clip_grad_norm_. What we changed: each run of a stack has its own norm.

    Args:
        gradients: g, tensors that lead with R.
        largest: The largest norm; shape (R,), or (1,) for one number for all runs.
    """
    norms = [torch.linalg.vector_norm(part.reshape(len(part), -1), dim=1) for part in gradients]
    # runs first: sums down a column round differently from stack to stack
    factors = largest / (torch.linalg.vector_norm(torch.stack(norms, dim=1), dim=1) + 1e-6)
    factors.clamp_(max=1)
    torch._foreach_mul_(gradients, [spread(factors, gradient) for gradient in gradients])


class Clip(GradientFilter):
    """Scales down a run's gradient, all parameters together, where its norm is above a limit.

    Args:
        norm: Largest norm of the gradient. One number, or one for each run.

    Raises:
        UserError: If a number is out of range.
    """

    capturable = True

    def __init__(self, norm: float | list[float] = 1.0) -> None:
        check_range("model.filters: Clip.norm", norm, above=True)  # not 0, which elsewhere means no clipping
        self.norm = norm

    @property
    def hyperparameters(self) -> dict[str, PerRun]:
        return {"norm": self.norm}

    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        changed = list(gradients.values())
        clip(changed, per_run(self.norm, changed[0]))
        return gradients
